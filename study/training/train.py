"""The one training loop: linear, and a generator of epoch results that somebody else logs."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from study.data.pool import TaskError
from study.specs.schedules import Schedule
from study.streams import stream
from study.tasks.adapted import as_if_by_examples
from study.tasks.examples import Examples, examples_in, leaves, with_leaves
from study.tasks.means import Loss, mean_of
from study.tasks.task import Augment
from wasam_core import WASAM, WeightAverages


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One epoch's mean training loss, over the clean passes, in training mode."""

    epoch: int
    train_loss: float


class Draws:
    """The random streams that training reads: one for the order of the examples, one for their augmentation.

    Args:
        seed: Root seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.order = stream(seed, "data order")
        self.augmentation = stream(seed, "augmentation")

    def state(self) -> str:
        """Return where the streams stand, as JSON."""
        return json.dumps([self.order.bit_generator.state, self.augmentation.bit_generator.state])

    def restore(self, state: str) -> None:
        """Go on where `state` was taken."""
        self.order.bit_generator.state, self.augmentation.bit_generator.state = json.loads(state)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train, apart from the model and the data.

    Attributes:
        epochs, batch_size: At least 1; ``batch_size`` ≤ the number of examples.
        learning_rate: The peak; the schedule scales it at every step.
        schedule: The factor on the learning rate against the share of steps done; see `study.specs.schedules`.
        loss: What is minimised: a mean over what `study.tasks.means.mean_of` says.
        augment: Changes the inputs of a batch; None leaves them.
        precision: ``float32``, or ``bfloat16`` for autocast in the passes.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    loss: Loss
    augment: Augment | None = None
    precision: str = "float32"


def train(
    model: nn.Module,
    optimizer: WASAM,
    averages: WeightAverages,
    examples: Examples,
    recipe: Recipe,
    draws: Draws,
    *,
    done: int = 0,
) -> Iterator[EpochResult]:
    """Train in place and yield after every epoch.

    Whatever the method, the loop is the same: with rho = 0 the optimizer's step is the base step, and the averages
    only read. The last, smaller batch of an epoch is left out, so that every step costs the same. Nothing is read back
    from the device within an epoch.

    Args:
        model: As `begin_training` puts it; the caller may evaluate it between epochs, and put back the modes.
        optimizer: Steps over the model's parameters; its learning rate is scaled by the schedule at every step.
        averages: Told of every epoch's end.
        examples: The training examples, their batches on the model's device.
        recipe: How to train.
        draws: Where order and augmentation come from; the same for every method of a seed.
        done: Epochs that are behind the model, the optimizer, the averages and the draws already.
    """
    steps = len(examples) // recipe.batch_size
    begin_training(model)
    mean = mean_of(recipe.loss)
    for epoch in range(done + 1, recipe.epochs + 1):
        order = draws.order.permutation(len(examples))
        total: Tensor | float = 0.0
        counted: Tensor | float = 0
        for step, (inputs, targets) in enumerate(examples.batches(recipe.batch_size, order, whole=True)):
            factor = recipe.schedule((epoch - 1 + step / steps) / recipe.epochs)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor
            seen = recipe.augment(inputs, draws.augmentation) if recipe.augment else inputs
            skipped = optimizer.cost.skipped
            count = mean.count(targets)
            found = take_step(model, optimizer, seen, targets, mean, recipe.precision, recipe.batch_size)
            total, counted = total + _share(found, count), counted + count
            if optimizer.cost.skipped == skipped:
                averages.update_step()
        averages.update(epoch)
        yield EpochResult(epoch, float(total) / max(float(counted), 1e-12))


def _share(mean: Tensor, count: Tensor | float) -> Tensor | float:
    """Return what a batch adds to a sum; nothing where nothing counts, whatever its mean is."""
    if isinstance(count, Tensor):
        return torch.where(count > 0, mean * count, 0.0)
    return mean * count if count else 0.0


def begin_training(model: nn.Module) -> nn.Module:
    """Put a model into training mode, but for what its owner keeps in eval mode, and return it.

    That may be said by a `train` of the model's own, which is called, or by modules in eval mode inside a model in
    training mode. Of a model that is in eval mode itself, as pretrained ones come, everything is to be trained.
    """
    frozen = [module for module in model.modules() if not module.training] if model.training else []
    model.train()
    for module in frozen:
        module.training = False
    return model


def take_step(
    model: nn.Module,
    optimizer: WASAM,
    inputs: Any,
    targets: Any,
    loss_of: Loss,
    precision: str = "float32",
    examples: int | None = None,
) -> Tensor:
    """Take one step on one batch and return its clean mean loss.

    Micro-batches of the ascent count by what the loss is a mean of, so that k of them give the gradient of the batch.

    Args:
        model, optimizer: As in `train`.
        inputs, targets: The batch; what has no row for each example goes to every micro-batch as it is.
        loss_of: The loss, of which see `study.tasks.means.mean_of`.
        precision: As in `Recipe`.
        examples: How many the batch holds; None: as many as its first target tensor.

    Raises:
        TaskError: the optimizer cuts batches, and this one can't be cut.
    """
    mean = mean_of(loss_of)
    device = leaves(targets)[0].device
    count = examples or examples_in(targets)
    tensors = leaves((inputs, targets))
    cut = [bool(tensor.dim()) and len(tensor) == count for tensor in tensors]
    batch = [tensor for one, tensor in zip(cut, tensors, strict=True) if one]
    scale: Tensor | float = 1.0
    if optimizer.m is not None:
        if not all(one or not tensor.dim() for one, tensor in zip(cut, tensors, strict=True)):
            raise TaskError(
                f"a batch of {count} examples holds tensors of {', '.join(str(len(t)) for t in tensors if t.dim())} "
                "rows; m-SAM cuts batches into parts, so every tensor of a batch has to have a row for each example: "
                "leave it out of the methods"
            )
        scale = mean.count(targets) / count  # what an example of the whole batch counts

    def closure(*rows: Tensor) -> Tensor:
        whole = not rows or rows[0] is batch[0]
        given = iter(rows)
        some_inputs, some_targets = (
            (inputs, targets)
            if whole
            else with_leaves(
                (inputs, targets), [next(given) if one else tensor for one, tensor in zip(cut, tensors, strict=True)]
            )
        )
        with arithmetic(precision, device):
            outputs = model(some_inputs)
            loss = mean(outputs, some_targets) if whole else as_if_by_examples(mean, outputs, some_targets, scale)
        loss.backward()
        return loss

    loss = optimizer.step(closure, batch=batch, examples=count)
    assert loss is not None  # a step with a closure returns its clean loss
    return loss.detach()


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the block in which forward passes run: autocast for ``bfloat16``, nothing for ``float32``."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)
