"""A task of one layer and forty points, and the ways in which a user's code can go wrong, in the stages given.

``TRIAL_FAULT`` is what happens in which stage, as ``SIGKILL:tune hang:confirm``: once each, in the first run that comes
to its tenth step, or, of what makes runs diverge, in every run. Files next to the results say that it has happened.
"""

import contextlib
import os
import random
import re
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from study.tasks import Task, classification

AT_CALL = 10  # of the loss: in the third epoch, with SAM in the second
HARDLY_ANY_KB = 2_000_000
DEVICE_HOLDS = 1  # training, on a device that is but a list


def build(seed: int, factors: dict[str, object], replicate: int) -> Task:
    rng = np.random.default_rng(seed)
    train, val, test = _points(rng, 40), _points(rng, 20), _points(np.random.default_rng(replicate), 20)
    task = classification(nn.Linear(4, 2), train, val, lambda: test, classes=2)
    stage = "confirm" if seed % 2 else "tune"  # the last bit of a seed says which: see study/plan/replicates.py
    faults = (fault.split(":") for fault in os.environ.get("TRIAL_FAULT", "").split())
    whats = [what for what, when in faults if when == stage]
    if not whats or _is_tried():
        return task
    faulty = _FaultyLoss(whats, stage)
    return replace(task, training_loss=faulty, metric=replace(task.metric, of=faulty.metric(task.metric.of)))


def _is_tried() -> bool:
    """Tell whether the study has not started yet: what is tried before it is sound, and strikes no driver."""
    callers = (frame.f_globals.get("__name__") for frame, _ in traceback.walk_stack(None))
    return "study.training.preflight" in callers


def _points(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    inputs = torch.from_numpy(rng.normal(size=(count, 4)).astype(np.float32))
    return inputs, (inputs[:, 0] + 0.5 * inputs[:, 1] > 0).long()


class _FaultyLoss:
    """Cross-entropy that does something else, too, at its tenth call."""

    def __init__(self, whats: list[str], stage: str) -> None:
        self._whats, self._stage, self._calls = whats, stage, 0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self._calls += 1
        if self._calls == 1 and "leaks" in self._whats:
            _leak(self._stage)
        loss = functional.cross_entropy(outputs, targets)
        for what in self._whats if self._calls >= AT_CALL else []:
            if what in _DIVERGE:
                _first(what, self._stage)
                loss = _DIVERGE[what](loss, outputs)
            elif self._calls == AT_CALL and what in _HAPPEN and _first(what, self._stage):
                _HAPPEN[what]()
        return loss

    def metric(self, of: Callable[[Tensor, Tensor], Tensor | float]) -> Callable[[Tensor, Tensor], Tensor | float]:
        bad = next((float(what.removesuffix("-metric")) for what in self._whats if what.endswith("-metric")), None)
        return lambda outputs, targets: bad if bad is not None and self._calls >= AT_CALL else of(outputs, targets)


def _first(what: str, stage: str) -> bool:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(f"{os.environ['FAULT_FOLDER']}-{what}-{stage}", os.O_CREAT | os.O_EXCL))
        return True
    return False


_leaked: list[Tensor] = []


def _leak(stage: str) -> None:
    """Keep a training's memory for as long as the process lives, on a device that has room for few."""
    if os.getsid(0) != os.getpid():  # not in the driver, which the laboratory starts as the leader of a session
        _leaked.append(torch.empty(1000))
        if len(_leaked) > DEVICE_HOLDS:
            _first("leaks", stage)
            raise torch.OutOfMemoryError("CUDA out of memory. (This device is but a list.)")


def _raise(error: Exception) -> None:
    raise error


def _fork() -> None:
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)


def _seeds() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)


def _eat() -> None:
    """Take memory until somebody ends this, or hardly any is left: how much others take meanwhile nobody knows."""
    eaten = []
    while int(re.findall(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())[0]) > HARDLY_ANY_KB:
        eaten.append(b"x" * 200_000_000)
        time.sleep(0.02)


def _die_with_checkpoints(damage: Callable[[Path], object]) -> None:
    """Damage whatever has been saved, and die: the retry finds it so."""
    saved = list(Path(os.environ["FAULT_FOLDER"]).glob("ray/**/run.pt"))
    for path in saved or [Path("no checkpoint was saved")]:
        damage(path)
    os.kill(os.getpid(), signal.SIGKILL)


_HAPPEN: dict[str, Callable[[], object]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "os._exit": lambda: os._exit(7),
    "exception": lambda: _raise(RuntimeError("a bug of the user's")),
    "MemoryError": lambda: _raise(MemoryError()),
    "eats": _eat,
    "hang": lambda: time.sleep(3600),
    "prints": lambda: print("x" * 5_000_000),
    "forks": _fork,
    "chdir": lambda: os.chdir(Path("/")),
    "seeds": _seeds,
    "truncated-checkpoint": lambda: _die_with_checkpoints(lambda path: os.truncate(path, path.stat().st_size // 2)),
    "zeroed-checkpoint": lambda: _die_with_checkpoints(lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "vanished-checkpoint": lambda: _die_with_checkpoints(lambda path: path.unlink()),
    "full-disk": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY)),
}
_DIVERGE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nan-loss": lambda loss, _: loss * float("nan"),
    "inf-loss": lambda loss, _: loss * float("inf"),
    "nan-gradient": lambda loss, outputs: loss + (outputs * 0).sum().abs().sqrt(),  # 0, with a slope of 0 · ∞
    "nan-metric": lambda loss, _: loss,
    "inf-metric": lambda loss, _: loss,
}
