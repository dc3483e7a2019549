"""Times that are measured on the spot: how long a study will take, and a step of each family for budget T."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from study.data import load_data
from study.plan.cells import Cell, cells, searches, sizes, tune_job
from study.plan.proposals import propose
from study.plan.replicates import Replicate, replicate_of
from study.specs.spec import StudySpec
from study.tasks import Task, build_task
from study.tasks.examples import examples_of
from study.training.building import adapted, build_optimizer
from study.training.train import take_step
from wasam_core import WASAM

_TIMED_STEPS = 10
_THREADS_TIMING_S = 2.0
_TIMING_S = 5.0  # a network for GPUs is timed on a few examples: one batch may take a CPU minutes, and its memory
_FEW = 8
_EVALUATION_SHARE = 0.2  # measuring and averaging, beside the training steps


def estimated_seconds(
    spec: StudySpec, slots: int, replicates: Sequence[Replicate] | None = None
) -> tuple[float, float]:
    """Return the estimated seconds of a study on ``slots`` CPUs, for the least number of runs and for the most.

    Args:
        spec: The study.
        slots: Runs side by side, one thread each.
        replicates: Those to run; None: all that the spec plans.
    """
    data = {task: load_data(task) for task in {cell.task for cell in cells(spec)}}
    seconds = {cell.name: seconds_per_gradient(cell, data[cell.task]) for cell in cells(spec)}
    least, most = (
        sum(size.gradient_evaluations[end] * seconds[size.search.cell.name] for size in sizes(spec, replicates))
        for end in (0, 1)
    )
    return least * (1 + _EVALUATION_SHARE) / slots, most * (1 + _EVALUATION_SHARE) / slots


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
    space = spec.search.model_copy(update={"sampler": "qmc", "unperturbed_share": 0.0})
    steps: dict[str, tuple[Task, torch.nn.Module, WASAM]] = {}
    for search in searches(spec, [replicate_of(spec, 1)]):
        if search.cell.name != cell.name or search.family in steps:
            continue
        task = build_task(cell.task, data, cell.factors, seed=0, test_seed=0)
        model = adapted(task)
        job = tune_job(spec, search, 0, propose(space, search, 0, []))
        steps[search.family] = (task, model, build_optimizer(job, model))
    taken: dict[str, list[float]] = {family: [] for family in steps}
    with _threads(1):
        for _ in range(_TIMED_STEPS):
            for family, (task, model, optimizer) in steps.items():
                inputs, targets = _batch(task, int(cell.factors["batch_size"]))
                began = time.thread_time()
                take_step(model, optimizer, inputs, targets, task.training_loss or task.loss)
                taken[family].append(time.thread_time() - began)
    return {family: statistics.median(times) for family, times in taken.items()}


def step_times_by_threads(spec: StudySpec, counts: Sequence[int]) -> dict[int, float]:
    """Measure a training step with each number of threads, in steps on one thread: the median over the study's tasks.

    Numbers of threads take turns. It ends after some two seconds, or after one step of each task and number.

    Args:
        spec: The study; each task is timed in its first cell.
        counts: Numbers of threads, 1 among them.
    """
    first_cells = {cell.task: cell for cell in reversed(cells(spec))}
    ratios: dict[int, list[float]] = {count: [] for count in counts}
    for cell in first_cells.values():
        task = build_task(cell.task, load_data(cell.task), cell.factors, seed=0, test_seed=0)
        model = adapted(task)
        inputs, targets = _batch(task, int(cell.factors["batch_size"]))
        taken: dict[int, list[float]] = {count: [] for count in counts}
        began = time.perf_counter()
        while not taken[counts[-1]] or time.perf_counter() - began < _THREADS_TIMING_S / len(first_cells):
            for count in counts:
                with _threads(count):
                    step_began = time.perf_counter()
                    task.loss(model(inputs), targets).backward()
                    taken[count].append(time.perf_counter() - step_began)
        alone = min(taken[1])
        for count in counts:
            ratios[count].append(min(taken[count]) / alone)
    return {count: statistics.median(found) for count, found in ratios.items()}


def seconds_per_gradient(cell: Cell, data: Any) -> float:
    """Time forward and backward on one thread, per example, the fastest of a few steps."""
    task = build_task(cell.task, data, cell.factors, seed=0, test_seed=0)
    model = adapted(task)
    size = int(cell.factors["batch_size"])

    def seconds(examples: int) -> float:
        inputs, targets = _batch(task, examples)
        began = time.perf_counter()
        task.loss(model(inputs), targets).backward()
        return (time.perf_counter() - began) / len(targets)

    with _threads(1):
        first = seconds(min(_FEW, size))
        if first * size * _TIMED_STEPS > _TIMING_S:
            return first
        return min(seconds(size) for _ in range(_TIMED_STEPS))


def _batch(task: Task, size: int) -> tuple[Any, Tensor]:
    return next(examples_of(task.train, "train").batches(size))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside the block, as a run on so many CPUs does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
