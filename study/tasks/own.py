"""A user's own task: ``my_package.my_module:build``, called as ``build(seed, factors)``.

Or as ``build(seed, factors, replicate)``, where it has an argument of that name: the root of the replicate's own random
streams, for a test part that is drawn or split off anew, such as by ``stream(replicate, "test part")``.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from study.data.pool import TaskError
from study.records import FactorValue
from study.specs.factors import OF_TRAINING
from study.streams import torch_seed
from study.tasks.examples import examples_of, training_examples
from study.tasks.seeded import seeded
from study.tasks.source import source_of
from study.tasks.streamed import Streamed
from study.tasks.task import Guess, Metric, Task


class Handed(dict[str, Any]):
    """The factors of a cell as a user's function gets them: a dict that remembers what is read, and when.

    Whoever goes through all of them, or copies them, has read all.

    Attributes:
        read: Names that were read.
    """

    def __init__(self, factors: Mapping[str, FactorValue]) -> None:
        super().__init__(factors)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:  # what is not dict's own makes dict(…) and ** ask for every item
        return super().__iter__()

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return dict(self) | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return dict(other) | dict(self)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a factor, or the default; read, in any case."""
        self.read.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Take a factor out."""
        self.read.add(name)
        return super().pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a factor, or set it to the default."""
        self.read.add(name)
        return super().setdefault(name, default)

    def copy(self) -> dict[str, Any]:
        """Return all of them."""
        return dict(self)

    def items(self) -> Any:
        """Return names and values."""
        self.read.update(self)
        return super().items()

    def values(self) -> Any:
        """Return the values."""
        self.read.update(self)
        return super().values()


# How a task of one's own does what the built-in ones do.
_HOW = {
    "label_noise": ", by study.tasks.noisy_training(labels, factors, classes, seed) and noisy_validation",
    "validation_label_noise": ", by study.tasks.noisy_validation(labels, factors, classes, seed)",
    "label_smoothing": ", by classification(…, label_smoothing=factors['label_smoothing'])",
}


def check_read(task: str, given: Iterable[str], cells: Iterable[tuple[str, Handed]]) -> None:
    """Make sure that every factor that a spec gives an own task is read, and that no two cells are the same.

    Args:
        task: The task's name.
        given: Factors that the spec names for it.
        cells: Names and factors of its cells, each after the task was built of them, and tried where that is wanted.

    Raises:
        TaskError: nothing reads a factor, so that it would be in the names of cells and nowhere else.
    """
    cells = list(cells)
    read = set[str]().union(OF_TRAINING, *(handed.read for _, handed in cells))
    unread = [name for name in dict.fromkeys(given) if name not in read]
    if unread:
        names = ", ".join(f"factors.{name}" for name in unread)
        own = dict.fromkeys(name for _, handed in cells for name in handed if name not in OF_TRAINING)
        known = ", ".join(name for name in own if name in read) or "none"
        raise TaskError(
            f"task = {task!r} was given {names}, and nothing reads {'it' if len(unread) == 1 else 'them'}: the "
            "training does what only its own factors say, all others are for the task's function; read "
            f"factors[{unread[0]!r}] there and do what it says{_HOW.get(unread[0], '')}, or leave it out of the spec, "
            f"because cells would differ in their names alone; of those that the spec gives, it reads {known}"
        )
    seen: dict[tuple[tuple[str, object], ...], str] = {}
    for name, handed in cells:
        used = tuple(sorted((key, value) for key, value in dict.items(handed) if key in {*OF_TRAINING, *handed.read}))
        if used in seen:
            raise TaskError(
                f"the cells {seen[used]!r} and {name!r} of task = {task!r} are the same: of what they differ in "
                "nothing is read in either; give the values that belong together as problems of their own"
            )
        seen[used] = name


def build_own_task(name: str, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Import the user's function and build the task of one run; the global random states are left as they were.

    torch, NumPy and Python's own generator are seeded from the run's seed while the function runs, so that initial
    weights, a split and noise belong to the seed without a line of the user's. The module is imported with a fixed one.

    Args:
        name: ``module:function``.
        factors: The cell's, the study's own and the user's; the function is handed `Handed` ones.
        seed, test_seed: Roots of the run's random streams, ≥ 0, and of the replicate's.

    Raises:
        TaskError: the function is not there, or it returned something else than a task that fits the factors. What
            the user's code raises itself passes as it is.
    """
    build = own_function(name)
    replicate = {"replicate": test_seed} if is_told_replicate(name) else {}
    _check_arguments(name, build, replicate)
    with seeded(torch_seed(seed, "initial weights")):
        handed = factors if isinstance(factors, Handed) else Handed(factors)
        task = build(seed, handed, **replicate)
    return _checked(task, name, factors, seed)


def _check_arguments(name: str, build: Callable[..., object], more: Mapping[str, object]) -> None:
    """Refuse a function that can't be called as a task's is."""
    signature, wanted = signature_of(build), arguments_of(build)
    if signature is None:
        return
    try:
        signature.bind(0, {}, **more)
        fits = wanted != ["trial"]  # a loop's, whatever else it may take
    except TypeError:
        fits = False
    if not fits:
        takes = ", ".join(wanted or ["nothing"])
        raise TaskError(
            f"task = {name!r} was given, whose function takes ({takes}); that of a task takes (seed, factors) or "
            "(seed, factors, replicate) and returns a Task, that of a loop of your own takes one argument, called trial"
        )


def is_told_replicate(name: str) -> bool:
    """Tell whether the user's function has an argument ``replicate``.

    Raises:
        TaskError: the function is not there.
    """
    signature = signature_of(own_function(name))
    return signature is not None and "replicate" in signature.parameters


def signature_of(function: Callable[..., object]) -> inspect.Signature | None:
    """Return the signature of a function or a class; None where it is hidden."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def arguments_of(function: Callable[..., object]) -> list[str] | None:
    """Return the names of the arguments that a function must be given; None where its signature is hidden."""
    signature = signature_of(function)
    if signature is None:
        return None
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in signature.parameters.values() if one.default is one.empty and one.kind not in variable]


def own_function(name: str) -> Callable[..., object]:
    """Import a task's function or a loop, ``module:function``.

    Raises:
        TaskError: it is not there.
    """
    build = imported(name, f"task = {name!r}")
    source_of(name)  # as it is now: later its files may be others
    return build


def imported(name: str, given: str) -> Callable[..., Any]:
    """Import a function or a class by name, ``module:function``.

    ``given`` is what stands in the spec, for messages: ``task = 'my_task:build'``.

    Raises:
        TaskError: it is not there.
    """
    module_name, function_name = name.split(":")
    try:
        # What a module draws as it is imported is the same in every worker, and shifts nobody.
        with seeded(0):
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the user's own code imports
        raise TaskError(
            f"{given} was given; there is no module {error.name!r} on Python's path; "
            "start the study in the folder that holds it, or install it"
        ) from error
    build: Callable[..., Any] | None = getattr(module, function_name, None)
    if not callable(build):
        raise TaskError(f"{given} was given; {module_name} has no function {function_name!r}")
    return build


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError):
        return False


def _checked(task: object, name: str, factors: Mapping[str, FactorValue], seed: int) -> Task:
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
    if not (
        isinstance(task.metric, Metric) and isinstance(task.metric.name, str) and isinstance(task.metric.unit, str)
    ):
        raise TaskError(
            f"{name} returned a task whose metric is {type(task.metric).__name__}; it must be a study.tasks.Metric "
            'with a name and, if it has one, a unit, such as Metric("MAE", function, higher_is_better=False, unit="k$")'
        )
    task.metric.check()
    if not (isinstance(task.guess, Guess) and all(map(_is_finite, (task.guess.loss, task.guess.score)))):
        raise TaskError(
            f"{name} returned a task whose guess is {task.guess!r}; it must be Guess(loss, score) of finite numbers, "
            "what somebody gets who learns nothing, because runs that diverge count like that"
        )
    train = training_examples(task.train, int(factors["train_size"]), torch_seed(seed, "stream"))
    if isinstance(train, Streamed):
        task = replace(task, train=train)
    elif "steps_per_epoch" in factors:
        raise TaskError(
            f"{name} returned {len(train)} training examples, and the spec gives factors.steps_per_epoch, which is for "
            "streams (an IterableDataset): give factors.train_size in its place"
        )
    size = len(train)
    if size != int(factors["train_size"]):
        raise TaskError(
            f"{name} returned {size} training examples, and the spec says factors.train_size = "
            f"{factors['train_size']}; the two must agree, because the cost of a study is planned from the spec"
        )
    if not len(examples_of(task.val, "val")):
        raise TaskError(f"{name} returned no validation examples; the hyper-parameters are picked on them")
    return task
