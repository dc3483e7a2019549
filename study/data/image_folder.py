"""Images in folders, as in ImageNet: ``train/CLASS/*.jpg``, ``test/CLASS/*.jpg`` and, if there is one, ``val/``.

Without ``val/``, a tenth of the training images validates, drawn by the seed; see `study.tasks.pool.draw_split`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from study.data.folders import data_folders, missing
from study.data.pool import Labels, Pool, TaskError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}

Paths = npt.NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder: a pool of paths, and the validation part where it has one."""

    pool: Pool
    val: tuple[Paths, Labels] | None


def find_folder(task: str, folder: Path | None = None) -> Path:
    """Return the data folder that holds ``train`` and ``test``, or ``image-folder`` inside it.

    Raises:
        TaskError: there is none.
    """
    places = [place for data in data_folders(folder) for place in (data, data / "image-folder")]
    place = next((place for place in places if (place / "train").is_dir() and (place / "test").is_dir()), None)
    if place is None:
        raise missing(task, "train/CLASS/*.jpg and test/CLASS/*.jpg", folder, "link them into one of these")
    return place


def list_folder(task: str, folder: Path | None = None) -> Listing:
    """List the images of the folder that `find_folder` finds.

    Raises:
        TaskError: there is none, or its parts have different classes.
    """
    place = find_folder(task, folder)
    (train, labels, classes), test, *val = (
        _part(place / part) for part in ("train", "test", "val") if (place / part).is_dir()
    )
    for _, _, others in (test, *val):
        if others != classes:
            raise TaskError(
                f"task 'image-folder' was given; the parts in {place} have different classes "
                f"({', '.join(sorted({*classes} ^ {*others}))}); each class needs a folder in every part"
            )
    pool = Pool(train, labels, 0 if val else round(len(labels) / 10), len(classes), _official=test[:2])
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
