"""The study's specification: typed, self-checking TOML, frozen and hashed before the first run."""

import hashlib
import json
import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from study.factors import FACTORS, TASKS, default_factors
from study.methods import BASELINE, METHODS
from study.records import FactorValue

Budget = Literal["E", "G"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
EDGE_SHARE = 0.05  # a selected value in the outer 5 % of its range is flagged


class SpecError(ValueError):
    """A specification that can't be used; one sentence: what was given, what is allowed, what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchRange(_Strict):
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

    def position(self, value: float) -> float:
        """Map a value of the range to its position in [0, 1]: the inverse of `at`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def at_edge(self, value: float) -> bool:
        """Tell whether ``value`` lies in the outer 5 % of the range, at either end."""
        return not EDGE_SHARE <= self.position(value) <= 1 - EDGE_SHARE


class SearchSpace(_Strict):
    """What is searched, and how: the same number of trials for every method.

    ``unperturbed_share`` of the sam family's proposals have rho = 0, so that the base step lies inside its space.
    """

    sampler: Literal["qmc", "tpe"] = "qmc"
    trials: int = Field(ge=1, le=10_000)
    learning_rate: SearchRange = SearchRange(low=0.01, high=0.5, log=True)
    rho: SearchRange = SearchRange(low=0.02, high=0.8, log=True)
    average_start: SearchRange = SearchRange(low=0.4, high=0.95)
    unperturbed_share: float = Field(default=0.125, ge=0, lt=1)

    def range_of(self, name: str) -> SearchRange:
        """Return the range of ``learning_rate``, ``rho`` or ``average_start``."""
        found: SearchRange = getattr(self, name)
        return found

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("learning_rate", "rho"):
            if self.range_of(name).low <= 0:
                raise ValueError(f"{name}.low = {self.range_of(name).low:g} was given; it must be above 0")
        start = self.average_start
        if not (start.low > 0 and start.high < 1):
            raise ValueError(
                f"average_start from {start.low:g} to {start.high:g} was given; it must lie between 0 and 1"
            )
        return self


class Problem(_Strict):
    """A task with its factors. A list of values is crossed with the others; a single value is held fixed."""

    task: str
    factors: dict[str, list[FactorValue] | FactorValue] = Field(default_factory=dict)

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        if task not in TASKS:
            raise ValueError(f"{task!r} was given; available are {', '.join(TASKS)}")
        return task

    @model_validator(mode="after")
    def _check_factors(self) -> Self:
        for name, given in self.factors.items():
            if name not in FACTORS:
                raise ValueError(f"factors.{name} was given; available are {', '.join(FACTORS)}")
            values = given if isinstance(given, list) else [given]
            if not values:
                raise ValueError(f"factors.{name} = [] was given; give at least one value")
            for value in values:
                FACTORS[name].check(name, value, self.task)
            if len({json.dumps(value) for value in values}) < len(values):
                raise ValueError(f"factors.{name} = {values} was given; each value may stand once")
        for cell in cell_factors(self):
            if int(cell["batch_size"]) > int(cell["train_size"]):
                raise ValueError(
                    f"factors.batch_size = {cell['batch_size']} was given; it must not be above "
                    f"train_size = {cell['train_size']}"
                )
        return self


class StudySpec(_Strict):
    """One study. See the README's chapter on writing a spec for an annotated example."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    question: str = Field(min_length=1, max_length=300)
    methods: tuple[str, ...] = ("SGD", "SWA", "SAM", "WASAM")
    budgets: tuple[Budget, ...] = ("E", "G")
    primary_budget: Budget = "G"
    delta: float = Field(default=0.005, gt=0, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    confirm_seeds: int = Field(ge=1, le=1000)
    average_starts: tuple[Fraction, ...] = (0.5, 0.6, 0.75, 0.9)
    search: SearchSpace
    problems: tuple[Problem, ...] = Field(min_length=1)

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in methods if name not in METHODS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} was given; available are {', '.join(METHODS)}")
        if BASELINE not in methods or len(methods) < 2:
            raise ValueError(
                f"{list(methods)} was given; the baseline {BASELINE!r} and at least one other method are needed"
            )
        if len(set(methods)) < len(methods):
            raise ValueError(f"{list(methods)} was given; each method may stand once")
        return methods

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.primary_budget not in self.budgets:
            raise ValueError(
                f"primary_budget = {self.primary_budget!r} was given; it must be one of budgets = {list(self.budgets)}"
            )
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the specification's content (not of its layout or comments): 64 hexadecimal digits."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def cell_factors(problem: Problem) -> list[dict[str, FactorValue]]:
    """Cross a problem's factors: one complete dict a cell, unnamed factors at the task's defaults."""
    cells: list[dict[str, FactorValue]] = [default_factors(problem.task)]
    for name, given in problem.factors.items():
        values = given if isinstance(given, list) else [given]
        cells = [cell | {name: value} for cell in cells for value in values]
    return cells


def parse_spec(text: str, source: str) -> StudySpec:
    """Read a specification from TOML text; ``source`` names it in messages.

    Raises:
        SpecError: with the key, what was given, what is allowed and what to do, in one sentence.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{source} is not valid TOML: {error}; mend that line.") from error
    try:
        return StudySpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(f"{source}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    """Say the first problem in one sentence: key, given, allowed, remedy."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the spec"
    if first["type"] == "value_error":
        return f"{key}: {first['ctx']['error']}."
    if first["type"] == "missing":
        return f"{key} is missing; add it."
    if first["type"] == "extra_forbidden":
        return f"{key} was given, which is not a key of a spec; remove it or mend its spelling."
    return f"{key} = {first['input']!r} was given; {first['msg'][0].lower()}{first['msg'][1:]}."


def builtin_specs() -> dict[str, str]:
    """Return the TOML texts of the built-in specs, by name."""
    folder = resources.files("study") / "specs"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def load_spec(name_or_path: str) -> tuple[StudySpec, str]:
    """Load a built-in spec by name or a TOML file by path; return it with its text.

    Raises:
        SpecError: no such spec, an unreadable file, or a specification that is not valid.
    """
    builtin = builtin_specs()
    if name_or_path in builtin:
        return parse_spec(builtin[name_or_path], f"the built-in spec {name_or_path!r}"), builtin[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise SpecError(
            f"{name_or_path!r} was given as the spec; it must be a TOML file or one of {', '.join(builtin)}; "
            "see `python -m study.run --list`."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} can't be read as UTF-8 text: {error}.") from error
    return parse_spec(text, str(path)), text
