"""Caveats: what could change the conclusion, each as a plain sentence bound to a rule."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from study.findings.content import Caveat, DeltaStrip, RunCounts, ScoreUnit
from study.findings.evidence import Evidence, Tried
from study.findings.loops import caveats_of_loops
from study.findings.units import FRACTION
from study.plan.cells import search_name
from study.records import changed_files
from study.specs.budgets import Spending, named
from study.specs.spec import StudySpec
from study.stats import Effect
from study.stats.effects import FEW_REPLICATES, MIN_UNITS

_CONSEQUENCES = {
    "failed": "failed and measured nothing",
    "diverged": "diverged and count at chance level",
    "pruned": "were pruned: stopped early and out of the running, which is hard on what gains late",
}


def caveats_of(
    evidence: Evidence,
    counts: RunCounts,
    effects: Sequence[Effect],
    strips: Iterable[DeltaStrip],
    extended_from: int = 0,
) -> list[Caveat]:
    """Return every caveat of a study: about its design and its runs, then about the verdicts, then about the search."""
    primary = [strip for strip in strips if strip.budget == evidence.spec.primary_budget]
    return [
        *_design(evidence.spec, extended_from),
        *_unfinished(counts),
        *_changed_tasks(evidence),
        *_unpaired_streams(evidence),
        *dict.fromkeys(caveats_of_loops(evidence)),
        *score_caveats(evidence.scores, tuple(dict.fromkeys(cell.task for cell in evidence.pooled))),
        *(caveat for status in _CONSEQUENCES for caveat in _ended_badly(status, evidence)),
        *_depending_on_budget(evidence.spec, effects),
        *(found for strip in primary for found in depending_on_delta(strip)),
        # A method that picks the same under two budgets is told once.
        *dict.fromkeys(
            found for (cell, _), tried in evidence.tried.items() for found in _at_edge(evidence, cell, tried)
        ),
    ]


def _design(spec: StudySpec, extended_from: int) -> Iterable[Caveat]:
    """Say what the design keeps a verdict from saying."""
    if spec.protocol == 1:
        detail = (
            "The study was made under protocol 1: one tuning decided, the baseline had to keep its last weights at one "
            "length, and the intervals are over seeds alone, so they are too narrow; run the question again."
        )
        yield Caveat("protocol 1", "", "", detail)
    elif spec.one_tuning:
        detail = (
            "There is one tuning: verdicts and intervals are for the hyper-parameters that one search picked, and "
            "another search may pick others."
        )
        yield Caveat("one tuning", "", "", detail)
    elif spec.replicates < FEW_REPLICATES:
        consequence = (
            "intervals are wide and lean on the gains being normal"
            if spec.replicates >= MIN_UNITS
            else f"there are estimates and no verdict, which needs {MIN_UNITS}"
        )
        yield Caveat("few replicates", "", "", f"There are {spec.replicates} replicates: {consequence}.")
    if extended_from:
        detail = (
            f"The study was extended after its first {extended_from} replicates could be looked at; looking again "
            "and again finds something where there is nothing, so its verdicts are a description. More certainty comes "
            "from a new study with another seed."
        )
        yield Caveat("extended after looking", "", "", detail)


def _unfinished(counts: RunCounts) -> Iterable[Caveat]:
    if not counts.finished:
        detail = (
            f"{counts.ended} of {counts.planned} planned runs have ended; "
            "verdicts without enough pairs stand at insufficient data and the others can still change."
        )
        yield Caveat("unfinished study", "", "", detail)


def score_caveats(scores: Mapping[str, ScoreUnit], pooled: Sequence[str]) -> Iterable[Caveat]:
    """Say where scores are of several kinds, or the negatives of a metric; ``pooled`` tasks are put together."""
    names = {
        task: f"{score.name} in {score.unit}" if score.unit not in ("", FRACTION) else score.name
        for task, score in scores.items()
    }
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{name} in {task}" for task, name in names.items())
        left = [task for task in names if task not in pooled]
        consequence = (
            f"what is put together across problems is over {', '.join(pooled)} alone, whose scores measure the same"
            if left
            else "they measure the same, and problems are put together"
        )
        detail = f"The score is not the same in all tasks ({listed}); {consequence}."
        yield Caveat("scores of several kinds", "", "", detail)
    for task, score in scores.items():
        if not score.higher_is_better:
            detail = (
                f"Of the {score.name} of {task} lower is better: its score is written as its negative, and a gain is "
                "what a method takes off it."
            )
            yield Caveat("lower is better", "", "", detail)


def _changed_tasks(evidence: Evidence) -> Iterable[Caveat]:
    for task, sources in evidence.sources.items():
        if len(sources) > 1:
            first, *others = sources
            files = dict.fromkeys(name for source in others for name in changed_files(first, source))
            counts = " and ".join(f"{count}" for count in sources.values())
            detail = (
                f"The source of {task} was changed while the study was made ({', '.join(files)}): {counts} runs are of "
                "different code under one name, and a gain may be the change's; run the question anew."
            )
            yield Caveat("changed task", "", "", detail)


def _unpaired_streams(evidence: Evidence) -> Iterable[Caveat]:
    for task, seen in evidence.streams.items():
        if seen.unpaired:
            detail = (
                f"The stream of {task} gave other examples to runs of one seed, for {seen.unpaired} of "
                f"{seen.unpaired + seen.paired} seeds: there methods are not compared on equal data, which widens the "
                "intervals; have it draw what it yields from the seed."
            )
            yield Caveat("unpaired streams", "", "", detail)
        if seen.inexact:
            detail = (
                f"{seen.inexact} interrupted runs of {task} went on with other examples of its stream than they had "
                "seen before: they did not end as they would have without a break."
            )
            yield Caveat("unpaired streams", "", "", detail)


def _ended_badly(status: str, evidence: Evidence) -> Iterable[Caveat]:
    """Yield one caveat per method that had runs of this status; methods that share runs share their count."""
    spec = evidence.spec
    for method in spec.methods:
        own = {(cell, one): tried for (cell, one), tried in evidence.tried.items() if one.method == method}
        ended = {found.run.run_id: found.run.status for tried in own.values() for _, found in tried.by_unit}
        searched = {
            (number, cell, search_name(spec, one), length)
            for (cell, one), number in itertools.product(own, evidence.replicates)
            for length in one.lengths
        }
        tuning = Counter[str]()
        for key in searched & evidence.tuned.keys():
            tuning.update(evidence.tuned[key].statuses)
        shares = [
            f"{runs[status]} of {runs.total()} {stage} runs ({runs[status] / runs.total():.1%})"
            for stage, runs in (("confirm", Counter[str](ended.values())), ("tuning", tuning))
            if runs[status]
        ]
        if shares:
            detail = f"{method}: {' and '.join(shares)} {_CONSEQUENCES[status]}."
            yield Caveat(f"{status} runs", "", method, detail)


def _depending_on_budget(spec: StudySpec, effects: Iterable[Effect]) -> Iterable[Caveat]:
    """Compare budgets where they differ and both have enough data."""
    by_budget: dict[tuple[str, str], dict[Spending, str]] = {}
    for effect in effects:
        if effect.verdict != "insufficient data":
            by_budget.setdefault((effect.cell, effect.method), {})[effect.budget] = effect.verdict
    for (cell, method), verdicts in by_budget.items():
        if len(set(verdicts.values())) > 1:
            ceiling = None if spec.protocol == 1 else spec.gradient_ceiling
            words = ", and ".join(f"{found} at {named(budget, ceiling).name}" for budget, found in verdicts.items())
            detail = f"The verdict on {method} in {cell} is: {words}."
            yield Caveat("verdict depends on budget", cell, method, detail)


def depending_on_delta(strip: DeltaStrip) -> Iterable[Caveat]:
    """Warn if half or twice δ gives another verdict; any verdict changes when δ moves far enough."""
    _, half, chosen, double, _ = (found for _, found in strip.verdicts)
    if {half, chosen, double} != {chosen}:
        detail = (
            f"The verdict on {strip.method} in {strip.cell} is: {chosen} at the chosen delta, "
            f"{half} at half of it, and {double} at twice it."
        )
        yield Caveat("verdict depends on delta", strip.cell, strip.method, detail)


def _at_edge(evidence: Evidence, cell: str, tried: Tried) -> Iterable[Caveat]:
    """Say how often a value was picked at the edge of its range, where that happened in half of the replicates."""
    picked = list(tried.selections.values())
    for name, times in Counter(name for chosen in picked for name in chosen.at_edge).items():
        if 2 * times < len(picked):
            continue
        searched = evidence.spec.range_of(name, tried.contender.family)
        often = f"in {times} of {len(picked)} replicates " if len(picked) > 1 else ""
        detail = (
            f"Validation picked {name} for {tried.contender.name} in {cell} {often}at the edge of the searched range "
            f"from {searched.low:g} to {searched.high:g}; a better value may lie outside."
        )
        yield Caveat("edge of the search space", cell, tried.contender.method, detail)
