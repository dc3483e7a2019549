"""The content of ``findings.json``, the machine-readable twin of the report, and its reading and writing."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from study.files import write_atomically
from study.plan.selection import Selection
from study.stats import (
    DecayByAveraging,
    Effect,
    FactorInteraction,
    Importance,
    Interaction,
    Moderator,
    ModeratorRule,
    Optimism,
    RhoResponse,
    RhoTransfer,
    Synthesis,
    TuningCurve,
)
from study.stats.estimates import Number

FINDINGS_VERSION = 3  # 2: scores for accuracies; 3: replicates, several baselines, weights by kind
Outcome = Literal["reproduced", "contradicted", "inconclusive"]


class FindingsError(ValueError):
    """Findings that can't be read; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Runs of a study: how many the plan holds and how they ended."""

    planned: int
    completed: int
    diverged: int
    failed: int
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
        mean_gain: Mean over the cells of pooled tasks of the mean gain under the primary budget; NaN without cells.
        cost_ratio: Gradient evaluations per run ÷ those of the baseline at equal epochs; NaN without runs.
    """

    method: str
    helps: tuple[str, ...]
    helps_if_free: tuple[str, ...]
    hurts: tuple[str, ...]
    null: tuple[str, ...]
    undecided: tuple[str, ...]
    mean_gain: Number
    cost_ratio: Number


CAVEATS = (
    "protocol 1", "one tuning", "few replicates", "extended after looking", "unfinished study",
    "scores of several kinds", "lower is better", "changed task", "failed runs", "diverged runs", "pruned runs",
    "verdict depends on budget", "verdict depends on delta", "edge of the search space",
)  # fmt: skip


# What a reader has to know of how a study was made before its answer.
OF_DESIGN = ("protocol 1", "one tuning", "few replicates", "extended after looking", "changed task")


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
        """What its numbers are counted in: only scores that have it in common can be put together."""
        return self.unit or self.name


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
class DeltaStrip:
    """The verdict of one effect at other regions of practical equivalence: pairs (delta, verdict)."""

    cell: str
    method: str
    budget: str
    verdicts: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class HypothesisResult:
    """What a named claim came to.

    Attributes:
        id, claim, kind, method, other, factor, budget, expected, source: As in the spec.
        estimate: Mean over ``n`` of the quantity that the kind names: a gain or difference of gains as a fraction,
            a gain per unit of the factor (``slope``), a log ratio (``sharpness``) or nats (``barrier``).
        ci95, ci90: Student-t intervals of it. NaN below n = 2.
        margin: What counts as no material difference, in the unit of ``estimate``.
        n: How many of ``unit`` the interval is over.
        cells: Cells that the quantity is combined over.
        outcome: By the rules of `study.findings.hypotheses`.
        gradient_evaluations: What all runs cost that it rests on, tuning included, in examples.
        note: Plain sentences on what limits it or checks it; may be empty.
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
    estimate: Number
    ci95: tuple[Number, Number]
    ci90: tuple[Number, Number]
    margin: Number
    n: int
    unit: Literal["replicates", "seeds", "cells"]
    cells: int
    outcome: Outcome
    gradient_evaluations: int
    note: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a study found. Field by field the content of ``findings.json``; fractions, never points.

    ``spec`` is the study's specification as plain data, ``spec_hash`` its hash, ``versions`` the packages
    that measured, ``devices`` the devices. ``protocol`` is 2, or 1 for a study that was made before there were
    replicates. ``verdict_rules`` say what each verdict means, ``scopes`` by task what it speaks of. ``effects`` are
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
    these alone.

    ``hypotheses`` are the spec's, in its order; ``literature`` holds the published claims that a finished study without
    any of its own can speak of. ``syntheses`` (one per method × budget) and ``moderators`` look across
    cells, ``rules`` do so under the primary budget. ``tuning_curves`` (one per cell × method × multiple of the
    epochs), ``rho_transfers`` and ``importances`` describe the search on validation; ``optimism`` says how much that
    flatters.
    """

    version: int
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
    direct: tuple[Effect, ...]
    averaging: tuple[Effect, ...]
    factor_interactions: tuple[FactorInteraction, ...]
    interactions: tuple[Interaction, ...]
    decay_by_averaging: tuple[DecayByAveraging, ...]
    rho_responses: tuple[RhoResponse, ...]
    selections: tuple[Selection, ...]
    delta_strips: tuple[DeltaStrip, ...]
    caveats: tuple[Caveat, ...]
    versions: dict[str, str]
    devices: tuple[str, ...]
    descriptive: tuple[Effect, ...] = ()
    hypotheses: tuple[HypothesisResult, ...] = ()
    syntheses: tuple[Synthesis, ...] = ()
    moderators: tuple[Moderator, ...] = ()
    rules: tuple[ModeratorRule, ...] = ()
    tuning_curves: tuple[TuningCurve, ...] = ()
    rho_transfers: tuple[RhoTransfer, ...] = ()
    importances: tuple[Importance, ...] = ()
    optimism: tuple[Optimism, ...] = ()
    score_names: dict[str, str] = field(default_factory=dict)
    literature: tuple[HypothesisResult, ...] = ()
    scores: dict[str, ScoreUnit] = field(default_factory=dict)
    pooled: tuple[str, ...] = ()


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
        text = path.read_bytes()
        data = json.loads(text)
    except OSError as error:
        raise FindingsError(f"{path} can't be read: {error.strerror}; {remedy}.") from error
    except ValueError as error:
        raise FindingsError(f"{path} is not JSON: {error}; {remedy}.") from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != FINDINGS_VERSION:
        raise FindingsError(
            f"{path} holds findings of version {version}; this program reads version {FINDINGS_VERSION}; {remedy}."
        )
    try:
        return _FINDINGS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FindingsError(f"{path} is damaged: {where}: {first['msg']}; {remedy}.") from error
