"""A task for `python -m study.run`: find the bright squares of an image, whose number varies."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from study.streams import stream
from study.tasks import Guess, Metric, Task

SIDE, GRID, SQUARE = 16, 4, 3  # pixels of an image, places along it, pixels of a square


class Images(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images ``(1, SIDE, SIDE)``, and of each the boxes ``(k, 4)`` of its squares, as corners in pixels."""

    def __init__(self, count: int, name: str) -> None:
        rng = stream(0, name)
        self.images = torch.from_numpy(rng.normal(size=(count, 1, SIDE, SIDE))).float()
        self.boxes = []
        for image in self.images[:, 0]:
            places = rng.permutation((SIDE // GRID) ** 2)[: rng.integers(0, 4)]
            corners = torch.tensor([divmod(int(place), SIDE // GRID) for place in places]).reshape(-1, 2) * GRID
            for top, left in corners.tolist():
                image[top : top + SQUARE, left : left + SQUARE] += 1
            self.boxes.append(torch.cat([corners, corners + SQUARE], dim=1).float())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.images[index], {"boxes": self.boxes[index]}


def collate(items: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Stack the images; of the targets return a list, which holds an entry for each example."""
    images, targets = zip(*items, strict=True)
    return torch.stack(images), list(targets)


class Detector(nn.Module):
    """Scores and offsets of a box at each place of a grid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(1, channels, GRID, stride=GRID), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 5, 1)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``scores`` ``(n, places)``, as logits, and ``boxes`` ``(n, places, 4)``."""
        found = self.see(images).flatten(2)
        side = SIDE // GRID
        corners = torch.cartesian_prod(torch.arange(side), torch.arange(side)).to(images.device) * GRID
        boxes = torch.cat([corners, corners + SQUARE], dim=1) + found[:, 1:].transpose(1, 2)
        return {"scores": found[:, 0], "boxes": boxes}


def loss(outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
    """Return the mean over images: is there a square at each place, and where exactly?"""
    boxes = torch.cat([target["boxes"] for target in targets])
    image = torch.repeat_interleave(torch.tensor([len(target["boxes"]) for target in targets], device=boxes.device))
    at = (boxes[:, 0] // GRID * (SIDE // GRID) + boxes[:, 1] // GRID).long()
    there = torch.zeros_like(outputs["scores"])
    there[image, at] = 1
    where = functional.l1_loss(outputs["boxes"][image, at], boxes, reduction="sum") / len(targets)
    return functional.binary_cross_entropy_with_logits(outputs["scores"], there) + where / 20


class F1:
    """A metric that takes the batches one by one; those of torchmetrics have the same three methods."""

    def reset(self) -> None:
        """Forget everything."""
        self.hits = self.claimed = self.there = 0

    def update(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> None:
        """Count the boxes that are claimed, and those that lie within a pixel of one that is there."""
        for scores, boxes, target in zip(outputs["scores"], outputs["boxes"], targets, strict=True):
            claimed, there = boxes[scores > 0], target["boxes"]
            near = (claimed[:, None] - there[None]).abs().amax(dim=2) < 1
            self.hits += int(near.any(dim=0).sum())
            self.claimed, self.there = self.claimed + len(claimed), self.there + len(there)

    def compute(self) -> float:
        """Return the F1 score."""
        return 2 * self.hits / max(1, self.claimed + self.there)


def build(seed: int, factors: dict[str, Any]) -> Task:
    """Return the task of one run."""

    def part(count: int, name: str) -> DataLoader[Any]:
        return DataLoader(Images(count, name), batch_size=50, collate_fn=collate)  # 50 at a time in evaluations

    return Task(
        Detector(factors["hidden"]),  # a factor of your own: the spec says `factors.hidden = 32`
        part(factors["train_size"], f"my training images {seed}"),
        part(200, "my validation images"),
        lambda: part(300, "my test images"),  # a function: it is called after tuning alone
        loss,
        Metric("F1", F1(), unit="fraction"),
        Guess(loss=1.0, score=0.0),  # what a run counts as that diverges
    )
