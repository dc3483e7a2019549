"""Well-known sets of images: MNIST, Fashion-MNIST, SVHN, CIFAR-10 and CIFAR-100, as bytes.

The validation part is a tenth of the training part, drawn by the seed; a cell with fewer training examples than that
uses as many of it, at least 1,000.

The files are read here; torchvision, which takes as long to import as torch, downloads and unpacks them.
"""

import gzip
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from study.data.folders import DOWNLOAD, data_folders, may_download, missing
from study.data.pool import Labels, Pool, TaskError, origin_of

Bytes = npt.NDArray[np.uint8]
Part = tuple[Bytes, Labels]  # (n, channels, side, side) and (n,)
_IDX_BYTES = 0x08  # the type code of unsigned bytes


def read_idx_images(folder: Path) -> tuple[Part, Part]:
    """Return the training and the test part of MNIST or Fashion-MNIST from their four idx files, plain or gzipped.

    Raises:
        ValueError, OSError, EOFError: a file is damaged.
    """
    train, test = (
        (read_idx(folder, f"{part}-images-idx3-ubyte")[:, None], read_idx(folder, f"{part}-labels-idx1-ubyte"))
        for part in ("train", "t10k")
    )
    for images, labels in (train, test):
        if len(images) != len(labels):
            raise ValueError(f"{folder} holds {len(images)} images and {len(labels)} labels of one part")
    return (train[0], train[1].astype(np.int64)), (test[0], test[1].astype(np.int64))


def read_idx(folder: Path, name: str) -> Bytes:
    """Return the array in an idx file: two zeros, the type, the number of dimensions, their sizes, the bytes.

    Raises:
        ValueError: it is no idx file of bytes, or is cut short.
    """
    plain = folder / name
    content = plain.read_bytes() if plain.is_file() else gzip.decompress(plain.with_name(f"{name}.gz").read_bytes())
    dims = content[3] if content[:3] == bytes((0, 0, _IDX_BYTES)) else 0
    shape = np.frombuffer(content, ">u4", dims, 4).tolist()
    if not dims or len(content) != 4 + 4 * dims + math.prod(shape):
        raise ValueError(f"{plain} is no idx file of bytes, or is cut short")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape)


def read_cifar(dataset: str, folder: Path) -> tuple[Part, Part]:
    """Return the training and the test part of ``CIFAR10`` or ``CIFAR100``; torchvision checks their hash sums."""
    from torchvision import datasets  # noqa: PLC0415  # see above

    with warnings.catch_warnings():
        # The published files hold a data type in a spelling that NumPy 2.4 has deprecated.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = (getattr(datasets, dataset)(folder.parent, train=train) for train in (True, False))
    return _cifar_part(train), _cifar_part(test)


def read_svhn(folder: Path) -> tuple[Part, Part]:
    """Return the training and the test part of SVHN, without the extra one, as torchvision keeps them."""
    from torchvision import datasets  # noqa: PLC0415  # see above

    train, test = (datasets.SVHN(folder, split=part) for part in ("train", "test"))
    return (np.ascontiguousarray(train.data), train.labels), (np.ascontiguousarray(test.data), test.labels)


def download(dataset: str, folder: Path) -> None:
    """Let torchvision download a dataset of its own into a data folder.

    Raises:
        OSError, RuntimeError: there is no network, or something else comes back than torchvision expects.
    """
    from torchvision import datasets  # noqa: PLC0415  # see above

    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Any]] = [{"split": "train"}, {"split": "test"}] if dataset == "SVHN" else [{}]
    for part in parts:
        getattr(datasets, dataset)(folder, download=True, **part)


def _cifar_part(part: Any) -> Part:
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64)


Colour = tuple[float, ...]  # a channel each, in [0, 1]
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR10 = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


@dataclass(frozen=True, slots=True)
class Look:
    """What a model and its augmentation need to know of images: mean and deviation of the training part's pixels.

    And whether a mirror image keeps its class.
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
        classes, look: How many, and its published statistics.
        source: Where it is from, and its licence where one is stated.
        package: The Debian package that holds it, if any does.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[Path], tuple[Part, Part]]
    dataset: str
    classes: int
    look: Look
    source: str
    package: str = ""


IMAGE_SETS: dict[str, ImageSet] = {
    "mnist": ImageSet(
        _IDX, ("MNIST/raw", "mnist"), read_idx_images, "MNIST", 10, Look((0.1307,), (0.3081,), False),
        "LeCun, Cortes & Burges",
    ),
    "fashion": ImageSet(
        _IDX, ("FashionMNIST/raw", "fashion-mnist"), read_idx_images, "FashionMNIST", 10,
        Look((0.2860,), (0.3530,), True), "Zalando, MIT", package="dataset-fashion-mnist",
    ),
    "svhn": ImageSet(
        ("train_32x32.mat", "test_32x32.mat"), ("", "svhn"), read_svhn, "SVHN", 10,
        Look((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), False), "Netzer et al. 2011",
    ),
    "cifar10": ImageSet(
        _CIFAR10, ("cifar-10-batches-py",), partial(read_cifar, "CIFAR10"), "CIFAR10", 10,
        Look((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), True), "Krizhevsky 2009",
    ),
    "cifar100": ImageSet(
        ("train", "test", "meta"), ("cifar-100-python",), partial(read_cifar, "CIFAR100"), "CIFAR100", 100,
        Look((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), True), "Krizhevsky 2009",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Images:
    """A pool of images as bytes, ``(n, channels, side, side)``, and their look."""

    pool: Pool
    look: Look


def find_images(name: str, folder: Path | None = None) -> Path:
    """Return the folder that holds a set's files; download them first if they are missing and the user has asked so.

    ``name`` is one in `IMAGE_SETS`; of ``folder`` see `study.data.folders`.

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


def load_images(name: str, folder: Path | None = None) -> Images:
    """Load a set of images as bytes; arguments as of `find_images`.

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
    origin = origin_of(image_set.source, images, labels, *test)
    pool = Pool(images, labels, round(len(labels) / 10), image_set.classes, origin=origin, _official=test)
    return Images(pool, image_set.look)


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
