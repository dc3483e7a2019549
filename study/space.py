"""The search space: which hyper-parameters are searched, over which ranges, by which sampler."""

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from study.methods import FAMILIES

EDGE_SHARE = 0.05  # a selected value in the outer 5 % of its range is flagged


class Strict(BaseModel):
    """A frozen part of a spec: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchRange(Strict):
    """A closed interval that one hyper-parameter is searched over, on a log or a linear scale."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} and high = {self.high:g} were given; low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} with log = true was given; a log scale needs low > 0")
        return self

    def at(self, unit: float) -> float:
        """Map a position in [0, 1] to a value of the range."""
        if self.log:
            return math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        return self.low + unit * (self.high - self.low)

    def scaled(self, scale: float) -> Self:
        """Return the range with both ends times ``scale``."""
        return self if scale == 1 else self.model_copy(update={"low": self.low * scale, "high": self.high * scale})

    def position(self, value: float) -> float:
        """Map a value of the range to its position in [0, 1]: the inverse of `at`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def at_edge(self, value: float) -> bool:
        """Tell whether ``value`` lies in the outer 5 % of the range, at either end."""
        return not EDGE_SHARE <= self.position(value) <= 1 - EDGE_SHARE


class FamilyRanges(Strict):
    """Ranges of one family's own, in place of the common ones times the family's scale."""

    learning_rate: SearchRange | None = None
    rho: SearchRange | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("learning_rate", "rho"):
            searched: SearchRange | None = getattr(self, name)
            if searched is not None and searched.low <= 0:
                raise ValueError(f"{name}.low = {searched.low:g} was given; it must be above 0")
        return self


class SearchSpace(Strict):
    """What is searched, and how: the same number of trials for every method.

    ``unperturbed_share`` of a perturbed family's proposals have rho = 0, so that the base step lies inside its space.
    """

    sampler: Literal["qmc", "tpe"] = "qmc"
    trials: int = Field(ge=1, le=10_000)
    learning_rate: SearchRange = SearchRange(low=0.01, high=0.5, log=True)
    rho: SearchRange = SearchRange(low=0.02, high=0.8, log=True)
    average_start: SearchRange = SearchRange(low=0.4, high=0.95)
    unperturbed_share: float = Field(default=0.125, ge=0, lt=1)
    of: dict[str, FamilyRanges] = Field(default_factory=dict)

    def range_of(self, name: str, family: str) -> SearchRange:
        """Return the range of ``learning_rate``, ``rho`` or ``average_start`` for a family.

        A range that ``of`` gives for the family wins; otherwise it is the common one times the family's scale.
        """
        own: SearchRange | None = getattr(self.of.get(family), name, None)
        if own is not None:
            return own
        common: SearchRange = getattr(self, name)
        return common.scaled(float(getattr(FAMILIES[family], f"{name}_scale", 1.0)))

    @field_validator("of")
    @classmethod
    def _known_families(cls, of: dict[str, FamilyRanges]) -> dict[str, FamilyRanges]:
        for name in of:
            if name not in FAMILIES:
                raise ValueError(f"{name!r} was given; available are {', '.join(FAMILIES)}")
        return of

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, searched in (("learning_rate", self.learning_rate), ("rho", self.rho)):
            if searched.low <= 0:
                raise ValueError(f"{name}.low = {searched.low:g} was given; it must be above 0")
        start = self.average_start
        if not (start.low > 0 and start.high < 1):
            raise ValueError(
                f"average_start from {start.low:g} to {start.high:g} was given; it must lie between 0 and 1"
            )
        return self
