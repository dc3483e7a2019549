"""A method for `python -m study.run`: an optimizer and a schedule of your own, and a task to try them on.

Put your optimizer in the place of the example's: a class, or a function that returns one. The study calls it with those
of its arguments that it knows (``params``, ``lr``, ``weight_decay`` …) and with the options of the spec, and finds out
what it needs: a closure, a second pass, modes. The task may be a built-in one, too, such as ``task = "digits"``.
"""

import math
from typing import Any

from sklearn.datasets import make_moons
from torch import float32, int64, nn, no_grad, tensor, zeros_like
from torch.optim import Optimizer

from study.streams import stream
from study.tasks import Task, classification


class SignMomentum(Optimizer):
    """Step by the sign of the momentum; ``lr`` is the size of a step, ``weight_decay`` is decoupled."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step; everything that it remembers stands in ``self.state``, so that a run can be resumed."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(mean.sign(), alpha=-group["lr"])


def one_cycle(done: float) -> float:
    """Return the factor on the learning rate at a share of the steps done: up for a third, then down a cosine."""
    return 3 * done if done < 1 / 3 else 0.5 * (1 + math.cos(math.pi * (1.5 * done - 0.5)))


INPUTS, CLASSES = make_moons(1100, noise=0.3, random_state=0)


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run, as `python -m study.new my_task.py` explains it."""
    x, y = tensor(INPUTS, dtype=float32), tensor(CLASSES, dtype=int64)
    order = stream(seed, "split").permutation(600)
    val, train = order[:400], order[400 : 400 + factors["train_size"]]
    hidden = factors["hidden"]  # a factor of your own: the spec says `factors.hidden = 32`
    model = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    return classification(model, (x[train], y[train]), (x[val], y[val]), lambda: (x[600:], y[600:]), classes=2)
