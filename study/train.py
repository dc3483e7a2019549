"""The one training loop: linear, and a generator of epoch results that somebody else logs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.augment import augmented
from study.streams import stream
from wasam_core import WASAM, WeightAverages

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "constant": lambda progress: 1.0,
}


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One epoch's mean training loss in nats, over the clean passes, in training mode."""

    epoch: int
    train_loss: float


def train(
    model: nn.Module,
    optimizer: WASAM,
    averages: WeightAverages,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int,
    schedule: str,
    augmentation: float,
    seed: int,
) -> Iterator[EpochResult]:
    """Train in place and yield after every epoch.

    Whatever the method, the loop is the same: with rho = 0 the optimizer's step is the base step, and the averages
    only read. The last, smaller batch of an epoch is left out, so that every step costs the same.

    Args:
        model: In training mode whenever a step is taken; the caller may evaluate it between epochs.
        optimizer: Steps over the model's parameters; its learning rate is scaled by the schedule at every step.
        averages: Told of every epoch's end.
        inputs: ``(n, …)`` on the model's device. labels: ``(n,)`` classes.
        epochs, batch_size: At least 1; ``batch_size`` ≤ n.
        schedule: Name in `SCHEDULES`: the factor on the learning rate against the share of steps done.
        augmentation: Strength of `augmented`, in [0, 1].
        seed: Root seed of the run; data order and augmentation are streams of their own.
    """
    order, draws = stream(seed, "data order"), stream(seed, "augmentation")
    steps = len(labels) // batch_size
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    for epoch in range(1, epochs + 1):
        model.train()
        permutation = torch.from_numpy(order.permutation(len(labels))).to(inputs.device)
        total = torch.zeros((), device=inputs.device)
        for step in range(steps):
            factor = SCHEDULES[schedule]((epoch - 1 + step / steps) / epochs)
            for group, rate in zip(optimizer.param_groups, peak_rates, strict=True):
                group["lr"] = rate * factor
            batch = permutation[step * batch_size : (step + 1) * batch_size]
            examples = augmented(inputs[batch], augmentation, draws)
            skipped = optimizer.cost.skipped
            total += take_step(model, optimizer, examples, labels[batch])
            if optimizer.cost.skipped == skipped:
                averages.update_step()
        averages.update(epoch)
        yield EpochResult(epoch, (total / steps).item())


def take_step(model: nn.Module, optimizer: WASAM, inputs: Tensor, labels: Tensor) -> Tensor:
    """Take one step on one batch and return its clean mean loss."""

    def closure(some_inputs: Tensor, some_labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(some_inputs), some_labels)
        loss.backward()
        return loss

    loss = optimizer.step(closure, batch=(inputs, labels))
    assert loss is not None  # a step with a closure returns its clean loss
    return loss.detach()
