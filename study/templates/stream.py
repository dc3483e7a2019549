"""A task for `python -m study.run`: the training data are a stream, without a length or an end."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, from_numpy, nn
from torch.utils.data import IterableDataset

from study.streams import stream
from study.tasks import Task, classification


def points(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Return points ``(count, 10)`` and their classes, of which two in ten are wrong."""
    x = rng.normal(size=(count, 10))
    wrong = rng.random(count) < 0.2
    return from_numpy(x).float(), from_numpy((x[:, 0] * x[:, 1] > x[:, 2]) ^ wrong).long()


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Points without an end; whatever it draws belongs to the seed, so that methods see the same."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = stream(self.seed, "my training points")
        while True:
            yield from zip(*points(rng, 100), strict=True)


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run."""
    hidden = factors["hidden"]  # a factor of your own: the spec says `factors.hidden = 32`
    model = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    # An epoch is the next `factors.steps_per_epoch` batches. What is measured on has an end: tensors, or a Dataset.
    return classification(
        model,
        Stream(seed),
        points(stream(0, "my validation points"), 400),
        lambda: points(stream(0, "my test points"), 500),  # a function: it is called after tuning alone
        classes=2,
    )
