"""Models of any call signature behind one: the inputs of a batch as one object in, a tensor out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from study.tasks.examples import Pair, examples_in, leaves, mapped
from study.tasks.means import Loss, Mean, mean_of


class Adapted(nn.Module):
    """A model that takes the inputs of a batch as one object and returns a tensor.

    Tuples and dicts become its arguments, and an output with ``logits`` stands for these.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.shelf: list[Any] = []  # the inputs that `numbered` batches stand for

    def forward(self, inputs: Any) -> Any:
        """Call the model with the inputs as it expects them."""
        if self.shelf and isinstance(inputs, Tensor):
            rows = inputs[:, 1]
            inputs = mapped(self.shelf[int(inputs[0, 0])], lambda t: t[rows])
        if isinstance(inputs, dict):
            outputs = self.model(**inputs)
        elif isinstance(inputs, tuple | list):
            outputs = self.model(*inputs)
        else:
            outputs = self.model(inputs)
        return getattr(outputs, "logits", outputs)


@contextmanager
def numbered(
    model: nn.Module, *parts: Sequence[Pair], targets_too: bool = False
) -> Iterator[tuple[list[tuple[Tensor, Tensor]], ...]]:
    """Let numbers stand for inputs that are no tensor, for measures that ask for one tensor a batch.

    Inside the block the model looks the rows up: a batch of n examples becomes ``(n, 2)`` numbers, its own and those of
    its rows, so that a batch may also be cut. Batches whose inputs are tensors stay as they are.

    Args:
        model: Whatever `study.training.building.adapted` returned.
        parts: Lists of batches.
        targets_too: Numbers stand for all targets as well, for the losses that `by_number` makes.
    """
    pairs = [pair for part in parts for pair in part]
    looking = model if isinstance(model, Adapted) else None
    if all(isinstance(inputs, Tensor) for inputs, _ in pairs):
        looking = None
    found, number = [], 0
    for part in parts:
        batches = []
        for inputs, targets in part:
            numbers = _numbers(number, targets)
            batches.append((numbers if looking else inputs, numbers if targets_too else targets))
            number += 1
        found.append(batches)
    if looking:
        looking.shelf = [inputs for inputs, _ in pairs]
    try:
        yield tuple(found)
    finally:
        if looking:
            looking.shelf = []


def by_number(loss: Loss, *parts: Sequence[Pair]) -> Loss:
    """Return a loss of `numbered` targets whose mean over a part, weighted by examples, is the part's mean.

    The measures that it is for weigh batches by their examples. So each batch's loss is the sum over what counts in it,
    by its examples, in units of what an example of the part counts on average.

    Args:
        loss: The task's. parts: As for `numbered`.
    """
    mean = mean_of(loss)
    shelf, scales = [], []
    for part in parts:
        counted = sum(float(mean.count(targets)) for _, targets in part)
        scale = counted / max(1, sum(examples_in(targets) for _, targets in part))
        shelf += [targets for _, targets in part]
        scales += [scale] * len(part)

    def found(outputs: Any, numbers: Tensor) -> Tensor:
        batch = int(numbers[0, 0])
        size = examples_in(shelf[batch])
        targets = mapped(shelf[batch], lambda t: t[numbers[:, 1]] if t.dim() and len(t) == size else t)
        return as_if_by_examples(mean, outputs, targets, scales[batch])

    return found


def as_if_by_examples(mean: Mean, outputs: Any, targets: Any, scale: float | Tensor) -> Tensor:
    """Return a batch's share of a mean, for somebody who weighs it by its examples.

    Args:
        mean: The loss. outputs, targets: Of the batch.
        scale: What an example counts, on average over all that is weighed together.
    """
    if mean.assumed and mean.mean is not None:
        return mean.mean(outputs, targets)
    return mean.total(outputs, targets) / (examples_in(targets) * scale)


def _numbers(batch: int, targets: Any) -> Tensor:
    rows = torch.arange(examples_in(targets), device=leaves(targets)[0].device)
    return torch.stack([torch.full_like(rows, batch), rows], dim=1)
