"""A task for `python -m study.run`: one network predicts a class and a number."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.streams import stream
from study.tasks import Guess, Mean, Metric, Task


def points(count: int, name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Return inputs ``(count, 10)``, and of each two targets by name."""
    rng = stream(0, name)
    x = torch.from_numpy(rng.normal(size=(count, 10))).float()
    noise = torch.from_numpy(rng.normal(size=count)).float()
    kind = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0).long()
    return x, {"kind": kind, "size": torch.sin(x[:, 0]) + x[:, 3] + 0.3 * noise}


class Model(nn.Module):
    """A trunk with two heads."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.kind, self.size = nn.Linear(hidden, 3), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return logits of the class, and the number."""
        seen = self.trunk(x)
        return {"kind": self.kind(seen), "size": self.size(seen)[:, 0]}


def loss(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Return the sum of both losses, each a mean over examples."""
    of_kind = functional.cross_entropy(outputs["kind"], targets["kind"])
    return of_kind + functional.mse_loss(outputs["size"], targets["size"])


def right(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Return how many classes are right."""
    return (outputs["kind"].argmax(1) == targets["kind"]).sum()


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run."""
    x, targets = points(1000, "my training points")
    train = torch.from_numpy(stream(seed, "split").permutation(1000)[: factors["train_size"]])
    # One number has to judge: here the accuracy, a mean over the classes that are asked for.
    metric = Metric("accuracy", Mean(right, lambda targets: len(targets["kind"])), unit="fraction")
    return Task(
        Model(factors["hidden"]),  # a factor of your own: the spec says `factors.hidden = 32`
        (x[train], {name: values[train] for name, values in targets.items()}),
        points(300, "my validation points"),
        lambda: points(500, "my test points"),  # a function: it is called after tuning alone
        loss,
        metric,
        Guess(loss=2.5, score=1 / 3),  # what a run counts as that diverges
    )
