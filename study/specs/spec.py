"""The study's specification: typed, self-checking TOML, frozen and hashed before the first run."""

import hashlib
import json
import re
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, ValidationInfo, WithJsonSchema, model_validator

from study.records import Needs
from study.specs import checks
from study.specs.budgets import Budget
from study.specs.hypotheses import Hypothesis
from study.specs.methods import Checkpoint, Methods
from study.specs.mistakes import sentences
from study.specs.own_methods import OwnMethod, own_ranges, own_table, split_methods
from study.specs.problems import Problem, cell_factors
from study.specs.space import SearchRange, SearchSpace, Strict, added_later, is_frozen, once
from study.specs.tasks import TestPart, entry_of

__all__ = ["Budget", "Hypothesis", "Problem", "SearchRange", "SearchSpace", "SpecError", "StudySpec", "cell_factors"]

Fraction = Annotated[float, Field(gt=0, lt=1)]
# In TOML a list, or a table of entries.
_AS_WRITTEN = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": {"type": "object"}},
    ]
}
MethodNames = Annotated[tuple[str, ...], once, WithJsonSchema(_AS_WRITTEN)]
CLAIMS = "claims"  # the folder of the built-in specs that hold a published claim each
FOUND = ("reference_times", "test_parts", "loops", "optimizers")  # keys that are filled in before the first run
SUITES = ("atlas", CLAIMS)  # folders of specs that are run together


class SpecError(ValueError):
    """A specification that can't be used; one sentence: what was given, what is allowed, what to do."""


class StudySpec(Strict):
    """One study. See README.md beside this file for an annotated example.

    ``methods`` are the names of its methods, in order. In TOML they are a list of built-in names, or the table
    ``[methods.NAME]``, of which an empty entry is the built-in method of that name, and any other an `OwnMethod`.

    The whole procedure, tuning included, is repeated ``replicates`` times, each with seeds of its own that derive from
    ``seed``; what a replicate has tuned is re-trained on ``confirms`` fresh seeds. ``weights`` are those that a run
    without averaging may keep: its ``last``, or its ``best`` epoch on validation. ``gradient_ceiling`` is budget G's,
    in multiples of the base's gradient evaluations at the cell's epochs.

    A spec with ``confirm_seeds`` is one of protocol 1: one tuning, ``confirm_seeds`` seeds, last weights. Such studies
    are read as they are and not continued; see `study/specs/protocol-2.md`.

    ``probe_budget`` is what the probes of one run may cost, in gradient evaluations, as a share of those of the
    baseline's run at equal epochs: one budget for all methods of a cell, so that all are probed with the same care.

    With ``features`` the first confirm run of each replicate's baseline is described by `study.records.FEATURES`.

    ``reference_times`` are the times of a step of each family, in those of the ``base`` family, for budget ``T``. They
    are measured before the first run unless the spec gives them, and frozen with the spec; the hash leaves them out.
    So it does ``test_parts``, which say where the test part of each of the user's own tasks comes from, as the
    preflight has found it: a key of `study.specs.tasks.TEST_PARTS`; ``loops``, which name those of them that are loops,
    with the kinds of weights that each was found to report; and ``optimizers``, what each family that is not built in
    was found to need of the training loop.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    question: str = Field(min_length=1, max_length=300)
    methods: MethodNames = ("SGD", "SWA", "SAM", "WASAM")
    budgets: tuple[Budget, ...] = ("E", "G")
    primary_budget: Budget = "G"
    delta: float = Field(default=0.005, gt=0)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    replicates: int = Field(default=10, ge=1, le=1000)
    confirms: int = Field(default=3, ge=1, le=1000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    weights: Annotated[tuple[Checkpoint, ...], once] = Field(default=("last", "best"), min_length=1)
    gradient_ceiling: float = Field(default=2.0, ge=1, le=100)
    confirm_seeds: int | None = added_later(None, ge=1, le=1000)  # of protocol 1, in place of replicates and confirms
    average_starts: tuple[Fraction, ...] = (0.5, 0.6, 0.75, 0.9)
    ema_decays: tuple[Fraction, ...] = (0.9, 0.98, 0.995)
    lawa_windows: tuple[Annotated[int, Field(ge=2, le=100)], ...] = (3, 6)
    search: SearchSpace
    problems: tuple[Problem, ...] = Field(min_length=1)
    hypotheses: tuple[Hypothesis, ...] = ()
    probes: bool = False
    probe_budget: float = added_later(0.15, gt=0, le=1000)
    features: bool = added_later(False)
    reference_times: dict[str, Annotated[float, Field(gt=0, le=100)]] = Field(default_factory=dict)
    test_parts: dict[str, TestPart] = added_later({})
    loops: dict[str, tuple[str, ...]] = added_later({})
    own_methods: dict[str, OwnMethod] = added_later({})
    optimizers: dict[str, Needs] = added_later({})

    @model_validator(mode="before")
    @classmethod
    def _of_protocol_1(cls, data: Any, info: ValidationInfo) -> Any:
        """Fill in what protocol 1 fixed; its specs are read from results folders and never begun anew."""
        if not isinstance(data, dict) or data.get("confirm_seeds") is None:
            return data
        if not is_frozen(info):
            raise ValueError(
                f"confirm_seeds = {data['confirm_seeds']!r} was given, a key of protocol 1; write replicates = 10 (how "
                "often the whole procedure is repeated, tuning included) and confirms = 3 (seeds of each) in its "
                "place, or replicates = 1 and confirms = 5 for one tuning of a costly task"
            )
        return data | {"replicates": 1, "confirms": data["confirm_seeds"], "weights": ["last"]}

    @model_validator(mode="before")
    @classmethod
    def _methods_as_table(cls, data: Any) -> Any:
        """Split the table ``[methods.NAME]`` into names and own entries."""
        if not isinstance(data, dict) or not isinstance(data.get("methods"), dict):
            return data
        names, own = split_methods(data["methods"])
        return data | {"methods": names, "own_methods": own}

    @model_validator(mode="after")
    def _known_methods(self) -> Self:
        methods, table = self.methods, self.table
        unknown = [name for name in methods if name not in table]
        if unknown:
            raise ValueError(f"methods: {unknown[0]!r} was given; available are {', '.join(table)}")
        for name in methods:
            if (base := table[name].baseline) not in methods:
                raise ValueError(f"methods = {list(methods)} was given; {name} is held against {base!r}: add that too")
        if all(map(table.is_baseline, methods)):
            raise ValueError(f"methods = {list(methods)} was given; at least one method beside the baseline is needed")
        return self

    @model_validator(mode="after")
    def _own_ranges(self) -> Self:
        """Give the families of own methods the ranges that their entries name, and what is left of the baselines'."""
        if not self.own_methods:
            return self
        of = own_ranges(tuple(self.own_methods.items()), self.search.of)
        return self.model_copy(update={"search": self.search.model_copy(update={"of": of})})

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if self.primary_budget not in self.budgets:
            raise ValueError(
                f"primary_budget = {self.primary_budget!r} was given; it must be one of budgets = {list(self.budgets)}"
            )
        if not is_frozen(info):  # what an older version has begun can still be read
            checks.check_kinds(self.problems)
            families = [self.table.family_of(name) for name in self.methods]
            checks.check_that_cells_differ(self.problems, families)
        if self.protocol > 1:
            checks.check_deltas(self.problems)
            self.check_costs()
        checks.check_search(self.search, self.average_starts, self.problems)
        checks.check_ranges(self.search, self.table)
        for hypothesis in self.hypotheses:
            hypothesis.check_study(self.methods, self.budgets, self.weights)
        if len({hypothesis.id for hypothesis in self.hypotheses}) < len(self.hypotheses):
            raise ValueError("two hypotheses have the same id; each needs its own")
        return self

    def check_costs(self) -> None:
        """Refuse a ceiling that a method does not fit under; of own optimizers that is known once they were tried.

        Raises:
            ValueError: says which.
        """
        passes = {name: self.table.relative_passes(name) for name in self.methods}
        dear = [name for name in self.methods if passes[name] > self.gradient_ceiling]
        if "G" in self.budgets and dear:
            raise ValueError(
                f"gradient_ceiling = {self.gradient_ceiling:g} was given; {dear[0]} takes {passes[dear[0]]:g} "
                "times the gradient evaluations of its base: raise the ceiling, or leave budget G or the method out"
            )

    @property
    def table(self) -> Methods:
        """The methods that there are in this study: the built-in ones, and its own."""
        return own_table(tuple(self.own_methods.items()), tuple(self.optimizers.items()))

    def range_of(self, name: str, family: str) -> SearchRange:
        """Return the range of a searched hyper-parameter for a family."""
        return self.search.range_of(name, family, self.table.families[family])

    @property
    def protocol(self) -> int:
        """1 for a spec that was frozen before replicates came, else 2."""
        return 2 if self.confirm_seeds is None else 1

    @property
    def one_tuning(self) -> bool:
        """Tell whether there is one tuning only, so that the interval is over its confirm seeds."""
        return self.replicates == 1

    def test_part_of(self, task: str) -> TestPart:
        """Return where a task's test part comes from."""
        return "official" if self.protocol == 1 else self.test_parts.get(task, entry_of(task).test)

    def as_of(self, task: str) -> Self:
        """Return the study as one of its tasks has it: a loop that keeps no checkpoint has no ``best`` weights."""
        reported = self.loops.get(task, self.weights)
        if {*self.weights} <= {*reported}:
            return self
        return self.model_copy(update={"weights": tuple(kind for kind in self.weights if kind in reported)})

    def delta_of(self, task: str) -> float:
        """Return δ in a task's unit: its problem's own, or the study's."""
        return next((p.delta for p in self.problems if p.task == task and p.delta is not None), self.delta)

    @property
    def hash(self) -> str:
        """SHA-256 of the specification's content (not of its layout or comments): 64 hexadecimal digits.

        A key that was added to specs later does not enter while it stands at its default:
        `study.specs.space.added_later`.
        """
        since_2 = {"replicates", "confirms", "seed", "weights", "gradient_ceiling"} if self.protocol == 1 else set()
        content = self.model_dump(mode="json", exclude={*FOUND} | since_2)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def extends(new: StudySpec, old: StudySpec) -> bool:
    """Tell whether ``new`` is ``old`` with trials, replicates, confirms or problems added, and nothing else changed.

    All that the old study measured is then part of the new one: proposals of a QMC design come in a fixed order, and
    replicates and seeds are counted up. Problems and replicates are added whatever the sampler.
    """
    if old.protocol == 1 or new.search.trials < old.search.trials:
        return False
    if new.search.trials > old.search.trials and new.search.sampler != "qmc":
        return False
    if new.replicates < old.replicates or new.confirms < old.confirms:
        return False
    if new.problems[: len(old.problems)] != old.problems:
        return False
    search = new.search.model_copy(update={"trials": old.search.trials})
    same = {"search": search, "replicates": old.replicates, "confirms": old.confirms, "problems": old.problems}
    return new.model_copy(update=same).hash == old.hash


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a spec, for editors that check TOML as it is written."""
    return StudySpec.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def parse_spec(text: str, source: str, *, frozen: bool = False) -> StudySpec:
    """Read a specification from TOML text; ``source`` names it in messages.

    Args:
        text, source: TOML, and what it is called.
        frozen: It comes from a results folder: one of an older protocol is read, too.

    Raises:
        SpecError: with the key, what was given, what is allowed and what to do, in one sentence.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits and brackets too deep, too
        raise SpecError(f"{source} is not valid TOML: {error}; mend that line.") from error
    try:
        return StudySpec.model_validate(data, context={"frozen": frozen})
    except ValidationError as error:
        raise SpecError(f"{source}: {sentences(error, data, _keys())}") from error


def _keys() -> set[str]:
    """Return every key that a spec may have somewhere."""
    models = json_schema()
    return {key for model in (models, *models.get("$defs", {}).values()) for key in model.get("properties", {})}


def with_seed(text: str, seed: int) -> str:
    """Return a spec's text with another root seed."""
    head, bracket, tables = text.partition("\n[")
    line = f"seed = {seed}"
    found = re.subn(r"^seed\s*=.*$", line, head, flags=re.MULTILINE)
    head = found[0] if found[1] else f"{head.rstrip()}\n{line}\n"
    return f"{head}{bracket}{tables}"


def builtin_specs() -> dict[str, str]:
    """Return the TOML texts of the built-in specs, by name; those of a suite as ``suite/name``."""
    of_suites = {f"{suite}/{name}": text for suite in SUITES for name, text in suite_specs(suite).items()}
    return _specs_in(resources.files("study") / "specs") | of_suites


def suite_specs(suite: str) -> dict[str, str]:
    """Return the TOML texts of a suite's specs, by name without the suite's."""
    return _specs_in(resources.files("study") / "specs" / suite)


def _specs_in(folder: Traversable) -> dict[str, str]:
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
