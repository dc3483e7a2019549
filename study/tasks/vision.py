"""Classification of images.

They are bytes, on the device or in the files of a folder, for sets that no memory holds: these are read as they are
needed, by worker processes. On the device they are changed, and set to mean 0 and deviation 1, a batch at a time.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from study.data.image_folder import Listing, Paths
from study.data.image_sets import Images, Look
from study.data.pool import Labels, Pool, TaskError
from study.models import build_model
from study.records import FactorValue
from study.specs.factors import factor_of
from study.tasks.augment import augmented_images
from study.tasks.examples import Data
from study.tasks.pool import draw_split, noisy_validation
from study.tasks.task import Task, classification

# ImageNet's: images of a folder have no published statistics, and these are near those of any photographs.
_LOOK = Look((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), flips=True)
_MARGIN = 256 / 224  # the shorter side is scaled to this multiple of what is cut from the centre (Krizhevsky 2012)


def image_task(images: Images, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Return the task of one seed: its split of the images, its noisy labels, its initial weights."""
    split, pool = draw_split(images.pool, factors, seed, test_seed), images.pool
    model = build_model(factors, pool.inputs.shape[1:], pool.classes, seed)
    test = partial(pool.open_test, "confirm", test_seed)
    task = _of_bytes(images.look, model, split.train, split.val, test, factors, pool.classes)
    return replace(task, clean_targets=split.clean_labels, origin=pool.origin)


def _of_bytes(
    look: Look,
    model: nn.Module,
    train: Data,
    val: Data,
    test: Callable[[], Data],
    factors: Mapping[str, FactorValue],
    classes: int,
) -> Task:
    """Return the classification of images that come as bytes, by a model of standardized ones; else as in `Task`."""
    transforms, strength = str(factors["transforms"]), float(factors["augmentation"])
    fill = tuple(255 * channel for channel in look.mean)
    changes = transforms != "none" or strength > 0
    return classification(
        Standardized(look, model),
        train,
        val,
        test,
        classes=classes,
        label_smoothing=float(factor_of(factors, "label_smoothing")),
        augment=partial(augmented_images, transforms, strength, look.flips, fill) if changes else None,
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


class Files(Dataset[tuple[Tensor, int]]):
    """Images that are read when they are asked for, as bytes ``(3, side, side)`` cut from the centre.

    Args:
        paths, labels: ``(n,)`` each.
        side: Pixels.
    """

    def __init__(self, paths: Paths, labels: Labels, side: int) -> None:
        self._paths, self._labels, self._side = paths, labels, side

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(os.fsdecode(self._paths[index])) as file:
            image = file.convert("RGB")
        kept = self._side * min(image.size) / round(self._side * _MARGIN)  # pixels of the file's own
        left, top = ((length - kept) / 2 for length in image.size)
        box = (left, top, left + kept, top + kept)
        cut = image.resize((self._side, self._side), Image.Resampling.BILINEAR, box)
        return torch.from_numpy(np.array(cut)).permute(2, 0, 1), int(self._labels[index])


def folder_task(listing: Listing, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Return the task of one seed: its split of the files, its noisy labels, its initial weights.

    Raises:
        TaskError: the folder holds fewer training images than the cell wants.
    """
    split, side = draw_split(listing.pool, factors, seed, test_seed), int(factors["image_size"])
    if len(split.clean_labels) < int(factors["train_size"]):
        raise TaskError(
            f"factors.train_size = {factors['train_size']} was given; the folder holds {len(split.clean_labels)} "
            "training images beside those that validate"
        )
    val_paths, val_labels = split.val
    if listing.val:
        val_paths, val_labels = listing.val[0], noisy_validation(listing.val[1], factors, listing.pool.classes, seed)
    classes = listing.pool.classes
    task = _of_bytes(
        _LOOK,
        build_model(factors, (3, side, side), classes, seed),
        _loader(*split.train, side),
        _loader(val_paths, val_labels, side),
        partial(_test, listing.pool, side, test_seed),
        factors,
        classes,
    )
    return replace(task, clean_targets=split.clean_labels)


def _test(pool: Pool, side: int, test_seed: int) -> DataLoader[tuple[Tensor, int]]:
    paths, labels = pool.open_test("confirm", test_seed)
    return _loader(paths, labels, side)


def _loader(paths: Paths, labels: Labels, side: int) -> DataLoader[tuple[Tensor, int]]:
    """Return a loader with a worker process for every CPU of the run (its threads: see the engine's worker)."""
    return DataLoader(Files(paths, labels, side), num_workers=torch.get_num_threads(), pin_memory=True)
