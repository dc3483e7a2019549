"""The one training loop: linear, and a generator of epoch results that somebody else logs."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from study.specs.schedules import Schedule
from study.streams import stream
from study.tasks.examples import Examples, leaves, with_leaves
from study.tasks.task import Augment, Loss
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
        loss: What is minimised.
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
    for epoch in range(done + 1, recipe.epochs + 1):
        order = draws.order.permutation(len(examples))
        total: Tensor | float = 0.0
        for step, (inputs, targets) in enumerate(examples.batches(recipe.batch_size, order, whole=True)):
            factor = recipe.schedule((epoch - 1 + step / steps) / recipe.epochs)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor
            seen = recipe.augment(inputs, draws.augmentation) if recipe.augment else inputs
            skipped = optimizer.cost.skipped
            total += take_step(model, optimizer, seen, targets, recipe.loss, recipe.precision)
            if optimizer.cost.skipped == skipped:
                averages.update_step()
        averages.update(epoch)
        yield EpochResult(epoch, float(total / steps))


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
    model: nn.Module, optimizer: WASAM, inputs: Any, targets: Tensor, loss_of: Loss, precision: str = "float32"
) -> Tensor:
    """Take one step on one batch and return its clean mean loss."""

    def closure(*tensors: Tensor) -> Tensor:
        with arithmetic(precision, targets.device):
            loss = loss_of(model(with_leaves(inputs, tensors[:-1])), tensors[-1])
        loss.backward()
        return loss

    loss = optimizer.step(closure, batch=(*leaves(inputs), targets))
    assert loss is not None  # a step with a closure returns its clean loss
    return loss.detach()


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the block in which forward passes run: autocast for ``bfloat16``, nothing for ``float32``."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)
