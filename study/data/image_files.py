"""Read the files of the well-known image sets as arrays of bytes; torchvision downloads and unpacks them.

torchvision takes as long to import as torch, so it is imported where it is needed.
"""

import gzip
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
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
