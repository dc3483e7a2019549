"""Records that stand for runs that were not made: what another run of their kind has measured, a little moved.

With them a study is followed to its last page before its first run. Without torch: the driver does it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from study.plan.agenda import Agenda
from study.plan.cells import Cell, cells, gradient_evaluations
from study.plan.selection import preferred_at
from study.records import METRICS, Job, Measurement, RunRecord, kind_of
from study.specs.contenders import contenders, trials_at
from study.specs.methods import methods_reading
from study.specs.problems import Problem
from study.specs.spec import StudySpec
from study.stats.effects import MIN_UNITS

_MOVED = 1e-3  # the share by which numbers differ at most, towards 0: an accuracy stays one
_UNTESTED: dict[str, Any] = dict.fromkeys(name for name in METRICS if not name.startswith("val_"))
_MIDDLING: dict[str, Any] = dict.fromkeys(METRICS, 0.5)
_MOST_CELLS = 12
_TRIALS = 4


def rehearsed(spec: StudySpec, record_of: Callable[[Job, str], RunRecord]) -> tuple[StudySpec, list[RunRecord]]:
    """Return a smaller study of the same cells and methods, and all of its records, in the agenda's order.

    ``record_of`` makes a record of a job and of the smaller study's hash.
    """
    small = _smaller(spec)
    agenda = Agenda(small)
    while job := agenda.next_job():
        agenda.complete(record_of(job, small.hash))
    return small, agenda.records


def _smaller(spec: StudySpec) -> StudySpec:
    """Return the study with no more trials, replicates and confirm seeds than it takes to say all that it would."""
    enough = range(min(_TRIALS, spec.search.trials), spec.search.trials + 1)
    lengths = {length for one in contenders(spec) for length in one.lengths}
    searches = (spec.search.model_copy(update={"trials": trials, "sampler": "qmc"}) for trials in enough)
    sized = (spec.model_copy(update={"search": search}) for search in searches)
    small = next(one for one in sized if all(trials_at(one, length) for length in lengths))
    deltas = {problem.task: problem.delta for problem in reversed(spec.problems)}
    problems = tuple(
        Problem.model_construct(task=cell.task, factors=dict(cell.factors), delta=deltas[cell.task])
        for cell in shown(cells(spec), _MOST_CELLS)
    )
    units = {"replicates": min(spec.replicates, MIN_UNITS)}
    units["confirms"] = min(spec.confirms, MIN_UNITS if spec.one_tuning else 1)
    return small.model_copy(update={"problems": problems, **units})


def shown(some: Sequence[Cell], most: int) -> list[Cell]:
    """Return cells in which each value of each factor of each task is seen; all, where these are not many."""
    if len(some) <= most:
        return list(some)
    seen: set[tuple[str, str, object]] = set()
    chosen = []
    for cell in some:
        values = {(cell.task, name, value) for name, value in cell.factors.items()}
        if not values <= seen:
            chosen.append(cell)
            seen |= values
    return chosen


def stand_in(job: Job, spec_hash: str, like: RunRecord | None) -> RunRecord:
    """Return a record of a job.

    Args:
        job, spec_hash: The job, and of its study.
        like: A run of the same cell, family and stage that reads all kinds of weights which the job reads, with
            whatever is fixed otherwise; None, where there is none, makes every number one half.
    """
    rng = np.random.default_rng(int(job.run_id, 16))
    ends = [one for one in like.measurements if one.epoch == like.last_epoch] if like else []
    known = {kind_of(one.weights): one for one in sorted(ends, key=lambda one: one.test_score is not None)}
    final = []
    for name in ("last", *(("best",) if "best" in job.reads else ()), *job.averages):
        found = known.get(kind_of(name)) or Measurement(weights=name, epoch=1, **_MIDDLING)
        stands = job.epochs if name == "best" else None
        final.append(replace(_moved(found, rng), weights=name, epoch=job.epochs, weights_epoch=stands))
    preferred = preferred_at(final, job.epochs)
    tested = preferred.by_kind if job.stage == "confirm" else {}
    if job.tested_of and (one := preferred.of(job.tested_of)):
        tested = {kind_of(one.weights): one}
    names = {kind: one.weights for kind, one in tested.items()}
    final = [one if one.weights in names.values() else replace(one, **_UNTESTED) for one in final]
    before = [replace(final[0], epoch=job.epochs // 2, **_UNTESTED)] if job.epochs > 1 else []
    made: dict[str, Any] = {
        "run_id": job.run_id, "spec_hash": spec_hash, "job": job, "replicate": job.replicate,
        "method": methods_reading(job)["last"], "status": "completed", "measurements": (*before, *final),
        "gradient_evaluations": gradient_evaluations(job), "device": "cpu",
    }  # fmt: skip
    if like is None:
        return RunRecord(**made)
    made["probes"] = [
        one.model_copy(update={"weights": names[kind_of(one.weights)]})
        for one in like.probes
        if kind_of(one.weights) in names
    ]
    return RunRecord.model_validate(dict(like) | made)


def _moved(found: Measurement, rng: np.random.Generator) -> Measurement:
    """Return a measurement whose numbers differ a little."""
    values = {name: getattr(found, name) for name in METRICS}
    return replace(
        found,
        **{name: value * (1 - _MOVED * float(rng.random())) for name, value in values.items() if value is not None},
    )
