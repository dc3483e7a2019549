"""The one training loop: linear, and a generator of epoch results that somebody else logs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from study.data.pool import TaskError
from study.specs.schedules import Schedule
from study.streams import stream
from study.tasks.adapted import as_if_by_examples
from study.tasks.examples import Examples
from study.tasks.groups import SCALE
from study.tasks.means import Loss, mean_of
from study.tasks.nests import device_of, examples_in, rows_of, uncuttable
from study.tasks.task import Augment
from study.training.building import switch_mode
from study.training.own_optimizers import OwnSteps
from wasam_core import WASAM, WeightAverages


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
        micro_batches: Parts of a batch whose gradients are added up, one after the other; they divide ``batch_size``.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    loss: Loss
    augment: Augment | None = None
    precision: str = "float32"
    micro_batches: int = 1


def train(
    model: nn.Module,
    optimizer: WASAM | OwnSteps,
    averages: WeightAverages,
    examples: Examples,
    recipe: Recipe,
    draws: Draws,
    *,
    done: int = 0,
) -> Iterator[float]:
    """Train in place and yield after every epoch its mean training loss, over the clean passes, in training mode.

    Whatever the method, the loop is the same: with rho = 0 the optimizer's step is the base step, and the averages
    only read. The last, smaller batch of an epoch is left out, so that every step costs the same. Nothing is read back
    from the device within an epoch.

    Args:
        model: As `begin_training` puts it; the caller may evaluate it between epochs, and put back the modes.
        optimizer, averages: Of the model's parameters; the schedule scales the learning rate at every step.
        examples, recipe: What to train on, on the model's device, and how.
        draws: Where order and augmentation come from; the same for every method of a seed.
        done: Epochs that are behind the model, the optimizer, the averages and the draws already.
    """
    steps = len(examples) // recipe.batch_size
    begin_training(model)
    mean = mean_of(recipe.loss)
    for epoch in range(done + 1, recipe.epochs + 1):
        switch_mode(optimizer.base_optimizer, training=True)
        total: Tensor | float = 0.0
        counted: Tensor | float = 0
        for step, (inputs, targets) in enumerate(examples.epoch(epoch, recipe.batch_size, draws.order)):
            factor = recipe.schedule((epoch - 1 + step / steps) / recipe.epochs)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor * group.get(SCALE, 1.0)
            seen = recipe.augment(inputs, draws.augmentation) if recipe.augment else inputs
            count = mean.count(targets)
            found = take_step(
                model, optimizer, seen, targets, mean, recipe.precision, recipe.batch_size,
                recipe.micro_batches,
            )  # fmt: skip
            total, counted = total + _share(found, count), counted + count
            averages.update_step(optimizer.updated)
        switch_mode(optimizer.base_optimizer, training=False)
        averages.update(epoch)
        yield _ratio(total, counted)


def _share(mean: Tensor, count: Tensor | float) -> Tensor | float:
    """Return what a batch adds to a sum; nothing where nothing counts, whatever its mean is."""
    if isinstance(count, Tensor):
        return torch.where(count > 0, mean * count, 0.0)
    return mean * count if count else 0.0


def _ratio(total: Tensor | float, counted: Tensor | float) -> float:
    """Return a mean: the one thing that is read back from the device in an epoch, in one piece."""
    if isinstance(total, Tensor) and isinstance(counted, Tensor):
        total, counted = torch.stack([total, counted.to(total)]).tolist()
    return float(total) / max(float(counted), 1e-12)


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
    optimizer: WASAM | OwnSteps,
    inputs: Any,
    targets: Any,
    loss_of: Loss,
    precision: str = "float32",
    examples: int | None = None,
    micro_batches: int = 1,
) -> Tensor:
    """Take one step on one batch and return its clean mean loss.

    Micro-batches of the ascent count by what the loss is a mean of, so that k of them give the gradient of the batch.

    Args:
        model, optimizer, loss_of, precision: As in `train` and `Recipe`.
        inputs, targets: The batch; what has no row for each example goes to every micro-batch as it is.
        examples: How many the batch holds; None: as many as its first target tensor.
        micro_batches: As in `Recipe`: every pass over the whole batch is made of so many, with equal random numbers in
            all passes of a step. The parts of m-SAM are taken as they are.

    Raises:
        TaskError: the optimizer cuts batches, and this one can't be cut.
    """
    mean = mean_of(loss_of)
    device = device_of((targets, inputs))
    count = examples or examples_in(targets)
    batch: tuple[Tensor, ...] = ()
    scale: Tensor | float = 1.0
    if optimizer.m is not None or micro_batches > 1:
        if rest := uncuttable((inputs, targets), count):
            raise TaskError(
                f"a batch of {count} examples holds {rest}; m-SAM and gradient_accumulation_steps cut batches into "
                "parts, so every tensor of a batch has to have a row, and every list an entry, for each example: leave "
                "them out"
            )
        batch = (torch.arange(count),)  # the rows, by number, stand for the batch that is cut
        scale = mean.count(targets) / count  # what an example of the whole batch counts

    def closure(*rows: Tensor) -> Tensor:
        whole = not rows or rows[0] is batch[0]
        if not whole or micro_batches == 1:
            return passed(rows, whole=whole)
        parts = torch.arange(count).chunk(micro_batches)
        return torch.stack([passed((part,), whole=False, share=1 / micro_batches) for part in parts]).sum()

    def passed(rows: Sequence[Tensor], *, whole: bool, share: float = 1.0) -> Tensor:
        some = (inputs, targets)
        if not whole:
            some = rows_of(some, count, slice(int(rows[0][0]), int(rows[0][-1]) + 1))
        with arithmetic(precision, device):
            outputs = model(some[0])
            loss = mean(outputs, some[1]) if whole else as_if_by_examples(mean, outputs, some[1], scale)
        loss = loss if share == 1 else loss * share
        loss.backward()
        return loss if share == 1 else loss.detach()

    loss = optimizer.step(closure, batch=batch, examples=count)
    assert loss is not None  # as no gradients were there before
    return loss.detach()


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the block in which forward passes run: autocast for ``bfloat16``, nothing for ``float32``."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)
