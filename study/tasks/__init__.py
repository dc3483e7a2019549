"""Tasks by name: the `Task` that a seed and a cell's factors make of the data that `study.data` loads.

``build_task`` runs in the worker, for every run. A name such as ``my_package.my_module:build`` is a user's own task:
see `study.tasks.own`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from study.data.image_sets import IMAGE_SETS
from study.records import FactorValue
from study.specs.factors import is_own_task
from study.tasks.graphs import graph_task
from study.tasks.own import build_own_task
from study.tasks.pool import Split, draw_split, pool_task
from study.tasks.tabular import pool_table_task, table_task
from study.tasks.task import Task, classification, next_token, regression
from study.tasks.text import text_task
from study.tasks.vision import image_task
from study.tasks.vision_folder import folder_task

BUILDERS: dict[str, Callable[[Any, Mapping[str, FactorValue], int], Task]] = {
    "digits": pool_task,
    "mnist1d": pool_task,
    "breast_cancer": pool_table_task,
    "wine": pool_table_task,
    "diabetes": table_task,
    "characters": text_task,
    "communities": graph_task,
    **dict.fromkeys(IMAGE_SETS, image_task),
    "image-folder": folder_task,
}


def build_task(name: str, data: Any, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Build a task from what `study.data.load_data` returned, a cell's factors and a seed."""
    return build_own_task(name, factors, seed) if is_own_task(name) else BUILDERS[name](data, factors, seed)


__all__ = [
    "BUILDERS",
    "Split",
    "Task",
    "build_task",
    "classification",
    "draw_split",
    "next_token",
    "pool_task",
    "regression",
]
