"""What a whole run costs beside its bare training steps.

    python tests/benchmarks/bench_run.py

A run is everything that a worker does for a job: it builds the task, trains, feeds the averages, measures the curve,
recalibrates BatchNorm for every average and evaluates it, and makes its record. The bare steps are as many steps of the
same optimizer on one batch that is at hand. In one process, on one thread, an epoch of the run and as many bare steps
follow each other (of ``fashion-whole``, one in ten, counted tenfold); seconds are CPU time, and the figure is the
median of the ratios within turns. The parts say where the time went, as shares of the bare steps.

``fashion`` is the cell of the built-in study of that name, 1,000 images; ``fashion-whole`` the task by its own
defaults, 54,000 images and 10 epochs: ten minutes a turn, and twenty for SAM.
"""

import argparse
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from conditions import header

from study.data import TaskError, load_data
from study.plan.cells import steps_per_epoch
from study.records import FactorValue, Job
from study.specs.tasks import default_factors
from study.tasks import build_task
from study.tasks.examples import examples_of
from study.training import trial
from study.training.building import adapted, build_optimizer
from study.training.heap import keep_freed_memory
from study.training.measure import Evaluator
from study.training.train import take_step
from study.training.trial import Run

CELLS: dict[str, tuple[str, dict[str, FactorValue]]] = {
    "digits": ("digits", {}),
    "mnist1d": ("mnist1d", {}),
    "fashion": ("fashion", {"train_size": 1000, "epochs": 20}),
    "fashion-whole": ("fashion", {}),
}
STARTS = {"fashion": (0.5, 0.75)}
ONE_IN = {"fashion-whole": 10}  # bare steps
PARTS: dict[str, tuple[Any, str]] = {
    "building the task": (trial, "build_task"),
    "steps": (trial, "train"),
    "BatchNorm passes": (trial, "recalibrate_batchnorm"),
    "metrics": (Evaluator, "measure"),
}


def job_of(cell: str, family: str, stage: str) -> Job:
    """Return a job of one of `CELLS`."""
    task, factors = CELLS[cell]
    return Job.model_validate(
        {
            "stage": stage, "cell": cell, "task": task, "family": family, "epochs_factor": 1, "seed": 1000,
            "factors": default_factors(task) | factors, "learning_rate": 0.05,
            "rho": 0.1 if family == "sam" else 0.0, "average_start": 0.7, "trial": 0 if stage == "tune" else None,
            "average_starts": STARTS.get(task, (0.5, 0.6, 0.75, 0.9)),
            "reads": ("last", "best", "swa"),
        }
    )  # fmt: skip


def bare_steps(job: Job, data: Any) -> Callable[[int], None]:
    """Return what takes so many steps of a job and does nothing else."""
    task = build_task(job.task, data, job.factors, job.seed, job.test_seed)
    model = adapted(task).train()
    optimizer = build_optimizer(job, model)
    inputs, targets = next(examples_of(task.train, "train").batches(int(job.factors["batch_size"])))

    def take(steps: int) -> None:
        for _ in range(steps):
            take_step(model, optimizer, inputs, targets, task.loss)

    return take


@contextlib.contextmanager
def timed_parts(spent: Counter[str]) -> Iterator[None]:
    """Add up the CPU time of the parts of a run inside the block."""
    with contextlib.ExitStack() as stack:
        for name, (module, function) in PARTS.items():
            stack.enter_context(mock.patch.object(module, function, _timed(getattr(module, function), name, spent)))
        yield


def _timed(function: Callable[..., Any], name: str, spent: Counter[str]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            found = function(*arguments, **options)
        finally:
            spent[name] += time.process_time() - began  # type: ignore[assignment]  # seconds
        return _timed_iterator(found, name, spent) if isinstance(found, Iterator) else found

    return wrapped


def _timed_iterator(source: Iterator[Any], name: str, spent: Counter[str]) -> Iterator[Any]:
    while True:
        began = time.process_time()
        try:
            value = next(source)
        except StopIteration:
            return
        finally:
            spent[name] += time.process_time() - began  # type: ignore[assignment]  # seconds
        yield value


def main() -> None:
    """Print a line for every task, family and stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cells", nargs="+", default=["digits", "mnist1d", "fashion"], choices=CELLS)
    parser.add_argument("--families", nargs="+", default=["base", "sam"], choices=("base", "sam"))
    parser.add_argument("--stages", nargs="+", default=["tune", "confirm"], choices=("tune", "confirm"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as a worker does
    print(f"{header()}\none thread, CPU time, {options.turns} turns\n")
    for cell in options.cells:
        try:
            data = load_data(CELLS[cell][0])
        except TaskError as error:
            print(f"{cell}: left out: {error}")
            continue
        for family in options.families:
            for stage in options.stages:
                _report(job_of(cell, family, stage), data, options.turns)


def _report(job: Job, data: Any, turns: int) -> None:
    ratios, spent, pure = [], Counter[str](), 0.0
    bare = bare_steps(job, data)
    for _ in range(turns):
        with timed_parts(spent):
            whole_s, steps_s = _turn(job, data, bare)
        ratios.append(whole_s / steps_s)
        pure += steps_s
    shares = ", ".join(f"{name} {seconds / pure:.3f}" for name, seconds in spent.items())
    print(
        f"{job.cell:13} {job.family:5} {job.stage:8} {pure / turns:6.2f} s of bare steps; whole run "
        f"{statistics.median(ratios):.3f} x ({min(ratios):.3f} to {max(ratios):.3f}); {shares}",
        flush=True,
    )


def _turn(job: Job, data: Any, bare: Callable[[int], None]) -> tuple[float, float]:
    """Return the seconds of a run and those of as many bare steps, an epoch after the other."""
    began = time.process_time()
    run = Run(job, data, "cpu", "0")
    whole_s, steps_s, one_in, ended = time.process_time() - began, 0.0, ONE_IN.get(job.cell, 1), False
    while not ended:
        began = time.process_time()
        ended = run.advance(0.0)
        between = time.process_time()
        bare(steps_per_epoch(job) // one_in)
        whole_s, steps_s = whole_s + between - began, steps_s + (time.process_time() - between) * one_in
    return whole_s, steps_s


if __name__ == "__main__":
    main()
