"""Classification of images.

They stay bytes, on the device; they are changed, and set to mean 0 and deviation 1, a batch at a time.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from study.data.image_sets import Images, Look
from study.models import build_model
from study.records import FactorValue
from study.specs.factors import factor_of
from study.tasks.augment import augmented_images
from study.tasks.examples import Data
from study.tasks.pool import draw_split
from study.tasks.task import Augment, Task, classification


def image_task(images: Images, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return the task of one seed: its split of the images, its noisy labels, its initial weights."""
    split = draw_split(images.pool, factors, seed)
    return image_classification(
        images.look,
        (split.train_inputs, split.train_labels),
        (split.val_inputs, split.val_labels),
        partial(images.pool.open_test, "confirm"),
        factors,
        images.pool.inputs.shape[1:],
        images.pool.classes,
        seed,
    )


def image_classification(
    look: Look,
    train: Data,
    val: Data,
    test: Callable[[], Data],
    factors: Mapping[str, FactorValue],
    shape: tuple[int, ...],
    classes: int,
    seed: int,
) -> Task:
    """Return the classification of images that come as bytes.

    Args:
        look: Of the images.
        train, val, test: As in `Task`.
        factors: The cell's.
        shape: Of one image: ``(channels, side, side)``.
        classes: How many.
        seed: Root seed of the run.
    """
    transforms, strength = str(factors["transforms"]), float(factors["augmentation"])
    fill = tuple(255 * channel for channel in look.mean)
    augment: Augment | None = (
        None if transforms == "none" and not strength
        else partial(augmented_images, transforms, strength, look.flips, fill)
    )  # fmt: skip
    return classification(
        Standardized(look, build_model(factors, shape, classes, seed)),
        train,
        val,
        test,
        classes=classes,
        label_smoothing=float(factor_of(factors, "label_smoothing")),
        augment=augment,
    )


class Standardized(nn.Module):
    """A network behind the step from bytes, or floats in [0, 255], to inputs of mean 0 and deviation 1."""

    scale: Tensor
    shift: Tensor

    def __init__(self, look: Look, network: nn.Module) -> None:
        super().__init__()
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (look.mean, look.deviation))
        # Constants of the data, not weights: they stand in no state and no average.
        self.register_buffer("scale", 1 / (255 * deviation), persistent=False)
        self.register_buffer("shift", -mean / deviation, persistent=False)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's outputs for ``(n, channels, side, side)``."""
        outputs: Tensor = self.network(images * self.scale + self.shift)
        return outputs
