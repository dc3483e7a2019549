"""Classification of images in folders, for sets that no memory holds.

Files are read as they are needed, by worker processes, and a batch is changed on the device as every other task's.
"""

import os
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from study.data.errors import TaskError
from study.data.image_folder import Listing, Paths
from study.data.image_sets import Look
from study.data.pool import Labels, Pool
from study.records import FactorValue
from study.tasks.pool import draw_split
from study.tasks.task import Task
from study.tasks.vision import image_classification

# ImageNet's: images of a folder have no published statistics, and these are near those of any photographs.
_LOOK = Look((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), flips=True)
_MARGIN = 256 / 224  # the shorter side is scaled to this multiple of what is cut from the centre (Krizhevsky 2012)


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


def folder_task(listing: Listing, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return the task of one seed: its split of the files, its noisy labels, its initial weights.

    Raises:
        TaskError: the folder holds fewer training images than the cell wants.
    """
    split, side = draw_split(listing.pool, factors, seed), int(factors["image_size"])
    if len(split.train_labels) < int(factors["train_size"]):
        raise TaskError(
            f"factors.train_size = {factors['train_size']} was given; the folder holds {len(split.train_labels)} "
            "training images beside those that validate"
        )
    val_paths, val_labels = listing.val or (split.val_inputs, split.val_labels)
    return image_classification(
        _LOOK,
        _loader(split.train_inputs, split.train_labels, side),
        _loader(val_paths, val_labels, side),
        partial(_test, listing.pool, side),
        factors,
        (3, side, side),
        listing.pool.classes,
        seed,
    )


def _test(pool: Pool, side: int) -> DataLoader[tuple[Tensor, int]]:
    paths, labels = pool.open_test("confirm")
    return _loader(paths, labels, side)


def _loader(paths: Paths, labels: Labels, side: int) -> DataLoader[tuple[Tensor, int]]:
    """Return a loader with a worker process for every CPU of the run (its threads: see the engine's worker)."""
    return DataLoader(Files(paths, labels, side), num_workers=torch.get_num_threads(), pin_memory=True)
