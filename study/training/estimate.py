"""Times that are measured on the spot: how long a study will take, and a step of each family for budget T."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from study.data import load_data
from study.plan.cells import Cell, Search, cells, searches, sizes
from study.plan.replicates import Replicate, replicate_of
from study.records import Job, RunRecord
from study.specs.contenders import kinds_read
from study.specs.spec import SpecError, StudySpec
from study.specs.tasks import entry_of, is_own_task
from study.tasks import Task, build_task
from study.tasks.examples import Resident, examples_of
from study.training.building import adapted, build_optimizer
from study.training.features import COST as FEATURES_COST
from study.training.miniature import LIGHT, Size, first_job, run_in_miniature
from study.training.train import take_step
from study.training.trial import TRAIN_METRICS_SIZE, curve_epochs
from wasam_core.bare_torch import AnyBatchNorm

_TIMED_STEPS = 10
_EVALUATED = 1000  # examples of a part, at most
_REPEATS = 2  # the faster counts: others use the machine, too
_TIMING_S = 5.0  # a network for GPUs is timed on a few examples: one batch may take a CPU minutes, and its memory
_ENGINE_S = 0.02  # from one run of an actor to its next, as measured in the study "quick"


@dataclass(frozen=True, slots=True)
class Pace:
    """What a run of a cell takes, on one thread.

    Attributes:
        gradient_s, forward_s: Seconds of a gradient evaluation and of a forward evaluation, each with reading the
            example; the steps of the optimizer and of the averages count for the first, the metrics for the second.
        run_s: Seconds besides: to build the task and what it is trained with, and what the engine takes.
        train, val, test: Examples of the parts; a user's own test part, which nobody opens here, counts like ``val``.
        statistics: Training examples that BatchNorm sees anew for each average; 0 without BatchNorm.
    """

    gradient_s: float
    forward_s: float
    run_s: float
    train: int
    val: int
    test: int
    statistics: int


def estimated_seconds(
    spec: StudySpec, slots: int, replicates: Sequence[Replicate] | None = None
) -> tuple[float, float]:
    """Return the estimated seconds of a study on ``slots`` CPUs, for the least number of runs and for the most.

    Args:
        spec, slots: The study, and runs side by side, one thread each.
        replicates: Those to run; None: all that the spec plans.

    Raises:
        SpecError: a task is a loop, of which nobody knows what a step takes.
    """
    if spec.loops:
        raise SpecError(f"nobody but {next(iter(spec.loops))} knows what a step of that loop takes")
    data = {task: load_data(task) for task in {cell.task for cell in cells(spec)}}
    paces = {cell.name: pace_of(spec, cell, data[cell.task]) for cell in cells(spec)}
    seconds = [0.0, 0.0]
    for size in sizes(spec, replicates):
        pace = paces[size.search.cell.name]
        each = pace.run_s + pace.forward_s * forward_evaluations(spec, size.search, size.stage, pace)
        for end in (0, 1):
            seconds[end] += size.gradient_evaluations[end] * pace.gradient_s + size.runs[end] * each
    if spec.features:  # of one run of every cell in each replicate
        planned = spec.replicates if replicates is None else len(replicates)
        described = planned * FEATURES_COST * sum(pace.gradient_s for pace in paces.values())
        seconds = [end + described for end in seconds]
    return seconds[0] / slots, seconds[1] / slots


def pace_of(spec: StudySpec, cell: Cell, data: Any) -> Pace:
    """Time runs of a cell in miniature: of one step and of some, so that what a run takes besides is told apart."""
    search = next(one for one in searches(spec, [replicate_of(spec, 1)]) if one.cell.name == cell.name)
    job = first_job(spec, search)
    batch = int(cell.factors["batch_size"])
    with _threads(1):
        clock = time.perf_counter if is_own_task(cell.task) else time.process_time  # a user's may read files
        began = clock()
        task = build_task(cell.task, data, cell.factors, seed=0, test_seed=0)
        building_s = clock() - began
        one = many = _run_as_if_alone(job, task, LIGHT)
        if one.wall_s * batch / LIGHT.train * _TIMED_STEPS < _TIMING_S:
            one, many = (
                min((_run_as_if_alone(job, task, size) for _ in range(_REPEATS)), key=lambda record: record.wall_s)
                for steps in (1, 1 + _TIMED_STEPS)
                for size in [Size(steps * batch, _EVALUATED, batch, 1)]
            )
    more = many.gradient_evaluations - one.gradient_evaluations
    if more > 0 and many.train_s > one.train_s:
        gradient_s = (many.train_s - one.train_s) / more
    else:
        gradient_s = many.train_s / max(1, many.gradient_evaluations)
    val = len(examples_of(task.val, "val"))
    recalibrated = any(isinstance(one, AnyBatchNorm) and one.track_running_stats for one in task.model.modules())
    return Pace(
        gradient_s=gradient_s,
        forward_s=many.evaluate_s / max(1, many.forward_evaluations),
        run_s=building_s + max(0.0, one.train_s - one.gradient_evaluations * gradient_s) + _ENGINE_S,
        train=int(cell.factors["train_size"]),
        val=val,
        test=entry_of(cell.task).test_size or val,
        statistics=int(cell.factors["train_size"]) if recalibrated else 0,
    )


def _run_as_if_alone(job: Job, task: Task, size: Size) -> RunRecord:
    """Run in miniature, and return the record with the times that it would have taken on a machine of its own.

    Of tensors in memory one thread does all the work, and where it had no CPU others had it. What is read as it goes
    waits for other things than CPUs, too: its times stand as they are.
    """
    began, began_cpu = time.perf_counter(), time.process_time()
    record = run_in_miniature(job, task, size)
    share = min(1.0, (time.process_time() - began_cpu) / max(1e-9, time.perf_counter() - began))
    if not isinstance(examples_of(task.train, "train"), Resident):
        return record
    return record.model_copy(
        update={name: share * getattr(record, name) for name in ("train_s", "evaluate_s", "wall_s")}
    )


def forward_evaluations(spec: StudySpec, search: Search, stage: str, pace: Pace) -> float:
    """Return the forward evaluations of a run, about: the mean over those whom it may serve."""
    serving = (search.contenders,) if stage == "tune" else tuple((one,) for one in search.contenders)
    found = []
    for some in serving:
        job = first_job(spec, search).model_copy(update={"reads": kinds_read(some)})
        points = len(curve_epochs(job.epochs)) if stage == "confirm" or "best" in job.reads else 1
        started = {max(1, int(float(name.partition("@")[2]) * job.epochs)) for name in job.averages if "swa" in name}
        averages = len(started) + sum("swa" not in name for name in job.averages)
        forwards = points * pace.val + averages * (pace.val + pace.statistics)
        if stage == "confirm":
            forwards += len(job.reads) * (pace.test + min(TRAIN_METRICS_SIZE, pace.train))
        found.append(forwards)
    return statistics.fmean(found)


def reference_times(spec: StudySpec) -> dict[str, float]:
    """Measure a step of each family, in those of ``base`` or, without it, the first: alone, one thread, before any run.

    The median over the study's cells; in each cell the families take turns, so that the machine's mood hits all alike.
    """
    data = {task: load_data(task) for task in {cell.task for cell in cells(spec)}}
    ratios: dict[str, list[float]] = {}
    for cell in cells(spec):
        seconds = _step_seconds(cell, spec, data[cell.task])
        unit = seconds.get("base", next(iter(seconds.values())))
        for family, taken in seconds.items():
            ratios.setdefault(family, []).append(taken / unit)
    return {family: round(statistics.median(found), 2) for family, found in ratios.items()}


def _step_seconds(cell: Cell, spec: StudySpec, data: Any) -> dict[str, float]:
    """Return the median time of a step by family, perturbed wherever the family perturbs.

    It is the CPU time of the one thread that works: others who use the machine would be in any other.
    """
    steps: dict[str, Callable[[], object]] = {}
    for search in searches(spec, [replicate_of(spec, 1)]):
        if search.cell.name == cell.name and search.family not in steps:
            task = build_task(cell.task, data, cell.factors, seed=0, test_seed=0)
            model, batch = adapted(task), _batch(task, cell)
            optimizer = build_optimizer(first_job(spec, search), model, task)
            steps[search.family] = partial(take_step, model, optimizer, *batch, task.training_loss or task.loss)
    taken: dict[str, list[float]] = {family: [] for family in steps}
    with _threads(1):
        for _ in range(_TIMED_STEPS):
            for family, step in steps.items():
                began = time.thread_time()
                step()
                taken[family].append(time.thread_time() - began)
    return {family: statistics.median(times) for family, times in taken.items()}


def _batch(task: Task, cell: Cell) -> tuple[Any, Any]:
    return next(examples_of(task.train, "train").batches(int(cell.factors["batch_size"])))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside the block, as a run on so many CPUs does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
