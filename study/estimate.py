"""How long a study will take, estimated from a few training steps that are timed on the spot."""

import time

import torch
from torch.nn import functional

from study.models import build_model
from study.plan import Cell, cells, sizes
from study.spec import StudySpec
from study.tasks import POOLS, Pool

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


def seconds_per_gradient(cell: Cell, pool: Pool) -> float:
    """Time forward and backward on one thread, per example, the fastest of a few steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = build_model(cell.factors, pool.inputs.shape[1:], pool.classes, seed=0)
        batch = int(cell.factors["batch_size"])
        inputs, labels = torch.from_numpy(pool.inputs[:batch]), torch.from_numpy(pool.labels[:batch])
        times = []
        for _ in range(_TIMED_STEPS):
            began = time.perf_counter()
            functional.cross_entropy(model(inputs), labels).backward()
            times.append(time.perf_counter() - began)
        return min(times) / batch
    finally:
        torch.set_num_threads(threads)
