"""A user's own task: ``my_package.my_module:build``, called as ``build(seed, factors)``.

Or as ``build(seed, factors, replicate)``, where it has an argument of that name: the root of the replicate's own random
streams, for a test part that is drawn or split off anew, such as by ``stream(replicate, "test part")``.
"""

import importlib
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from study.data.pool import TaskError
from study.records import FactorValue
from study.streams import torch_seed
from study.tasks.examples import examples_of
from study.tasks.task import Task


def build_own_task(name: str, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Import the user's function and build the task of one run; the global random states are left as they were.

    torch, NumPy and Python's own generator are seeded from the run's seed while the function runs, so that initial
    weights, a split and noise belong to the seed without a line of the user's. The module is imported with a fixed one.

    Args:
        name: ``module:function``.
        factors: The cell's factors, the study's own and the user's.
        seed: Root seed of the run, ≥ 0.
        test_seed: Root of the replicate's test stream.

    Raises:
        TaskError: the function is not there, or it returned something else than a task that fits the factors. What
            the user's code raises itself passes as it is.
    """
    build = _imported(name)
    with _seeded(torch_seed(seed, "initial weights")):
        task = build(seed, dict(factors), **({"replicate": test_seed} if _takes_replicate(build) else {}))
    return _checked(task, name, factors)


def is_told_replicate(name: str) -> bool:
    """Tell whether the user's function has an argument ``replicate``.

    Raises:
        TaskError: the function is not there.
    """
    return _takes_replicate(_imported(name))


def _takes_replicate(build: Callable[..., object]) -> bool:
    try:
        return "replicate" in inspect.signature(build).parameters
    except (TypeError, ValueError):  # a callable that hides its signature
        return False


def _imported(name: str) -> Callable[..., object]:
    module_name, function_name = name.split(":")
    try:
        # What a module draws as it is imported is the same in every worker, and shifts nobody.
        with _seeded(0):
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the user's own code imports
        raise TaskError(
            f"task = {name!r} was given; there is no module {error.name!r} on Python's path; "
            "start the study in the folder that holds it, or install it"
        ) from error
    build: Callable[..., object] | None = getattr(module, function_name, None)
    if not callable(build):
        raise TaskError(f"task = {name!r} was given; {module_name} has no function {function_name!r}")
    return build


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python for the block, and put their states back."""
    held = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(held[0])
            random.setstate(held[1])


def _checked(task: object, name: str, factors: Mapping[str, FactorValue]) -> Task:
    if not isinstance(task, Task):
        raise TaskError(
            f"{name} returned {type(task).__name__}; it must return a Task, such as study.tasks.classification(…) makes"
        )
    if not isinstance(task.model, nn.Module) or not any(p.requires_grad for p in task.model.parameters()):
        raise TaskError(
            f"{name} returned a task whose model is {type(task.model).__name__}; it must be a torch.nn.Module with at "
            "least one parameter that is trained"
        )
    if not callable(task.test):
        raise TaskError(
            f"{name} returned a task whose test is {type(task.test).__name__}; it must be a function that returns the "
            "test data, such as `lambda: (inputs, targets)`, because it is called in the confirm stage alone"
        )
    size = len(examples_of(task.train, "train"))
    if size != int(factors["train_size"]):
        raise TaskError(
            f"{name} returned {size} training examples, and the spec says factors.train_size = "
            f"{factors['train_size']}; the two must agree, because the cost of a study is planned from the spec"
        )
    if not len(examples_of(task.val, "val")):
        raise TaskError(f"{name} returned no validation examples; the hyper-parameters are picked on them")
    return task
