"""The study's specification: typed, self-checking TOML, frozen and hashed before the first run."""

import hashlib
import itertools
import json
import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from study.factors import FACTORS, TASKS, default_factors
from study.methods import FAMILIES, METHODS
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


class FamilyRanges(_Strict):
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


class SearchSpace(_Strict):
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


class Problem(_Strict):
    """A task with its factors. A list of values is varied, a single value is held fixed.

    ``design`` says which combinations of varied factors become cells: ``full`` crosses them all; ``half`` takes the
    half of a two-level design in which the last factor's level is the product of the others', so k factors cost
    2^(k-1) cells and no main effect is confounded with another. ``centre`` adds one cell with every varied number
    half-way, which shows curvature between the levels.

    Source of ``half``: Box, Hunter & Hunter, "Statistics for Experimenters", chapter on fractional factorial designs.
    """

    task: str
    factors: dict[str, list[FactorValue] | FactorValue] = Field(default_factory=dict)
    design: Literal["full", "half"] = "full"
    centre: bool = False

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
        varied = {name: values for name, values in self.factors.items() if isinstance(values, list) and len(values) > 1}
        if self.design == "half" and (len(varied) < 2 or any(len(values) != 2 for values in varied.values())):
            raise ValueError(
                f'design = "half" was given with {len(varied)} varied factors; it needs at least two factors of '
                "exactly two values each"
            )
        if self.centre and not any(_is_number(values[0]) for values in varied.values()):
            raise ValueError("centre = true was given; it needs a varied factor that is a number")
        for cell in cell_factors(self):
            if int(cell["batch_size"]) > int(cell["train_size"]):
                raise ValueError(
                    f"factors.batch_size = {cell['batch_size']} was given; it must not be above "
                    f"train_size = {cell['train_size']}"
                )
        return self


class Hypothesis(_Strict):
    """A claim that is named, with its expected sign, before the first run.

    Kinds, each about gains under ``budget`` (sign-corrected, method against its baseline):

    - ``gain``: the mean gain of ``method`` over all cells.
    - ``slope``: how the gain of ``method`` moves with the number ``factor``, over cells.
    - ``difference``: gain of ``method`` minus gain of ``other``, over all cells; ``other`` "baseline" is gain 0.
    - ``contrast``: gain of ``method`` at the second value of ``factor`` minus that at the first.
    - ``averaging``: like ``contrast``, for the within-run gain of averaging on ``method``'s trajectory.
    - ``budget``: gain of ``method`` at equal epochs minus that at equal gradient evaluations.
    - ``sharpness``: log of ``measure`` on ``method``'s weights minus that on ``other``'s.
    - ``barrier``: loss barrier on the line between ``method``'s weights and ``other``'s.

    ``expected``: ``+`` above 0, ``-`` below 0, ``0`` no material difference (within ±δ), ``>=`` not materially below.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    claim: str = Field(min_length=1, max_length=300)
    kind: Literal["gain", "slope", "difference", "contrast", "averaging", "budget", "sharpness", "barrier"]
    method: str
    other: str = ""
    factor: str = ""
    measure: str = "top_eigenvalue"
    budget: Budget = "E"
    expected: Literal["+", "-", "0", ">="]
    source: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, name in (("method", self.method), ("other", self.other)):
            if name not in METHODS and not (key == "other" and name in ("", "baseline")):
                raise ValueError(f"{key} = {name!r} was given; available are {', '.join(METHODS)}")
        needs_factor = self.kind in ("slope", "contrast", "averaging")
        if needs_factor and self.factor not in FACTORS:
            raise ValueError(
                f"factor = {self.factor!r} was given; kind {self.kind!r} needs one of {', '.join(FACTORS)}"
            )
        if self.kind in ("difference", "sharpness", "barrier") and not self.other:
            raise ValueError(f"other is missing; kind {self.kind!r} compares two methods")
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
    ema_decays: tuple[Fraction, ...] = (0.9, 0.98, 0.995)
    lawa_windows: tuple[Annotated[int, Field(ge=2, le=100)], ...] = (3, 6)
    search: SearchSpace
    problems: tuple[Problem, ...] = Field(min_length=1)
    hypotheses: tuple[Hypothesis, ...] = ()

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in methods if name not in METHODS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} was given; available are {', '.join(METHODS)}")
        for name in methods:
            if METHODS[name].baseline not in methods:
                raise ValueError(
                    f"{list(methods)} was given; {name} is held against {METHODS[name].baseline!r}: add that too"
                )
        if all(METHODS[name].baseline == name for name in methods):
            raise ValueError(f"{list(methods)} was given; at least one method beside the baseline is needed")
        if len(set(methods)) < len(methods):
            raise ValueError(f"{list(methods)} was given; each method may stand once")
        return methods

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.primary_budget not in self.budgets:
            raise ValueError(
                f"primary_budget = {self.primary_budget!r} was given; it must be one of budgets = {list(self.budgets)}"
            )
        for hypothesis in self.hypotheses:
            for name in (hypothesis.method, hypothesis.other):
                if name not in (*self.methods, "", "baseline"):
                    raise ValueError(
                        f"hypotheses {hypothesis.id!r} names {name!r}; the study has {', '.join(self.methods)}"
                    )
            if hypothesis.budget not in self.budgets:
                raise ValueError(
                    f"hypotheses {hypothesis.id!r} has budget = {hypothesis.budget!r}; "
                    f"the study has {', '.join(self.budgets)}"
                )
        if len({hypothesis.id for hypothesis in self.hypotheses}) < len(self.hypotheses):
            raise ValueError("two hypotheses have the same id; each needs its own")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the specification's content (not of its layout or comments): 64 hexadecimal digits."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def cell_factors(problem: Problem) -> list[dict[str, FactorValue]]:
    """Return a problem's cells: one complete dict each, unnamed factors at the task's defaults."""
    fixed = default_factors(problem.task)
    varied: dict[str, list[FactorValue]] = {}
    for name, given in problem.factors.items():
        if isinstance(given, list) and len(given) > 1:
            varied[name] = given
        else:
            fixed[name] = given[0] if isinstance(given, list) else given
    combinations = list(itertools.product(*varied.values()))
    if problem.design == "half":
        combinations = [levels for levels in combinations if _sign(levels, varied) > 0]
    cells = [fixed | dict(zip(varied, levels, strict=True)) for levels in combinations]
    if problem.centre:
        cells.append(fixed | {name: _half_way(values) for name, values in varied.items()})
    return cells


def _sign(levels: tuple[FactorValue, ...], varied: dict[str, list[FactorValue]]) -> int:
    """Return the product of the levels, coded -1 (first value) and +1 (second): the defining relation is +1."""
    coded = (1 if level == values[1] else -1 for level, values in zip(levels, varied.values(), strict=True))
    return math.prod(coded)


def _half_way(values: list[FactorValue]) -> FactorValue:
    """Return the middle between the extreme values of a number, in its own type; the first value of other factors."""
    numbers = [value for value in values if _is_number(value)]
    if not numbers:
        return values[0]
    middle = (min(map(float, numbers)) + max(map(float, numbers))) / 2
    return round(middle) if all(isinstance(value, int) for value in numbers) else middle


def _is_number(value: FactorValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
