"""What a study needs of a task: a model, examples, a loss and a metric, built from a seed and the cell's factors.

The built-in tasks and a user's own are the same thing: a `Task`. `classification`, `regression` and `next_token` fill
in loss, metric and the level of guessing; whoever needs something else fills in a `Task` by hand.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from study.data.pool import TaskError, check_unsealed
from study.tasks.examples import Data, Examples, examples_of
from study.tasks.means import IGNORED, Loss, Mean, mean_of

Augment = Callable[[Any, np.random.Generator], Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a model is judged by.

    Attributes:
        name: As people call it, such as ``accuracy``. Of a metric that comes to several numbers by name, as
            MeanAveragePrecision of torchmetrics does, it says which is meant, such as ``map_50``.
        of: A `Mean`, or one of torch's own losses; or an object with ``reset``, ``update`` and ``compute``; or a
            function from the outputs and the targets of a whole split to one number, for which all outputs are kept in
            the CPU's memory, unless they are large and it turns out to be a mean over examples.
        higher_is_better: If not, its negative is the score, so that a higher score is always better.
        unit: Of its values, such as ``k$`` or ``nats``; ``fraction`` of a share that is written in percent, as every
            metric is that is called an accuracy; "" for a plain number.
    """

    name: str
    of: Any
    higher_is_better: bool = True
    unit: str = ""

    def check(self) -> None:
        """Make sure that it goes the way that its maker says.

        Raises:
            TaskError: a loss of torch's is to be as high as possible, or torchmetrics says otherwise than it.
        """
        said = getattr(self.of, "higher_is_better", None) if is_streaming(self.of) else None
        if not is_streaming(self.of) and not isinstance(self.of, Mean) and not mean_of(self.of).assumed:
            said = False  # a loss of torch's
        if isinstance(said, bool) and said != self.higher_is_better:
            called = getattr(self.of, "__name__", type(self.of).__name__)
            raise TaskError(
                f"Metric({self.name!r}) has higher_is_better={self.higher_is_better}, and {called} is better "
                f"when it is {'higher' if said else 'lower'}: give higher_is_better={said}"
            )

    def number(self, found: Any) -> float:
        """Return the number that was computed; of several, the one that has the metric's name.

        Raises:
            TaskError: it is no number, or not one.
        """
        value: Any = found.get(self.name) if isinstance(found, Mapping) else found
        if (value.numel() if isinstance(value, Tensor) else getattr(value, "size", 1)) == 1:
            with suppress(TypeError, ValueError):  # no number
                return float(value.item() if hasattr(value, "item") else value)
        if isinstance(found, Mapping):
            given = f"numbers called {', '.join(map(repr, found))}: give the metric the name of the one that is meant"
        else:
            given = f"{type(found).__name__} of shape {tuple(getattr(found, 'shape', ()))}: have it return one number"
        raise TaskError(f"the metric {self.name!r} came to {given}")

    def signed(self, value: float) -> float:
        """Return a value of the metric as a score."""
        return value if self.higher_is_better else -value


def is_streaming(of: object) -> bool:
    """Tell whether a metric takes a split in batch by batch; those of torchmetrics can be called, too."""
    return all(callable(getattr(of, name, None)) for name in ("reset", "update", "compute"))


@dataclass(frozen=True, slots=True)
class Guess:
    """What somebody gets who learns nothing: a run that diverges counts like that.

    ``loss`` in the units of the task's loss, ``score`` in those of the score.
    """

    loss: float
    score: float


@dataclass(frozen=True, slots=True)
class Task:
    """One problem, ready to be trained; see `classification`, `regression` and `next_token` for the common kinds.

    Attributes:
        model: The network, its initial weights drawn from the run's seed. Called with the inputs of a batch: a tensor,
            or a tuple or dict of tensors that become its arguments. An output that has ``logits`` (as those of Hugging
            Face models) counts as these. What is in eval mode inside a model in training mode stays so: it is frozen.
        train, val: Tensors ``(inputs, targets)``, or a map-style Dataset or DataLoader that yields such pairs; both may
            be tuples or dicts of tensors. Order and batch size are the study's, so that every method sees the same
            batches.
        test: A function that returns the test data; it is called in the confirm stage alone.
        loss: From outputs and targets of a batch to its mean, a scalar tensor. If that is no mean over examples (but
            over tokens, pixels, nodes …) and none of torch's own losses, a `study.tasks.Mean` says over what.
        metric: What the methods are compared by.
        guess: The level of a run that diverged.
        training_loss: What is minimised, where that is not ``loss``, such as a smoothed one.
        classifies: The outputs are logits ``(n, classes)`` or ``(n, positions, classes)``: the calibration error is
            measured too, where the targets are classes.
        augment: From the inputs of a training batch and a random stream to the inputs that are trained on.
        clean_targets: The targets of ``train`` as they were before some were made wrong, where that is known: a tensor
            or an array of classes of the same shape.
        origin: What the data are, such as a hash, where no version of a package says it; goes into every record.
        evaluation_batch: Examples at a time in an evaluation; None: as many as a DataLoader of the task reads, or as a
            step trains on.
        metric_batch: Examples whose outputs an evaluation puts together before it asks for loss and metric, where these
            would take their time over many small batches; 0: it asks batch by batch. Not for one that is a matter of
            its batch, such as a contrastive loss.
        parameter_groups: From the model to groups as torch's optimizers take them, with options of their own such as
            ``weight_decay``; a group's learning rate is the run's, at every step of its schedule, times its
            ``lr_scale`` (1 without). None: one group.
    """

    model: nn.Module
    train: Data
    val: Data
    test: Callable[[], Data]
    loss: Loss
    metric: Metric
    guess: Guess
    training_loss: Loss | None = None
    classifies: bool = False
    augment: Augment | None = None
    clean_targets: Any = None
    origin: str = ""
    evaluation_batch: int | None = None
    metric_batch: int = 0
    parameter_groups: Callable[[Any], list[dict[str, Any]]] | None = None

    def open_test(self, stage: str) -> Examples:
        """Return the test examples; in the confirm stage alone.

        Raises:
            SealedTestError: in any other stage.
        """
        check_unsealed(stage)
        return examples_of(self.test(), "test")


def classification(
    model: nn.Module,
    train: Data,
    val: Data,
    test: Callable[[], Data],
    *,
    classes: int,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
) -> Task:
    """Return a task with logits ``(n, classes)`` and targets ``(n,)``: cross-entropy in nats, accuracy.

    Args:
        model, train, val, test, augment: See `Task`.
        classes: How many there are; guessing gets ``1 / classes``.
        label_smoothing: Share of a target that goes to all classes, in [0, 1); of the training loss alone (Szegedy et
            al. 2016, arXiv 1512.00567, section 7).
    """
    smoothed = partial(functional.cross_entropy, label_smoothing=label_smoothing) if label_smoothing else None
    return Task(
        model, train, val, test, functional.cross_entropy, ACCURACY, Guess(math.log(classes), 1 / classes),
        training_loss=smoothed, classifies=True, augment=augment,
    )  # fmt: skip


def regression(
    model: nn.Module,
    train: Data,
    val: Data,
    test: Callable[[], Data],
    *,
    variance: float,
    augment: Augment | None = None,
) -> Task:
    """Return a task with outputs and targets of one shape: mean squared error, and R² as the metric.

    R² = 1 - MSE / ``variance``, with one variance for all splits, so that a split's own spread does not move it.

    Args:
        model, train, val, test, augment: See `Task`.
        variance: Of the targets, > 0; what a constant guess at their mean gets as its loss.
    """
    if not variance > 0:
        raise TaskError(f"variance = {variance!r} was given; the targets of a regression need a variance above 0")
    metric = Metric("R²", Mean(partial(_explained, variance), torch.numel))
    return Task(model, train, val, test, functional.mse_loss, metric, Guess(variance, 0.0), augment=augment)


def next_token(
    model: nn.Module,
    train: Data,
    val: Data,
    test: Callable[[], Data],
    *,
    vocabulary: int,
    augment: Augment | None = None,
) -> Task:
    """Return a task with logits ``(n, positions, vocabulary)`` and targets ``(n, positions)``.

    The loss is the cross-entropy per token in nats, the metric the share of tokens whose likeliest guess is right.
    Targets of -100 are left out of the loss, as in `torch.nn.functional.cross_entropy`, and of the metric.

    Args:
        model, train, val, test, augment: See `Task`.
        vocabulary: How many tokens there are.
    """
    return Task(
        model, train, val, test, token_cross_entropy, TOKEN_ACCURACY, Guess(math.log(vocabulary), 1 / vocabulary),
        classifies=True, augment=augment,
    )  # fmt: skip


def _explained(variance: float, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over all targets of what is explained of each: 1 - squared error / variance."""
    errors = functional.mse_loss(outputs.double(), targets.double(), reduction="sum")
    return targets.numel() - errors / variance


def _right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return how many targets that count are the likeliest class.

    Raises:
        TaskError: the targets are no classes, one for each set of outputs.
    """
    if targets.is_floating_point() or targets.shape != outputs.shape[:-1]:
        raise TaskError(
            f"an accuracy was asked for with outputs of shape {tuple(outputs.shape)} and targets of shape "
            f"{tuple(targets.shape)} ({targets.dtype}); it needs the scores of all classes in the last dimension, and "
            "a whole number for each of them as the target: give a Metric of your own for other targets"
        )
    return ((outputs.argmax(-1) == targets) & (targets != IGNORED)).sum().double()


def _counted(targets: Tensor) -> Tensor:
    return (targets != IGNORED).sum()


def _token_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum")


# The share of examples (or tokens, if any are not -100) whose likeliest class is the target.
accuracy = Mean(_right, _counted)
# The mean cross-entropy per token: ``(n, positions, vocabulary)`` logits, ``(n, positions)`` targets.
token_cross_entropy = Mean(_token_losses, _counted)
ACCURACY = Metric("accuracy", accuracy, unit="fraction")
TOKEN_ACCURACY = Metric("token accuracy", accuracy, unit="fraction")
