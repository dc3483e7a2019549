"""A task for `python -m study.run`: predict prices, judged by the mean absolute error in dollars.

Put your data and your model in the place of the example's. The study calls ``build`` once a run.
"""

from typing import Any

from sklearn.datasets import make_friedman1
from torch import Tensor, float32, nn, tensor
from torch.nn import functional

from study.streams import stream
from study.tasks import Guess, Mean, Metric, Task

INPUTS, TARGETS = make_friedman1(1100, noise=1.0, random_state=0)
DOLLARS = 5000.0  # of one unit of the targets that are trained on


def error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of the errors in dollars."""
    return (outputs - targets).abs().sum() * DOLLARS


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run.

    Args:
        seed: Of the run. torch, NumPy and random are seeded with it while this function runs, so that initial weights
            belong to it; `stream` gives a generator of its own to each purpose.
        factors: The cell's factors, with your own under the names that the spec gives them.
    """
    # Targets of about mean 0 and variance 1 suit the learning rates that are searched.
    x, y = tensor(INPUTS, dtype=float32), tensor((TARGETS - 14) / 5, dtype=float32)[:, None]
    order = stream(seed, "split").permutation(600)
    val, train = order[:400], order[400 : 400 + factors["train_size"]]
    hidden = factors["hidden"]  # a factor of your own: the spec says `factors.hidden = 32`
    return Task(
        nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)),
        (x[train], y[train]),
        (x[val], y[val]),
        lambda: (x[600:], y[600:]),  # a function: it is called after tuning alone
        functional.mse_loss,
        # Of an error less is better. Values, gains and delta are in its unit, from the spec to the report.
        Metric("MAE", Mean(error, Tensor.numel), higher_is_better=False, unit="$"),
        Guess(loss=1.0, score=-4000.0),  # what a run counts as that diverges; a score is the negative of an error
    )
