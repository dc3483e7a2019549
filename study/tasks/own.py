"""A user's own task: ``my_package.my_module:build``, called as ``build(seed, factors)``."""

import importlib
from collections.abc import Mapping

import torch

from study.records import FactorValue
from study.streams import torch_seed
from study.tasks.examples import examples_of
from study.tasks.task import Task, TaskError


def build_own_task(name: str, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Import the user's function and build the task of one run; torch's random state is left as it was.

    torch is seeded from the run's seed while the function runs, so that initial weights, and a split or noise drawn
    with torch, belong to the seed without a line of the user's.

    Args:
        name: ``module:function``.
        factors: The cell's factors, the study's own and the user's.
        seed: Root seed of the run, ≥ 0.

    Raises:
        TaskError: the function is not there, or it returned something else than a task that fits the factors. What
            the user's code raises itself passes as it is.
    """
    module_name, function_name = name.split(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the user's own code imports
        raise TaskError(
            f"task = {name!r} was given; there is no module {error.name!r} on Python's path; "
            "start the study in the folder that holds it, or install it"
        ) from error
    build = getattr(module, function_name, None)
    if not callable(build):
        raise TaskError(f"task = {name!r} was given; {module_name} has no function {function_name!r}")
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        task = build(seed, dict(factors))
    return _checked(task, name, factors)


def _checked(task: object, name: str, factors: Mapping[str, FactorValue]) -> Task:
    if not isinstance(task, Task):
        raise TaskError(
            f"{name} returned {type(task).__name__}; it must return a Task, such as study.tasks.classification(…) makes"
        )
    size = len(examples_of(task.train, "train"))
    if size != int(factors["train_size"]):
        raise TaskError(
            f"{name} returned {size} training examples, and the spec says factors.train_size = "
            f"{factors['train_size']}; the two must agree, because the cost of a study is planned from the spec"
        )
    return task
