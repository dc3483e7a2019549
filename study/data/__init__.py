"""The data of the built-in tasks by name: found, read or made, as arrays.

The driver loads them, and what it loads ships to the trial workers once. Nothing here imports torch, which would take
the driver seconds; packages that some data need for reading are imported by these alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from study.data.communities import make_graphs
from study.data.corpus import load_corpus
from study.data.digits import load_digits_pool
from study.data.errors import SealedTestError, TaskError
from study.data.image_folder import find_folder, list_folder
from study.data.image_sets import IMAGE_SETS, find_images, load_images
from study.data.mnist1d import make_mnist1d_pool
from study.data.pool import Pool
from study.data.tables import load_breast_cancer_pool, load_diabetes_table, load_wine_pool
from study.specs.factors import is_own_task


@dataclass(frozen=True, slots=True)
class Source:
    """Where the data of a built-in task come from.

    Attributes:
        load: From the folder of downloaded data (None: the usual places) to whatever `study.tasks.build_task` needs.
        find: Makes sure that the data are there, without reading them; None if they come with the study.
    """

    load: Callable[[Path | None], Any]
    find: Callable[[Path | None], object] | None = None


SOURCES: dict[str, Source] = {
    "digits": Source(lambda folder: load_digits_pool()),
    "mnist1d": Source(lambda folder: make_mnist1d_pool()),
    "breast_cancer": Source(lambda folder: load_breast_cancer_pool()),
    "wine": Source(lambda folder: load_wine_pool()),
    "diabetes": Source(lambda folder: load_diabetes_table()),
    "characters": Source(lambda folder: load_corpus()),
    "communities": Source(lambda folder: make_graphs()),
    **{name: Source(partial(load_images, name), partial(find_images, name)) for name in IMAGE_SETS},
    "image-folder": Source(list_folder, find_folder),
}


def find_data(name: str, folder: Path | None = None) -> None:
    """Make sure that a task's data are there, or download them if the user has asked so; nothing is read.

    Raises:
        TaskError: they are not; the message names the files and every folder that was looked into.
    """
    if not is_own_task(name) and (find := SOURCES[name].find):
        find(folder)


def load_data(name: str, folder: Path | None = None) -> Any:
    """Load what a task needs, once; None for a user's own task, which loads its data itself.

    Raises:
        TaskError: the data is not there; the message says where it was looked for.
    """
    return None if is_own_task(name) else SOURCES[name].load(folder)


__all__ = ["SOURCES", "Pool", "SealedTestError", "Source", "TaskError", "find_data", "load_data"]
