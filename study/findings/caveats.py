"""Caveats: what could change the conclusion, each as a plain sentence bound to a rule."""

from collections import Counter
from collections.abc import Iterable, Sequence

from study.findings.content import Caveat, DeltaStrip, RunCounts
from study.findings.evidence import Arm, Evidence
from study.plan.cells import epochs_factors
from study.specs.budgets import BUDGETS, Budget
from study.specs.methods import METHODS
from study.specs.tasks import entry_of
from study.stats import Effect

_CONSEQUENCES = {
    "failed": "failed and measured nothing",
    "diverged": "diverged and count at chance level",
    "pruned": "were pruned: stopped early and out of the running, which is hard on what gains late",
}


def caveats_of(
    evidence: Evidence, counts: RunCounts, effects: Sequence[Effect], strips: Iterable[DeltaStrip]
) -> list[Caveat]:
    """Return every caveat of a study: about the runs, then about the verdicts, then about the search."""
    primary = [strip for strip in strips if strip.budget == evidence.spec.primary_budget]
    return [
        *_unfinished(counts),
        *_mixed_scores(evidence),
        *(caveat for status in _CONSEQUENCES for caveat in _ended_badly(status, evidence)),
        *_depending_on_budget(effects),
        *(found for strip in primary for found in _depending_on_delta(strip)),
        *(found for arm in evidence.arms.values() for found in _at_edge(evidence, arm)),
    ]


def _unfinished(counts: RunCounts) -> Iterable[Caveat]:
    if not counts.finished:
        detail = (
            f"{counts.ended} of {counts.planned} planned runs have ended; "
            "verdicts without enough pairs stand at insufficient data and the others can still change."
        )
        yield Caveat("unfinished study", "", "", detail)


def _mixed_scores(evidence: Evidence) -> Iterable[Caveat]:
    names = {cell.task: entry_of(cell.task).metric for cell in evidence.cells}
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{name} in {task}" for task, name in names.items())
        detail = (
            f"The score is not the same in all tasks ({listed}); δ and whatever is put together across problems "
            "treat a unit of one as a unit of the other."
        )
        yield Caveat("scores of several kinds", "", "", detail)


def _ended_badly(status: str, evidence: Evidence) -> Iterable[Caveat]:
    """Yield one caveat per method that had runs of this status; methods that share runs share their count."""
    for method in evidence.spec.methods:
        tuning, confirming = Counter[str](), Counter[str]()
        for cell in evidence.cells:
            for factor in epochs_factors(evidence.spec, method):
                tuning.update(evidence.search(cell.name, method, factor).statuses)
                confirming.update(evidence.arm(cell.name, method, factor).statuses())
        stages = (("confirm", confirming), ("tuning", tuning))
        shares = [
            f"{runs[status]} of {runs.total()} {stage} runs ({runs[status] / runs.total():.1%})"
            for stage, runs in stages
            if runs[status]
        ]
        if shares:
            detail = f"{method}: {' and '.join(shares)} {_CONSEQUENCES[status]}."
            yield Caveat(f"{status} runs", "", method, detail)


def _depending_on_budget(effects: Iterable[Effect]) -> Iterable[Caveat]:
    """Compare budgets where they differ and both have enough data."""
    by_budget: dict[tuple[str, str], dict[Budget, str]] = {}
    for effect in effects:
        if effect.verdict != "insufficient data":
            by_budget.setdefault((effect.cell, effect.method), {})[effect.budget] = effect.verdict
    for (cell, method), verdicts in by_budget.items():
        if len(set(verdicts.values())) > 1:
            words = ", and ".join(f"{found} at {BUDGETS[budget].name}" for budget, found in verdicts.items())
            detail = f"The verdict on {method} in {cell} is: {words}."
            yield Caveat("verdict depends on budget", cell, method, detail)


def _depending_on_delta(strip: DeltaStrip) -> Iterable[Caveat]:
    """Warn if half or twice δ gives another verdict; any verdict changes when δ moves far enough."""
    _, half, chosen, double, _ = (found for _, found in strip.verdicts)
    if {half, chosen, double} != {chosen}:
        detail = (
            f"The verdict on {strip.method} in {strip.cell} is: {chosen} at the chosen delta, "
            f"{half} at half of it, and {double} at twice it."
        )
        yield Caveat("verdict depends on delta", strip.cell, strip.method, detail)


def _at_edge(evidence: Evidence, arm: Arm) -> Iterable[Caveat]:
    chosen = arm.selection
    if chosen is None:
        return
    for name in chosen.at_edge:
        searched = evidence.spec.search.range_of(name, METHODS[chosen.method].family)
        longer = f" at {chosen.epochs_factor:g} times the epochs" if chosen.epochs_factor > 1 else ""
        detail = (
            f"Validation picked {name} = {getattr(chosen, name):.3g} for {chosen.method} in {chosen.cell}"
            f"{longer}, at the edge of the searched range from {searched.low:g} to {searched.high:g}; "
            "a better value may lie outside."
        )
        yield Caveat("edge of the search space", chosen.cell, chosen.method, detail)
