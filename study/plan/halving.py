"""Halving: which tune runs are stopped early, as a pure function of the spec and of the records of earlier runs.

Only where a spec asks for it, with ``pruner = "asha"``. The rule is that of asynchronous successive halving: at a rung
a run goes on if its score is among the best third of those seen there. Which are seen is another matter: here it is
the trials of *earlier batches* of the same search, not whichever happen to have got that far. So what a run must reach
is known before it starts and travels in its job; neither timing nor slots nor an interruption can change it. A run
that was stopped is never continued.

Learning curves cross and averaging starts late, so early stopping is biased against what is studied here. Three things
limit that: the first rung is not before the last of all averages has started (`SearchSpace.rungs`); at a rung the
averages are measured too, and a run that serves several methods goes on for the sake of any of them; and the first
batch always runs to its end. The findings say how many runs were pruned.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934, algorithm 2.
Differs from: it, in which runs are compared, in a factor of 3 (there 4), and in that a third is rounded up.
"""

import math
from collections.abc import Iterable, Sequence

from study.plan.cells import Search
from study.plan.selection import preferred_at
from study.records import Job, Measurement, RunRecord
from study.specs.contenders import Contender
from study.specs.space import REDUCTION
from study.specs.spec import StudySpec

_AND = "+"  # between the kinds of weights of a contender


def with_rungs(spec: StudySpec, search: Search, job: Job, earlier: Sequence[RunRecord]) -> Job:
    """Return a tune job with the rungs at which it is measured, and what it must reach there.

    Args:
        spec: The study.
        search: Whose trial the job is.
        job: The job of the bare proposal.
        earlier: The records of all trials of earlier batches of that search.
    """
    rungs = spec.search.rungs(spec.average_starts, job.epochs)
    wanted = tuple(entry for epoch in rungs for entry in _wanted(epoch, search.contenders, earlier))
    return job.model_copy(update={"rungs": rungs, "stop_below": wanted}) if rungs else job


def _wanted(epoch: int, some: Iterable[Contender], earlier: Sequence[RunRecord]) -> list[tuple[int, str, float]]:
    """Return what is wanted at a rung for each contender's kinds of weights; nothing if not known for all of them."""
    levels = {_AND.join(one.reads): _level(epoch, one.reads, earlier) for one in some}
    known: list[tuple[int, str, float]] = [
        (epoch, kinds, level) for kinds, level in levels.items() if level is not None
    ]
    return known if len(known) == len(levels) else []


def _level(epoch: int, reads: Sequence[str], earlier: Sequence[RunRecord]) -> float | None:
    """Return the score of the last of the best third of the earlier trials that reached a rung; None without."""
    seen = sorted((score for record in earlier if (score := _score(epoch, reads, record)) is not None), reverse=True)
    level = seen[math.ceil(len(seen) / REDUCTION) - 1] if seen else -math.inf
    return level if math.isfinite(level) else None


def _score(epoch: int, reads: Sequence[str], record: RunRecord) -> float | None:
    """Return the validation score at a rung; a diverged run is below all others, one that did not get there is None."""
    if record.status == "diverged":
        return -math.inf
    best = preferred_at(record.measurements, epoch).of(reads)
    return best.val_score if best else None


def stopped(job: Job, epoch: int, measurements: Iterable[Measurement]) -> bool:
    """Tell whether a run ends at a rung: whatever weights a contender may read, they lie below what is wanted there."""
    wanted = [(kinds, level) for at, kinds, level in job.stop_below if at == epoch]
    preferred = preferred_at(measurements, epoch)
    return bool(wanted) and all(_below(level, preferred.of(kinds.split(_AND))) for kinds, level in wanted)


def _below(level: float, best: Measurement | None) -> bool:
    return best is not None and best.val_score is not None and best.val_score < level
