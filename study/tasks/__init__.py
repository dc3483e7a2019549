"""Tasks by name: data that is loaded once, and the `Task` that a seed and a cell's factors make of it.

``load_data`` runs in the driver, and what it returns ships to the trial workers once; ``build_task`` runs in the
worker, for every run. A name such as ``my_package.my_module:build`` is a user's own task: see `study.tasks.own`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from study.factors import is_own_task
from study.records import FactorValue
from study.tasks.graphs import graph_task, make_graphs
from study.tasks.images import load_digits_pool
from study.tasks.own import build_own_task
from study.tasks.pool import Pool, Split, draw_split, pool_task
from study.tasks.signals import make_mnist1d_pool
from study.tasks.tabular import (
    load_breast_cancer_pool,
    load_diabetes_table,
    load_wine_pool,
    pool_table_task,
    table_task,
)
from study.tasks.task import SealedTestError, Task, TaskError, classification, next_token, regression
from study.tasks.text import load_corpus, text_task
from study.tasks.vision import IMAGE_SETS, find_images, image_task, load_images
from study.tasks.vision_folder import find_folder, folder_task, list_folder


@dataclass(frozen=True, slots=True)
class Source:
    """Where a built-in task comes from.

    Attributes:
        load: From the folder of downloaded data (None: the usual places) to whatever ``build`` needs.
        build: From that, a cell's factors and a seed to the task.
        find: Makes sure that the data are there, without reading them; None if they come with the study.
    """

    load: Callable[[Path | None], Any]
    build: Callable[[Any, Mapping[str, FactorValue], int], Task]
    find: Callable[[Path | None], object] | None = None


SOURCES: dict[str, Source] = {
    "digits": Source(lambda folder: load_digits_pool(), pool_task),
    "mnist1d": Source(lambda folder: make_mnist1d_pool(), pool_task),
    "breast_cancer": Source(lambda folder: load_breast_cancer_pool(), pool_table_task),
    "wine": Source(lambda folder: load_wine_pool(), pool_table_task),
    "diabetes": Source(lambda folder: load_diabetes_table(), table_task),
    "characters": Source(lambda folder: load_corpus(), text_task),
    "communities": Source(lambda folder: make_graphs(), graph_task),
    **{name: Source(partial(load_images, name), image_task, partial(find_images, name)) for name in IMAGE_SETS},
    "image-folder": Source(list_folder, folder_task, find_folder),
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


def build_task(name: str, data: Any, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Build a task from what `load_data` returned, a cell's factors and a seed."""
    build = partial(build_own_task, name) if is_own_task(name) else partial(SOURCES[name].build, data)
    return build(factors, seed)


__all__ = [
    "SOURCES",
    "Pool",
    "SealedTestError",
    "Source",
    "Split",
    "Task",
    "TaskError",
    "build_task",
    "classification",
    "draw_split",
    "find_data",
    "load_data",
    "next_token",
    "pool_task",
    "regression",
]
