"""Hypotheses: claims that a study names, with their expected sign, before its first run."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from study.specs.budgets import Budget
from study.specs.factors import FACTORS
from study.specs.space import Strict


class Hypothesis(Strict):
    """A claim that is named, with its expected sign, before the first run.

    Kinds, each about gains under ``budget`` (sign-corrected, method against its baseline):

    - ``gain``: the mean gain of ``method`` over all cells.
    - ``slope``: how the gain of ``method`` moves with the number ``factor``, over cells.
    - ``difference``: gain of ``method`` minus gain of ``other``, over all cells; ``other`` "baseline" is gain 0.
    - ``contrast``: gain of ``method`` at the second value of ``factor`` minus that at the first.
    - ``averaging``: like ``contrast``, for the within-run gain of averaging on ``method``'s trajectory.
    - ``budget``: gain of ``method`` at equal epochs minus that at equal gradient evaluations.
    - ``checkpoint``: gain of ``method`` over the base where both keep their last weights, minus that where both keep
      their best epoch.
    - ``worse``, ``better``: gain of ``method`` minus the smaller, or the larger, of the gains of SWA and SAM.
    - ``sharpness``: log of ``measure`` on ``method``'s weights minus that on ``other``'s.
    - ``barrier``: loss barrier on the line between ``method``'s weights and ``other``'s.
    - ``minimizers``: how the gain of ``method`` moves with the distance between the train and the test minimizer on the
      line from ``other``'s weights to ``method``'s, over cells.

    ``expected``: ``+`` above 0, ``-`` below 0, ``0`` no material difference (within ±δ), ``>=`` not materially below.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    claim: str = Field(min_length=1, max_length=300)
    kind: Literal[
        "gain", "slope", "difference", "contrast", "averaging", "budget", "checkpoint", "worse", "better",
        "sharpness", "barrier", "minimizers",
    ]  # fmt: skip
    method: str
    other: str = ""
    factor: str = ""
    measure: str = "top_eigenvalue"
    budget: Budget = "E"
    expected: Literal["+", "-", "0", ">="]
    source: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        needs_factor = self.kind in ("slope", "contrast", "averaging")
        if needs_factor and self.factor not in FACTORS:
            raise ValueError(
                f"factor = {self.factor!r} was given; kind {self.kind!r} needs one of {', '.join(FACTORS)}"
            )
        if self.kind in ("difference", "sharpness", "barrier", "minimizers") and not self.other:
            raise ValueError(f"other is missing; kind {self.kind!r} compares two methods")
        return self

    def check_study(self, methods: Sequence[str], budgets: Sequence[str], weights: Sequence[str]) -> None:
        """Make sure that a study has what the claim is about.

        Raises:
            ValueError: says what it lacks.
        """
        for name in (self.method, self.other):
            if name not in (*methods, "", "baseline"):
                raise ValueError(f"hypotheses {self.id!r} names {name!r}; the study has {', '.join(methods)}")
        if self.budget not in budgets:
            raise ValueError(f"hypotheses {self.id!r} has budget = {self.budget!r}; the study has {', '.join(budgets)}")
        if self.kind == "checkpoint" and {*weights} != {"last", "best"}:
            raise ValueError(
                f"hypotheses {self.id!r} has kind = 'checkpoint', which holds last weights against the best epoch; the "
                f"study has weights = {list(weights)}"
            )
