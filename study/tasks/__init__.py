"""Tasks by name: the `Task` that a seed and a cell's factors make of the data that `study.data` loads.

``build_task`` runs in the worker, for every run; `study.specs.tasks` names what builds. A name such as
``my_package.my_module:build`` is a user's own task: see `study.tasks.own`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

from study.records import FactorValue
from study.specs.tasks import TASKS, is_own_task
from study.tasks.examples import examples_of
from study.tasks.loop import LoopMetric, Trial
from study.tasks.means import Mean, over_examples
from study.tasks.nests import leaves
from study.tasks.own import build_own_task
from study.tasks.pool import Split, draw_split, noisy_training, noisy_validation, pool_task
from study.tasks.task import Guess, Metric, Task, classification, next_token, regression

EVALUATION_BATCH = 1000  # examples at a time in an evaluation of a built-in task, whose examples are small
_FEWEST = 50
# Numbers in a batch of inputs: the activations of more leave a core's cache. An image of Fashion-MNIST takes a small
# conv net a quarter less time in batches of 83 than of 1,000, one of the digits half as long again in batches of 50.
_NUMBERS = 2**16


def build_task(name: str, data: Any, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Build a task from what `study.data.load_data` returned.

    Args:
        name, data, factors: The task's, and the cell's.
        seed: Root seed of the run: of its split, its noise, its initial weights.
        test_seed: Root of the replicate's test stream: what is set aside before that split is drawn.
    """
    if is_own_task(name):
        return build_own_task(name, factors, seed, test_seed)
    task: Task = resolve_name(TASKS[name].build)(data, factors, seed, test_seed)
    inputs, _ = next(examples_of(task.val, "val").first(1).batches(1))
    fitting = _NUMBERS // sum(tensor.numel() for tensor in leaves(inputs))
    size = max(_FEWEST, min(EVALUATION_BATCH, fitting))
    return replace(task, evaluation_batch=size, metric_batch=EVALUATION_BATCH)


__all__ = [
    "Guess",
    "LoopMetric",
    "Mean",
    "Metric",
    "Split",
    "Task",
    "Trial",
    "build_task",
    "classification",
    "draw_split",
    "next_token",
    "noisy_training",
    "noisy_validation",
    "over_examples",
    "pool_task",
    "regression",
]
