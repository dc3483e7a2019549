"""Images in folders, as in ImageNet: ``train/CLASS/*.jpg``, ``test/CLASS/*.jpg`` and, if there is one, ``val/``.

For sets that no memory holds: files are read as they are needed, by worker processes, and a batch is changed on the
device as every other task's. Without ``val/``, a tenth of the training images validates, drawn by the seed;
see `study.tasks.pool.draw_split`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from study.data_folders import data_folders
from study.records import FactorValue
from study.tasks.pool import Labels, Pool, draw_split
from study.tasks.task import Task, TaskError
from study.tasks.vision import Look, image_classification, missing

# ImageNet's: images of a folder have no published statistics, and these are near those of any photographs.
_LOOK = Look((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), flips=True)
_MARGIN = 256 / 224  # the shorter side is scaled to this multiple of what is cut from the centre (Krizhevsky 2012)

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}

Paths = npt.NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder: a pool of paths, and the validation part where it has one."""

    pool: Pool
    val: tuple[Paths, Labels] | None


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


def find_folder(folder: Path | None = None) -> Path:
    """Return the data folder that holds ``train`` and ``test``, or ``image-folder`` inside it.

    Raises:
        TaskError: there is none.
    """
    places = [place for data in data_folders(folder) for place in (data, data / "image-folder")]
    place = next((place for place in places if (place / "train").is_dir() and (place / "test").is_dir()), None)
    if place is None:
        raise missing("image-folder", "train/CLASS/*.jpg and test/CLASS/*.jpg", folder, "link them into one of these")
    return place


def list_folder(folder: Path | None = None) -> Listing:
    """List the images of the folder that `find_folder` finds.

    Raises:
        TaskError: there is none, or its parts have different classes.
    """
    place = find_folder(folder)
    (train, labels, classes), test, *val = (
        _part(place / part) for part in ("train", "test", "val") if (place / part).is_dir()
    )
    for _, _, others in (test, *val):
        if others != classes:
            raise TaskError(
                f"task 'image-folder' was given; the parts in {place} have different classes "
                f"({', '.join(sorted({*classes} ^ {*others}))}); each class needs a folder in every part"
            )
    pool = Pool(train, labels, 0 if val else round(len(labels) / 10), len(classes), test[:2])
    return Listing(pool, val[0][:2] if val else None)


def _part(folder: Path) -> tuple[Paths, Labels, list[str]]:
    """Return the images of a part, their classes as numbers, and the names of these; all in alphabetical order."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    found = [
        (os.fsencode(path), number)
        for number, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]
    if not found:
        raise TaskError(
            f"task 'image-folder' was given; {folder} holds no images; they belong into a folder for each class, "
            f"as {', '.join(sorted(_SUFFIXES))}"
        )
    return np.array([path for path, _ in found]), np.array([number for _, number in found], np.int64), classes


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
