"""A task of one layer and forty points, and the ways in which a user's code can go wrong, once each.

``TRIAL_FAULT`` is what happens and where: ``SIGKILL tune 1`` is in the second run of the tune stage that comes to its
fifth step. A file next to the results says that it has happened.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from study.tasks import Task, classification


def build(seed: int, factors: dict[str, object]) -> Task:
    rng = np.random.default_rng(seed)
    inputs = torch.from_numpy(rng.normal(size=(80, 4)).astype(np.float32))
    targets = (inputs[:, 0] + 0.5 * inputs[:, 1] > 0).long()
    parts = [(inputs[begin:end], targets[begin:end]) for begin, end in ((0, 40), (40, 60), (60, 80))]
    task = classification(nn.Linear(4, 2), parts[0], parts[1], lambda: parts[2], classes=2)
    what, _, where = os.environ.get("TRIAL_FAULT", "").partition(" ")
    # Seeds of the two stages differ: 0 in tune, from 1000 in confirm.
    if what and where == ("tune" if seed == 0 else "confirm"):
        happens = _Fault(what)
        task = Task(
            task.model, task.train, task.val, task.test, task.loss, task.metric, task.guess,
            training_loss=happens, classifies=True,
        )  # fmt: skip
    return task


class _Fault:
    """Cross-entropy that does something else, too, at its fifth call in the first run that gets there."""

    def __init__(self, what: str) -> None:
        self._what, self._calls = what, 0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self._calls += 1
        loss = functional.cross_entropy(outputs, targets)
        if _in_driver():  # it tries a step before the study starts; what is wrong then is said before anything has run
            return loss
        if self._calls == 5 and _first():
            _FAULTS[self._what]()
        return loss * float("nan") if self._calls >= 5 and self._what == "NaN" else loss


def _in_driver() -> bool:
    return os.getsid(0) == os.getpid()  # the laboratory starts it as the leader of a session


def _first() -> bool:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(os.environ["TRIAL_FAULT_DONE"], os.O_CREAT | os.O_EXCL))
        return True
    return False


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


_FAULTS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "os._exit": lambda: os._exit(7),
    "exception": lambda: _raise(RuntimeError("a bug of the user's")),
    "MemoryError": lambda: _raise(MemoryError()),
    "hang": lambda: time.sleep(3600),
    "prints": lambda: print("x" * 5_000_000),
    "forks": _fork,
    "chdir": lambda: os.chdir(Path("/")),
    "seeds": _seeds,
    "NaN": lambda: None,
}
