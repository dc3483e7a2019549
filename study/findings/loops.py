"""What a reader has to know of loops of the user's own: they train and measure by themselves."""

from collections.abc import Iterable

from study.findings.content import Caveat
from study.findings.evidence import Evidence
from study.plan.cells import Cell
from study.records import RunRecord
from study.specs.contenders import baselines, contender, others_of

_ROUNDED = 1.01  # counts may differ by a last, smaller batch


def caveats_of_loops(evidence: Evidence) -> Iterable[Caveat]:
    """Yield what could change the conclusion about the loops of a study."""
    loops = {cell.task: cell for cell in reversed(evidence.cells) if cell.task in evidence.spec.loops}
    for task in loops:
        detail = (
            f"{task} is a loop of its own: scores, tests and counts of gradient evaluations are taken as it reports "
            "them, one test a run; its weights are neither probed nor compared along lines, and those of one run are "
            "not held against each other."
        )
        yield Caveat("own loop", "", "", detail)
        if "best" in evidence.spec.weights and "best" not in evidence.spec.loops[task]:
            detail = (
                f"{task} keeps no checkpoint: there, methods are held against the last weights of their baselines "
                "alone, and a baseline that keeps its best epoch may do better."
            )
            yield Caveat("no best epoch", "", "", detail)
        yield from _not_the_best(evidence, task)
    for cell in evidence.cells:
        if cell.task in loops and "G" in evidence.spec.budgets:
            yield from _over_the_ceiling(evidence, cell)


def _not_the_best(evidence: Evidence, task: str) -> Iterable[Caveat]:
    """Count the runs whose checkpoint scores below an epoch that they have reported."""
    cells = {cell.name for cell in evidence.cells if cell.task == task}
    runs = {
        found.run.run_id: found.run
        for (cell, _), tried in evidence.tried.items()
        if cell in cells
        for _, found in tried.by_unit
        if found.run.status == "completed" and "best" in found.run.job.reads
    }
    worse = sum(map(_is_behind, runs.values()))
    if worse:
        detail = (
            f"In {worse} of {len(runs)} confirm runs of {task} the checkpoint that it calls best scores below an epoch "
            "that it has reported, on validation: what methods are held against is weaker than it could be."
        )
        yield Caveat("best is not the best", "", "", detail)


def _is_behind(run: RunRecord) -> bool:
    best = max((one.val_score or 0.0 for one in run.measurements if one.weights == "best"), default=0.0)
    return any(one.weights == "last" and (one.val_score or 0.0) > best for one in run.measurements)


def _over_the_ceiling(evidence: Evidence, cell: Cell) -> Iterable[Caveat]:
    """Say which methods spent more than budget G allows, as their runs have counted it."""
    spec = evidence.spec.as_of(cell.task)
    for method in others_of(spec):
        base = evidence.of(cell.name, baselines(spec, method, "E")[0])
        allowed = spec.gradient_ceiling * base.gradient_evaluations()
        for one in (contender(spec, method, "G"), *baselines(spec, method, "G")):
            spent = evidence.of(cell.name, one).gradient_evaluations()
            if spent > _ROUNDED * allowed:
                detail = (
                    f"{one.name} reported {spent:,.0f} gradient evaluations a run in {cell.name}, where budget G "
                    f"allows {allowed:,.0f}: {spec.gradient_ceiling:g}× those of {base.contender.name}."
                )
                yield Caveat("over the ceiling", cell.name, method, detail)
