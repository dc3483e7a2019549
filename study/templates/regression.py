"""A task for `python -m study.run`: predict a number from ten others (Friedman's first problem)."""

from typing import Any

from sklearn.datasets import make_friedman1
from torch import float32, nn, tensor

from study.streams import stream
from study.tasks import Task, regression

INPUTS, TARGETS = make_friedman1(1100, noise=2.0, random_state=0)


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run."""
    # Targets of about mean 0 and variance 1 suit the learning rates that are searched.
    x, y = tensor(INPUTS, dtype=float32), tensor((TARGETS - 14) / 5, dtype=float32)[:, None]
    # The last 500 are for the test, always. The seed splits the others: 400 to choose by, the rest to train on.
    order = stream(seed, "split").permutation(600)
    val, train = order[:400], order[400 : 400 + factors["train_size"]]
    hidden = factors["hidden"]  # a factor of your own: the spec says `factors.hidden = 32`
    model = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    # The score is R² = 1 - MSE / variance; an error in a unit of its own, of which less is better, goes in its place by
    # replace(task, metric=Metric("MAE", Mean(errors, torch.numel), higher_is_better=False, unit="$"), guess=…), with
    # errors(outputs, targets) the sum of all errors in dollars, and delta = 200.0 in the spec.
    # The test part is a function: it is called after tuning alone.
    return regression(model, (x[train], y[train]), (x[val], y[val]), lambda: (x[600:], y[600:]), variance=1.0)
