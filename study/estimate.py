"""Times that are measured on the spot: how long a study will take, and a step of each family for budget T."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional

from study.models import build_model
from study.plan import Cell, cells, searches, sizes, tune_job
from study.proposals import propose
from study.spec import StudySpec
from study.tasks import POOLS, Pool
from study.train import take_step
from study.trial import build_optimizer

_TIMED_STEPS = 10
_EVALUATION_SHARE = 0.2  # measuring and averaging, beside the training steps


def estimated_seconds(spec: StudySpec, end: int, slots: int) -> float:
    """Return the estimated seconds of a study on ``slots`` CPUs.

    Args:
        spec: The study.
        end: 0 for the least number of runs, 1 for the most.
        slots: Runs side by side, one thread each.
    """
    pools = {cell.task: POOLS[cell.task]() for cell in cells(spec)}
    seconds = {cell.name: seconds_per_gradient(cell, pools[cell.task]) for cell in cells(spec)}
    work = sum(size.gradient_evaluations[end] * seconds[size.search.cell.name] for size in sizes(spec))
    return work * (1 + _EVALUATION_SHARE) / slots


def reference_times(spec: StudySpec) -> dict[str, float]:
    """Measure a step of each family, in those of the ``base`` family: alone, on one thread, before any run.

    The median over the study's cells; in each cell the families take turns, so that the machine's mood hits all alike.
    """
    pools = {cell.task: POOLS[cell.task]() for cell in cells(spec)}
    ratios: dict[str, list[float]] = {}
    for cell in cells(spec):
        seconds = _step_seconds(cell, spec, pools[cell.task])
        for family, taken in seconds.items():
            ratios.setdefault(family, []).append(taken / seconds["base"])
    return {family: round(statistics.median(found), 2) for family, found in ratios.items()}


def _step_seconds(cell: Cell, spec: StudySpec, pool: Pool) -> dict[str, float]:
    """Return the median time of a step by family, perturbed wherever the family perturbs."""
    batch = int(cell.factors["batch_size"])
    inputs, labels = torch.from_numpy(pool.inputs[:batch]), torch.from_numpy(pool.labels[:batch])
    space = spec.search.model_copy(update={"sampler": "qmc", "unperturbed_share": 0.0})
    steps = {}
    for search in searches(spec):
        if search.cell.name != cell.name or search.family in steps:
            continue
        model = build_model(cell.factors, pool.inputs.shape[1:], pool.classes, seed=0)
        job = tune_job(spec, search, 0, propose(space, search, 0, []))
        steps[search.family] = (model, build_optimizer(job, model))
    taken: dict[str, list[float]] = {family: [] for family in steps}
    with _one_thread():
        for _ in range(_TIMED_STEPS):
            for family, (model, optimizer) in steps.items():
                began = time.perf_counter()
                take_step(model, optimizer, inputs, labels)
                taken[family].append(time.perf_counter() - began)
    return {family: statistics.median(times) for family, times in taken.items()}


def seconds_per_gradient(cell: Cell, pool: Pool) -> float:
    """Time forward and backward on one thread, per example, the fastest of a few steps."""
    model = build_model(cell.factors, pool.inputs.shape[1:], pool.classes, seed=0)
    batch = int(cell.factors["batch_size"])
    inputs, labels = torch.from_numpy(pool.inputs[:batch]), torch.from_numpy(pool.labels[:batch])
    times = []
    with _one_thread():
        for _ in range(_TIMED_STEPS):
            began = time.perf_counter()
            functional.cross_entropy(model(inputs), labels).backward()
            times.append(time.perf_counter() - began)
    return min(times) / batch


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block, as a run on one CPU does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
