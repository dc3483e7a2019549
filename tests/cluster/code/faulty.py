"""A small task of a user's own that breaks on demand, once or always. It runs in the workers; no test imports it."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import ray
import torch
from torch import nn
from torch.nn import functional

from study.tasks import Task, classification


def build(seed: int, factors: Mapping[str, object]) -> Task:
    """Return a linear two-class problem.

    Args:
        seed: Root seed of the run.
        factors: ``fault`` is what happens, and ``marks`` the folder in which it is noted that it did, where each run
            leaves a file with a dot per batch, and where a file named ``slow`` makes it take a while.
    """
    marks = Path(str(factors["marks"]))
    fault = str(factors["fault"])
    if fault == "out of memory always" or (fault == "out of memory once" and _first(marks / f"oom-{seed}")):
        raise MemoryError
    if fault == "hang once" and _first(marks / f"hang-{seed}"):
        (marks / f"hang-{seed}").write_text(str(os.getpid()))
        time.sleep(600)
    if fault == "toil":
        _toil(marks / f"toil-{seed}")
    if fault == "meet":  # two runs wait for each other, so they are sure to run side by side
        (marks / f"here-{seed}").touch()
        while len(list(marks.glob("here-*"))) < 2:
            time.sleep(0.05)
    if fault == "die":
        os._exit(1)
    size = int(str(factors["train_size"]))
    inputs = torch.randn(size + 128, 4)
    targets = (inputs.sum(1) > 0).long()
    train, rest = (inputs[:size], targets[:size]), (inputs[size:], targets[size:])
    task = classification(nn.Linear(4, 2), train, rest, lambda: rest, classes=2)

    here = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "no-node"
    steps = marks / f"steps-{here}-{os.getpid()}-{len(list(marks.glob('steps-*')))}"

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with steps.open("a") as file:
            file.write(".")
        if (marks / "slow").exists():
            time.sleep(0.1)
        return functional.cross_entropy(outputs, labels)

    return replace(task, training_loss=loss)


def _toil(mark: Path) -> None:
    """Use a tenth of a core, as a worker may get on a busy machine, for a while, and note for how long."""
    began, spent = time.monotonic(), time.process_time()
    while (so_far := time.monotonic() - began) < 9:
        while time.process_time() - spent < so_far / 10:
            pass
        time.sleep(0.1)
    mark.write_text(str(so_far))


def _first(mark: Path) -> bool:
    """Whether a mark was not there; it is now."""
    new = not mark.exists()
    mark.touch()
    return new
