"""Well-known sets of images: MNIST, Fashion-MNIST, SVHN, CIFAR-10 and CIFAR-100, as bytes.

The validation part is a tenth of the training part, drawn by the seed; a cell with fewer training examples than that
uses as many of it, at least 1,000.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from study.data.errors import TaskError
from study.data.folders import DATA, DOWNLOAD, data_folders, may_download
from study.data.image_files import Part, download, read_cifar, read_idx_images, read_svhn
from study.data.pool import Pool

Colour = tuple[float, ...]  # a channel each, in [0, 1]
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR10 = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


@dataclass(frozen=True, slots=True)
class Look:
    """What a model and its augmentation need to know of images.

    Attributes:
        mean, deviation: Of the training part's pixels.
        flips: Whether a mirror image keeps its class.
    """

    mean: Colour
    deviation: Colour
    flips: bool


@dataclass(frozen=True, slots=True)
class ImageSet:
    """One of the well-known sets of images.

    Attributes:
        files: What it consists of; gzipped files count, too.
        folders: Where these may be in a data folder: torchvision's place, then others.
        read: From the place to the training and the test part.
        dataset: Its name in torchvision, which downloads it.
        classes: How many.
        look: Its published statistics.
        package: The Debian package that holds it, if any does.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[Path], tuple[Part, Part]]
    dataset: str
    classes: int
    look: Look
    package: str = ""


IMAGE_SETS: dict[str, ImageSet] = {
    "mnist": ImageSet(
        _IDX, ("MNIST/raw", "mnist"), read_idx_images, "MNIST", 10, Look((0.1307,), (0.3081,), False),
    ),
    "fashion": ImageSet(
        _IDX, ("FashionMNIST/raw", "fashion-mnist"), read_idx_images, "FashionMNIST", 10,
        Look((0.2860,), (0.3530,), True), package="dataset-fashion-mnist",
    ),
    "svhn": ImageSet(
        ("train_32x32.mat", "test_32x32.mat"), ("", "svhn"), read_svhn, "SVHN", 10,
        Look((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), False),
    ),
    "cifar10": ImageSet(
        _CIFAR10, ("cifar-10-batches-py",), partial(read_cifar, "CIFAR10"), "CIFAR10", 10,
        Look((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), True),
    ),
    "cifar100": ImageSet(
        ("train", "test", "meta"), ("cifar-100-python",), partial(read_cifar, "CIFAR100"), "CIFAR100", 100,
        Look((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), True),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Images:
    """A pool of images as bytes, ``(n, channels, side, side)``, and their look."""

    pool: Pool
    look: Look


def find_images(name: str, folder: Path | None = None) -> Path:
    """Return the folder that holds a set's files; download them first if they are missing and the user has asked so.

    Args:
        name: In `IMAGE_SETS`.
        folder: See `study.data.folders`.

    Raises:
        TaskError: they are nowhere.
    """
    image_set = IMAGE_SETS[name]
    place = _place(image_set, folder)
    if place is None and may_download():
        place = _downloaded(name, folder)
    if place is None:
        package = f", or `apt-get install {image_set.package}` on Debian" if image_set.package else ""
        files = f"{image_set.folders[0]}/ with {', '.join(image_set.files)}".removeprefix("/ with ")
        raise missing(name, files, folder, f"download them with --download ({DOWNLOAD}=1){package}")
    return place


def missing(task: str, files: str, folder: Path | None, remedy: str) -> TaskError:
    """Return the error for files that are nowhere: what was looked for, where, and how to get it ("or …")."""
    return TaskError(
        f"task {task!r} was given; its data ({files}) are in none of {', '.join(map(str, data_folders(folder)))}; "
        f"put them there, name their folder with --data ({DATA}), or {remedy}"
    )


def load_images(name: str, folder: Path | None = None) -> Images:
    """Load a set of images as bytes.

    Args:
        name, folder: As for `find_images`.

    Raises:
        TaskError: it is not there, or can't be read.
    """
    image_set, place = IMAGE_SETS[name], find_images(name, folder)
    try:
        (images, labels), test = image_set.read(place)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        raise TaskError(
            f"task {name!r} was given; its data in {place} can't be read ({error}); remove them and get them anew"
        ) from error
    return Images(Pool(images, labels, round(len(labels) / 10), image_set.classes, test), image_set.look)


def _place(image_set: ImageSet, folder: Path | None) -> Path | None:
    """Return the first folder that holds all files of a set."""
    places = (data / inner for data in data_folders(folder) for inner in image_set.folders)
    return next(
        (
            place
            for place in places
            if all((place / name).is_file() or (place / f"{name}.gz").is_file() for name in image_set.files)
        ),
        None,
    )


def _downloaded(name: str, folder: Path | None) -> Path | None:
    target = data_folders(folder)[0]
    try:
        download(IMAGE_SETS[name].dataset, target)
    except (OSError, RuntimeError) as error:  # no network, or nothing that torchvision knows there
        raise TaskError(
            f"task {name!r} was given; downloading its data into {target} failed ({error}); "
            "put the files there by hand, or try again with a network"
        ) from error
    return _place(IMAGE_SETS[name], folder)
