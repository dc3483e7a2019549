"""The search space: which hyper-parameters are searched, over which ranges, by which sampler."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from study.records import Family
from study.specs.methods import FAMILIES

NARROWEST = 1e-9  # ends of a range that are nearer, as a share of the upper one, are one value but for its rounding
EDGE_SHARE = 0.05  # a selected value in the outer 5 % of its range is flagged
BATCH = 4  # trials of a batch do not see each other's results, so they can run side by side
LEAST_TPE_TRIALS = 2 * BATCH  # the first batch is drawn at random
REDUCTION = 3  # of the runs that are compared at a rung one in three goes on; the next is at three times the epochs


class Strict(BaseModel):
    """A frozen part of a spec: unknown keys, NaN, infinity, and true for 1, as pydantic takes it, are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_no_switch(cls, value: object, info: ValidationInfo) -> object:
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (wanted, *get_args(wanted)) and not is_frozen(info):
            raise NotAllowed("a number or a text is wanted, neither true nor false")
        return value


def is_frozen(info: ValidationInfo) -> bool:
    """Tell whether what is validated comes from a results folder: it was allowed when its study began."""
    return bool((info.context or {}).get("frozen"))


def added_later(default: object, **limits: Any) -> Any:
    """Return the field of a key that specs did not have from the beginning.

    Specs outlive the code that wrote them, and a folder's spec is recognised by its hash. So a key that is added to a
    spec, whatever its part, is declared with this: while it stands at its default it is left out of every dump and
    with that out of the hash, and the specs that were frozen before there was such a key keep theirs.
    """
    return Field(default=default, **limits, exclude_if=lambda value: bool(value == default))


class NotAllowed(ValueError):
    """A key's value that is not allowed; the message says what is, and whoever tells it what was given."""


def allowed(allows: Callable[[Any], object], words: str) -> AfterValidator:
    """Return the check of a key's value; ``words`` say what is allowed."""

    def check(value: Any) -> Any:
        if not allows(value):
            raise NotAllowed(words)
        return value

    return AfterValidator(check)


once = allowed(lambda values: len({*values}) == len(values), "each may stand once")


class SearchRange(Strict):
    """A closed interval that one hyper-parameter is searched over, on a log or a linear scale.

    A number in its place, such as ``average_start = 0.75``, holds the hyper-parameter fixed.
    """

    low: float
    high: float
    log: bool = False

    @model_validator(mode="before")
    @classmethod
    def _fixed(cls, given: Any) -> Any:
        """Read a number as the range of that one value."""
        number = isinstance(given, int | float) and not isinstance(given, bool)
        return {"low": given, "high": given} if number else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Let editors that check TOML take a number, too."""
        return {"anyOf": [{"type": "number"}, handler(core)]}

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low = {self.low:g} and high = {self.high:g} were given; low must not be above high")
        if self.low < self.high and self.high - self.low < NARROWEST * abs(self.high) and not is_frozen(info):
            raise ValueError(
                f"low = {self.low!r} and high = {self.high!r} were given, which are nearer than a search can tell "
                f"apart; give one number, such as {self.low:g}, to hold the value fixed"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} with log = true was given; a log scale needs low > 0")
        return self

    def at(self, unit: float) -> float:
        """Map a position in [0, 1] to a value of the range."""
        if self.log:
            return self.within(math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low))))
        return self.within(self.low + unit * (self.high - self.low))

    def within(self, value: float) -> float:
        """Return the value of the range that is nearest to ``value``: what is rounded may lie beyond an end."""
        return min(max(value, self.low), self.high)

    @property
    def fixed(self) -> bool:
        """Tell whether there is one value, and nothing to search."""
        return self.low == self.high

    def scaled(self, scale: float) -> Self:
        """Return the range with both ends times ``scale``."""
        return self if scale == 1 else self.model_copy(update={"low": self.low * scale, "high": self.high * scale})

    def position(self, value: float) -> float:
        """Map a value of the range to its position in [0, 1]: the inverse of `at`; of a fixed one the middle."""
        if self.fixed:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def at_edge(self, value: float) -> bool:
        """Tell whether ``value`` lies in the outer 5 % of the range, at either end."""
        return not EDGE_SHARE <= self.position(value) <= 1 - EDGE_SHARE


Above0 = Annotated[SearchRange, allowed(lambda searched: searched.low > 0, "it must be above 0")]
From0 = Annotated[SearchRange, allowed(lambda searched: searched.low >= 0, "it must not be below 0")]
Share = Annotated[
    SearchRange, allowed(lambda searched: searched.low > 0 and searched.high < 1, "it must lie between 0 and 1")
]


class FamilyRanges(Strict):
    """Ranges of one family's own, in place of the common ones times the family's scale."""

    learning_rate: Above0 | None = None
    rho: Above0 | None = None
    weight_decay: From0 | None = added_later(None)
    options: dict[str, SearchRange] = added_later({})  # of an optimizer that is not built in: any of its arguments

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the hyper-parameters that it has a range of."""
        named = (name for name in ("learning_rate", "rho", "weight_decay") if getattr(self, name) is not None)
        return (*named, *self.options)

    def or_of(self, other: Self) -> Self:
        """Return it with the ranges of another where it has none; but for the radius, which belongs to a family."""
        missing = {name: getattr(self, name) or getattr(other, name) for name in ("learning_rate", "weight_decay")}
        return self.model_copy(update=missing | {"options": {**other.options, **self.options}})

    @model_validator(mode="before")
    @classmethod
    def _options(cls, given: Any) -> Any:
        """Take whatever else is given as arguments of the optimizer."""
        if not isinstance(given, dict):
            return given
        other = {name: value for name, value in given.items() if name not in cls.model_fields}
        kept = {name: value for name, value in given.items() if name in cls.model_fields}
        return kept | {"options": given.get("options", {}) | other} if other else given


_NO_RANGES = FamilyRanges()


class SearchSpace(Strict):
    """What is searched, and how: the same number of trials for every method.

    ``unperturbed_share`` of a perturbed family's proposals have rho = 0, so that the base step lies inside its space.
    ``weight_decay`` is searched where it has a range; without one the cell's factor holds. ``pruner`` says whether runs
    of the tune stage may be stopped early; see `study.plan.halving`.
    """

    sampler: Literal["qmc", "tpe"] = "qmc"
    trials: int = Field(ge=1, le=10_000)
    learning_rate: Above0 = SearchRange(low=0.01, high=0.5, log=True)
    rho: Above0 = SearchRange(low=0.02, high=0.8, log=True)
    average_start: Share = SearchRange(low=0.4, high=0.95)
    unperturbed_share: float = Field(default=0.125, ge=0, lt=1)
    of: dict[str, FamilyRanges] = Field(default_factory=dict)
    weight_decay: From0 | None = added_later(None)
    pruner: Literal["none", "asha"] = added_later("none")

    @property
    def startup_trials(self) -> int:
        """Trials that TPE draws at random before it learns from any: Optuna's ten, or a third where trials are few."""
        return min(10, self.trials // 3)

    def searched_by(self, family: str) -> tuple[str, ...]:
        """Return the hyper-parameters of a family that have a range, in the order of the design's columns."""
        decay = ("weight_decay",) if self.weight_decay or self.of.get(family, _NO_RANGES).weight_decay else ()
        return ("learning_rate", "rho", "average_start", *decay, *self.options_of(family))

    def options_of(self, family: str) -> tuple[str, ...]:
        """Return the searched arguments of a family's optimizer, where that is not built in."""
        return tuple(self.of.get(family, _NO_RANGES).options)

    def has_radius(self, family: str, what: Family) -> bool:
        """Tell whether a family has a radius to be searched: it perturbs, or has an argument ``rho`` with a range."""
        return what.rule is not None or (what.brings_optimizer and self.of.get(family, _NO_RANGES).rho is not None)

    def range_of(self, name: str, family: str, what: Family) -> SearchRange:
        """Return the range of one of the searched hyper-parameters for a family, and what that is.

        A range that ``of`` gives for the family wins; otherwise it is the common one times the family's scale.
        """
        given = self.of.get(family, _NO_RANGES)
        own: SearchRange | None = given.options.get(name) or getattr(given, name, None)
        if own is not None:
            return own
        common: SearchRange = getattr(self, name)
        return common.scaled(float(getattr(what, f"{name}_scale", 1.0)))

    def rungs(self, average_starts: Sequence[float], epochs: int) -> tuple[int, ...]:
        """Return the epochs at which a tune run may be stopped: none without a pruner.

        The first one is not before any trial's last average has started, the proposed start included.

        Args:
            average_starts: The study's grid of starts, fractions of the epochs.
            epochs: Of the run.
        """
        found: list[int] = []
        rung = math.ceil(max(*average_starts, self.average_start.high, 0.0) * epochs)
        while self.pruner != "none" and rung < epochs:
            found.append(rung)
            rung *= REDUCTION
        return tuple(found)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if self.weight_decay and self.weight_decay.fixed:
            raise ValueError(
                f"search.weight_decay = {self.weight_decay.low:g} was given; one that is not searched is a factor: "
                f"give factors.weight_decay = {self.weight_decay.low:g} to the problems"
            )
        for family, own in self.of.items():
            if family in FAMILIES and own.weight_decay and not self.weight_decay:
                raise ValueError(
                    f"of.{family}.weight_decay was given without weight_decay, which says that it is searched at all; "
                    "add that, or leave this out"
                )
        if self.sampler == "tpe" and self.trials < LEAST_TPE_TRIALS and not is_frozen(info):
            raise ValueError(
                f'trials = {self.trials} with sampler = "tpe" was given; its first proposals are random, and it learns '
                f'from {LEAST_TPE_TRIALS} trials on: give as many, or sampler = "qmc"'
            )
        return self
