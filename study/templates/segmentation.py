"""A task for `python -m study.run`: name the class of each pixel; some pixels are not labelled."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.streams import stream
from study.tasks import Guess, Metric, Task

SIDE, CLASSES, IGNORED = 12, 3, 255


def images(count: int, name: str) -> tuple[Tensor, Tensor]:
    """Return images ``(count, 1, SIDE, SIDE)`` and the class of each pixel, IGNORED where nobody knows it."""
    rng = stream(0, name)
    rough = torch.from_numpy(rng.normal(size=(count, 1, SIDE // 4, SIDE // 4))).float()
    smooth = functional.interpolate(rough, size=(SIDE, SIDE), mode="bilinear")
    labels = (smooth[:, 0] > -0.3).long() + (smooth[:, 0] > 0.3).long()
    labels[torch.from_numpy(rng.random((count, SIDE, SIDE)) < 0.2)] = IGNORED
    return smooth + 0.5 * torch.from_numpy(rng.normal(size=smooth.shape)).float(), labels


class IoU:
    """The mean over classes of intersection over union; `torchmetrics.JaccardIndex` does as well."""

    def reset(self) -> None:
        """Forget everything."""
        self.counts = torch.zeros(CLASSES, CLASSES)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count the pixels of a batch by class and prediction."""
        known = targets != IGNORED
        pairs = targets[known] * CLASSES + outputs.argmax(1)[known]
        self.counts += torch.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES).cpu()

    def compute(self) -> Tensor:
        """Return the score."""
        right = self.counts.diagonal()
        return (right / (self.counts.sum(0) + self.counts.sum(1) - right).clamp(min=1)).mean()


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run."""
    x, y = images(1000, "my training images")
    train = torch.from_numpy(stream(seed, "split").permutation(1000)[: factors["train_size"]])
    channels = factors["hidden"]  # a factor of your own: the spec says `factors.hidden = 32`
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, CLASSES, 3, padding=1),
    )  # fmt: skip
    return Task(
        model,
        (x[train], y[train]),
        images(200, "my validation images"),
        lambda: images(300, "my test images"),  # a function: it is called after tuning alone
        partial(functional.cross_entropy, ignore_index=IGNORED),  # a mean over the pixels that count, as torch has it
        Metric("IoU", IoU(), unit="fraction"),
        Guess(loss=1.1, score=0.1),  # what a run counts as that diverges
    )
