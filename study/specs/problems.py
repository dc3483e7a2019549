"""Problems: a task with its factors, and the design that turns varied factors into cells."""

import itertools
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from study.records import FactorValue
from study.specs.factors import factor_of
from study.specs.space import Strict, added_later, allowed, is_frozen
from study.specs.tasks import (
    TASKS,
    check_factor,
    check_own_name,
    check_values,
    default_factors,
    is_own_task,
    kind_of_value,
)

_TASKS = (
    f"available are {', '.join(TASKS)}, and a function of your own as 'my_module:build' (see `python -m study.new`)"
)
MAX_CELLS = 10_000  # of one problem; more can be written in a line, and neither planned nor run


def _is_task(task: str) -> bool:
    return task in TASKS or is_own_task(task)


class Problem(Strict):
    """A task with its factors. A list of values is varied, a single value is held fixed.

    ``design`` says which combinations of varied factors become cells: ``full`` crosses them all; ``half`` takes the
    half of a two-level design in which the last factor's level is the product of the others', so k factors cost
    2^(k-1) cells and no main effect is confounded with another. ``centre`` adds one cell with every varied number
    half-way, which shows curvature between the levels.

    ``delta`` is the smallest gain that matters in this problem, in the unit of its metric; without one the study's
    holds.

    Source of ``half``: Box, Hunter & Hunter, "Statistics for Experimenters", chapter on fractional factorial designs.
    """

    task: Annotated[str, allowed(_is_task, _TASKS)]
    delta: float | None = added_later(None, gt=0)
    factors: dict[str, list[FactorValue] | FactorValue] = Field(default_factory=dict)
    design: Literal["full", "half"] = "full"
    centre: bool = False

    @field_validator("factors", mode="before")
    @classmethod
    def _one_kind(cls, factors: Any, info: ValidationInfo) -> Any:
        """Refuse what no column can hold; a study that has begun is read with whatever it has."""
        if isinstance(factors, dict) and not is_frozen(info):
            for name, given in factors.items():
                check_values(name, given)
        return factors

    @model_validator(mode="after")
    def _check_factors(self, info: ValidationInfo) -> Self:
        for name, given in self.factors.items():
            values = given if isinstance(given, list) else [given]
            if not values:
                raise ValueError(f"factors.{name} = [] was given; give at least one value")
            for value in values:
                check_factor(name, value, self.task)
            if not is_frozen(info):
                check_own_name(name)
            if len({json.dumps(value) if is_frozen(info) else value for value in values}) < len(values):
                raise ValueError(f"factors.{name} = {values} was given; each value may stand once")
        sizes = {"train_size", "steps_per_epoch"} & {*default_factors(self.task), *self.factors}
        if not sizes:
            raise ValueError(
                f"factors.train_size is missing; task {self.task!r} needs it, because the cost of a study is planned "
                "before its data are read (or factors.steps_per_epoch, where its training part is a stream)"
            )
        if len(sizes) > 1:
            raise ValueError(
                "factors.train_size and factors.steps_per_epoch were given; one says what the other is, because an "
                "epoch of a stream is steps_per_epoch × batch_size examples: leave one out"
            )
        varied = self.varied
        if self.design == "half" and (len(varied) < 3 or any(len(values) != 2 for values in varied.values())):
            raise ValueError(
                f'design = "half" was given with {len(varied)} varied factors; it needs at least three factors of '
                "exactly two values each, because the half of a 2×2 can't tell its two factors apart"
            )
        if math.prod(map(len, varied.values())) > MAX_CELLS:
            raise ValueError(
                f"{' × '.join(str(len(values)) for values in varied.values())} values were given to cross; a problem "
                f"may have {MAX_CELLS:,} cells at most: vary less, or split it into studies"
            )
        if self.centre and not any(kind_of_value(values[0]) == "numbers" for values in varied.values()):
            raise ValueError("centre = true was given; it needs a varied factor that is a number")
        for cell in cell_factors(self):
            if int(cell["batch_size"]) > int(cell["train_size"]):
                raise ValueError(
                    f"factors.batch_size = {cell['batch_size']} was given; it must not be above "
                    f"train_size = {cell['train_size']}"
                )
            if int(cell["batch_size"]) % int(factor_of(cell, "gradient_accumulation_steps")):
                raise ValueError(
                    f"factors.gradient_accumulation_steps = {cell['gradient_accumulation_steps']} was given; it must "
                    f"divide batch_size = {cell['batch_size']}, whose examples a step takes in so many equal parts"
                )
        return self

    @property
    def varied(self) -> dict[str, list[FactorValue]]:
        """The factors of which it gives several values."""
        return {name: given for name, given in self.factors.items() if isinstance(given, list) and len(given) > 1}


def cell_factors(problem: Problem) -> list[dict[str, FactorValue]]:
    """Return a problem's cells: one complete dict each, unnamed factors at the task's defaults."""
    fixed, varied = default_factors(problem.task), problem.varied
    for name, given in problem.factors.items():
        if name not in varied:
            fixed[name] = given[0] if isinstance(given, list) else given
    combinations = list(itertools.product(*varied.values()))
    if problem.design == "half":
        combinations = [levels for levels in combinations if _sign(levels, varied) > 0]
    cells = [fixed | dict(zip(varied, levels, strict=True)) for levels in combinations]
    if problem.centre:
        cells.append(fixed | {name: _half_way(values) for name, values in varied.items()})
    return [_sized(cell) for cell in cells]


def _sized(cell: dict[str, FactorValue]) -> dict[str, FactorValue]:
    """Return a cell with the examples of an epoch, where the spec gives its steps."""
    if "steps_per_epoch" not in cell:
        return cell
    return cell | {"train_size": int(cell["steps_per_epoch"]) * int(cell["batch_size"])}


def _sign(levels: tuple[FactorValue, ...], varied: dict[str, list[FactorValue]]) -> int:
    """Return the product of the levels, coded -1 (first value) and +1 (second): the defining relation is +1."""
    coded = (1 if level == values[1] else -1 for level, values in zip(levels, varied.values(), strict=True))
    return math.prod(coded)


def _half_way(values: list[FactorValue]) -> FactorValue:
    """Return the middle between the extreme values of a number, in its own type; the first value of other factors."""
    numbers = [value for value in values if kind_of_value(value) == "numbers"]
    if not numbers:
        return values[0]
    middle = (min(map(float, numbers)) + max(map(float, numbers))) / 2
    return round(middle) if all(isinstance(value, int) for value in numbers) else middle
