"""The content of ``findings.json``, the machine-readable twin of the report, and its reading and writing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from study.files import write_atomically
from study.plan.selection import Selection
from study.specs.methods import Methods
from study.specs.own_methods import table_in
from study.stats import Effect, Importance, Moderator, ModeratorRule, RhoResponse, Synthesis, TuningCurve
from study.stats.estimates import Estimate, Number
from study.stats.interactions import FactorInteraction, Interaction

# 5: only numbers that are read; 4: no decay by averaging; 3: replicates, several baselines; 2: scores for accuracies
FINDINGS_VERSION: Literal[5] = 5
Outcome = Literal["reproduced", "contradicted", "inconclusive"]


class FindingsError(ValueError):
    """Findings that can't be read; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Runs of a study: how many the plan holds and how they ended."""

    planned: int
    completed: int = 0
    diverged: int = 0
    failed: int = 0
    pruned: int = 0

    @property
    def ended(self) -> int:
        """Runs that have a record."""
        return self.completed + self.diverged + self.failed + self.pruned

    @property
    def finished(self) -> bool:
        """Every planned run has a record."""
        return self.ended >= self.planned


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One method over all cells: where it helped, by the closed list.

    Every cell stands in exactly one of the five lists, the first that applies.

    Attributes:
        method: Name of the method.
        helps: Cells where it helps under the primary budget; if that is equal epochs, only where it costs no more than
            its baseline: a dearer method is not said to help on the strength of equal epochs alone.
        hurts: Cells where it hurts under the primary budget.
        helps_if_free: Cells where it helps at equal epochs, and not under a primary budget that counts its cost.
        null: Cells with no material effect under the primary budget.
        undecided: The other cells (inconclusive or insufficient data).
        cost_ratio: Gradient evaluations per run ÷ those of the baseline at equal epochs; NaN without runs.
    """

    method: str
    helps: tuple[str, ...]
    helps_if_free: tuple[str, ...]
    hurts: tuple[str, ...]
    null: tuple[str, ...]
    undecided: tuple[str, ...]
    cost_ratio: Number

    @classmethod
    def of(cls, method: str, places: Mapping[str, str], cost_ratio: float) -> Self:
        """Sort cells into the lists that ``places`` names, cell by cell."""
        lists = ("helps", "helps_if_free", "hurts", "null", "undecided")
        cells = {name: tuple(cell for cell, place in places.items() if place == name) for name in lists}
        return cls(method=method, cost_ratio=cost_ratio, **cells)


# What a reader has to know of how a study was made before its answer.
OF_DESIGN = (
    "protocol 1", "one tuning", "few replicates", "extended after looking", "changed task", "unpaired streams",
    "own loop", "no best epoch", "best is not the best", "over the ceiling",
    "not tuned here", "several configurations", "selected score", "unpaired", "folds",
)  # fmt: skip
CAVEATS = (
    *OF_DESIGN, "unfinished study", "scores of several kinds", "lower is better", "failed runs", "diverged runs",
    "pruned runs", "verdict depends on budget", "verdict depends on delta", "edge of the search space",
    "missing pairs", "rows without a score", "rows left out", "not run everywhere", "cost",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreUnit:
    """What a task's score is: its metric's name, its unit, and which way is better.

    ``unit`` is ``fraction`` for shares, which are written in percent, and "" for a plain number. Where
    ``higher_is_better`` is false, the score is the metric's negative.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True

    @property
    def measure(self) -> str:
        """What it measures, and in what unit: only scores that have it in common can be put together.

        The shares of examples, of tokens and of nodes that are right are one measure.
        """
        if self.unit == "fraction" and self.name.lower().endswith("accuracy"):
            return "accuracy"
        unit = f" in {self.unit}" if self.unit else ""
        return f"{self.name}{unit}" if self.higher_is_better else f"{self.name}{unit}, lower is better"


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something that could change the conclusion.

    ``kind`` is one of `CAVEATS`. ``cell`` and ``method`` are "" where it concerns the whole study; ``detail`` is a
    plain, complete sentence without markup.
    """

    kind: str
    cell: str
    method: str
    detail: str


@dataclass(frozen=True, slots=True)
class GivenRuns:
    """The runs of one method on one problem in a table of results.

    ``seeds`` and ``scores`` are those of its runs with a score, ``lost`` pairs the seeds of the others with the reason;
    ``cost`` is that of a run, on average, in the table's own unit.
    """

    problem: str
    method: str
    seeds: tuple[str, ...]
    scores: tuple[float, ...]
    lost: tuple[tuple[str, str], ...]
    cost: Number


@dataclass(frozen=True, slots=True)
class ResultsTable:
    """The table that results made elsewhere were judged from.

    Attributes:
        name: The file's name, without its folder. format: What it was read as. sha256: Of its bytes, if it is a file.
        rows: Runs in it. judged: Those whose scores a comparison may use.
        columns: What its columns were taken for: pairs (role, column).
        guessed: The roles that were guessed, ``baseline``, ``direction`` and ``delta`` among them.
        baselines: Whom methods were held against.
        percent: Problems whose scores were in percent, and are written as fractions.
        runs: The runs that comparisons were made of, by problem and method.
        labels: The seeds of units whose number is not their seed.
    """

    name: str
    format: str
    sha256: str
    rows: int
    judged: int
    columns: tuple[tuple[str, str], ...]
    guessed: tuple[str, ...]
    baselines: tuple[str, ...]
    percent: tuple[str, ...] = ()
    runs: tuple[GivenRuns, ...] = ()
    labels: tuple[tuple[int, str], ...] = ()

    def scale(self, problem: str) -> int:
        """Return by what the scores of a problem were divided: 100 of percents, else 1."""
        return 100 if problem in self.percent else 1


@dataclass(frozen=True, slots=True)
class DeltaStrip:
    """The verdict of one effect at other regions of practical equivalence: pairs (delta, verdict)."""

    cell: str
    method: str
    budget: str
    verdicts: tuple[tuple[float, str], ...]


@dataclass(frozen=True, kw_only=True)
class HypothesisResult(Estimate):
    """What a named claim came to: the estimate of the mean over ``n`` of the quantity that its kind names.

    That is a gain or difference of gains as a fraction, a gain per unit of the factor (``slope``), a log ratio
    (``sharpness``) or nats (``barrier``).

    Attributes:
        id, claim, kind, method, other, factor, budget, expected, source: As in the spec.
        margin: What counts as no material difference, in the unit of ``mean``.
        unit: What the interval is over.
        cells: Cells that the quantity is combined over.
        outcome: By the rules of `study.findings.outcomes`.
        note: Plain sentences on what limits it; may be empty.
    """

    id: str
    claim: str
    kind: str
    method: str
    other: str
    factor: str
    budget: str
    expected: str
    source: str
    margin: Number
    unit: Literal["replicates", "seeds", "cells"]
    cells: int
    outcome: Outcome
    note: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a study found. Field by field the content of ``findings.json``; fractions, never points.

    ``spec`` is the study's specification as plain data, ``spec_hash`` its hash, ``versions`` the packages
    that measured, ``devices`` the devices. ``protocol`` is 2, or 1 for a study that was made before there were
    replicates. Results that were made elsewhere have no specification and protocol 0: ``origin`` says where they
    stood. ``verdict_rules`` say what each verdict means, ``scopes`` by task what it speaks of. ``effects`` are
    tuned against tuned, one per cell × method × budget, one Holm family per method and budget; ``direct`` hold methods
    against each other under the primary budget, one Holm family a pair, as a description; ``averaging`` are the
    within-run ones, one per cell × family (averaged − last, in the confirm stage), a Holm family of their own;
    ``factor_interactions`` say whether two factors change a gain by more than each alone. ``descriptive`` are the twins
    of ``effects`` on the
    test loss (for classification in nats) and, where it is measured (classifications, runs that did not diverge), on
    the calibration error (ECE): lower is better, a gain is positive, and no verdict is drawn from them.

    ``metric`` is the column that verdicts are about, ``score_names`` what it is called, by task: a score is whatever
    metric the task has, with the sign that makes higher better. ``scores`` say so in full. ``deltas`` are δ by task, in
    that metric's unit; so are all values and gains. ``pooled`` are the tasks whose scores have one unit, the most
    common: whatever is put together across problems (mean gains, syntheses, moderators, rules, hypotheses) is over
    these alone. ``val_examples`` says by cell how many examples validation chose by, where the records know it: with
    noisy labels they are worth much fewer.

    ``hypotheses`` are the spec's, in its order; ``literature`` holds the published claims that a finished study without
    any of its own can speak of. ``syntheses`` (one per method × budget) and ``moderators`` look across
    cells, ``rules`` do so under the primary budget. ``tuning_curves`` (one per cell × method × multiple of the
    epochs) and ``importances`` describe the search on validation.
    """

    version: Literal[5]
    study: str
    question: str
    spec: dict[str, object]
    spec_hash: str
    protocol: int
    verdict_rules: dict[str, str]
    scopes: dict[str, str]
    delta: float
    deltas: dict[str, float]
    alpha: float
    primary_budget: str
    metric: str
    methods: tuple[str, ...]
    baseline: str
    counts: RunCounts
    summaries: tuple[MethodSummary, ...]
    effects: tuple[Effect, ...]
    delta_strips: tuple[DeltaStrip, ...]
    caveats: tuple[Caveat, ...]
    direct: tuple[Effect, ...] = ()
    averaging: tuple[Effect, ...] = ()
    factor_interactions: tuple[FactorInteraction, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    rho_responses: tuple[RhoResponse, ...] = ()
    selections: tuple[Selection, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    descriptive: tuple[Effect, ...] = ()
    hypotheses: tuple[HypothesisResult, ...] = ()
    syntheses: tuple[Synthesis, ...] = ()
    moderators: tuple[Moderator, ...] = ()
    rules: tuple[ModeratorRule, ...] = ()
    tuning_curves: tuple[TuningCurve, ...] = ()
    importances: tuple[Importance, ...] = ()
    score_names: dict[str, str] = field(default_factory=dict)
    literature: tuple[HypothesisResult, ...] = ()
    scores: dict[str, ScoreUnit] = field(default_factory=dict)
    pooled: tuple[str, ...] = ()
    val_examples: dict[str, int] = field(default_factory=dict)
    origin: ResultsTable | None = None

    @property
    def table(self) -> Methods:
        """The methods that there are in the study: the built-in ones, and its own."""
        return table_in(self.spec)


_FINDINGS = TypeAdapter(Findings)


def write_findings(path: Path, findings: Findings) -> None:
    """Write ``findings`` atomically as JSON, NaN as null; equal findings give equal bytes."""
    write_atomically(path, _FINDINGS.dump_json(findings, indent=1) + b"\n")


def read_findings(path: Path) -> Findings:
    """Read what `write_findings` wrote.

    Raises:
        FindingsError: no such file, or not the findings of this version.
    """
    remedy = "delete it and have it rebuilt from the records beside it"
    try:
        return _FINDINGS.validate_json(path.read_bytes())
    except OSError as error:
        raise FindingsError(f"{path} can't be read: {error.strerror}; {remedy}.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        given = f" ({first['input']} was given)" if first["loc"] == ("version",) else ""
        raise FindingsError(
            f"{path} holds no findings of this version: {where}{first['msg']}{given}; {remedy}."
        ) from error
