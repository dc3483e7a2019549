"""Models of any call signature behind one: the inputs of a batch as one object in."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from study.data.pool import TaskError
from study.tasks.loaded import Pair
from study.tasks.means import Loss, Mean, mean_of
from study.tasks.nests import device_of, examples_in, parts_of, rows_of


class Adapted(nn.Module):
    """A model that takes the inputs of a batch as one object.

    Tuples and dicts become its arguments; a list, a dataclass or a named tuple is one. An output that is a tuple, a
    list or a dataclass is handed on as it is; the ``logits`` of any other, as of Hugging Face models, stand for it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.shelf: list[tuple[Any, int]] = []  # inputs that `numbered` batches stand for, and how many examples

    def forward(self, inputs: Any) -> Any:
        """Call the model with the inputs as it expects them.

        Raises:
            TaskError: they don't fit its signature.
        """
        if self.shelf and isinstance(inputs, Tensor):
            held, size = self.shelf[int(inputs[0, 0])]
            inputs = rows_of(held, size, inputs[:, 1])
        arguments, named = _arguments(inputs)
        try:
            outputs = self.model(*arguments, **named)
        except TypeError as error:
            self._explain(arguments, named, error)
            raise
        own = parts_of(outputs) is not None and not isinstance(outputs, Mapping)
        return outputs if own else getattr(outputs, "logits", outputs)

    def _explain(self, arguments: tuple[Any, ...], named: dict[str, Any], error: TypeError) -> None:
        try:
            inspect.signature(self.model.forward).bind(*arguments, **named)
        except TypeError as wrong:
            given = ", ".join(map(repr, named)) if named else f"{len(arguments)} arguments"
            raise TaskError(
                f"the inputs of a batch became {given}, which {type(self.model).__name__}.forward does not take "
                f"({wrong}): a tuple becomes one argument for each of its parts, a dict named ones, and a list, which "
                "holds an entry for each example, is one"
            ) from error


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), {**inputs}
    return (inputs if type(inputs) is tuple else (inputs,)), {}


@contextmanager
def numbered(model: nn.Module, *parts: Sequence[Pair]) -> Iterator[tuple[list[tuple[Tensor, Tensor]], ...]]:
    """Let numbers stand for targets, and for inputs that are no tensor, for measures that ask for tensors.

    A batch of n examples becomes ``(n, 2)`` numbers, its own and those of its rows, so that a batch may also be cut;
    inside the block the model looks its inputs up, and a loss of `by_number` its targets.

    Args:
        model: Whatever `study.training.building.adapted` returned.
        parts: Lists of batches.
    """
    pairs = [pair for part in parts for pair in part]
    looking = model if isinstance(model, Adapted) else None
    if all(isinstance(inputs, Tensor) for inputs, _ in pairs):
        looking = None
    number, found = iter(range(len(pairs))), []
    for part in parts:
        numbers = [_numbers(next(number), inputs, targets) for inputs, targets in part]
        seen = numbers if looking else [inputs for inputs, _ in part]
        found.append(list(zip(seen, numbers, strict=True)))
    if looking:
        looking.shelf = [(inputs, examples_in(targets)) for inputs, targets in pairs]
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
        targets = rows_of(shelf[batch], examples_in(shelf[batch]), numbers[:, 1])
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


def _numbers(batch: int, inputs: Any, targets: Any) -> Tensor:
    rows = torch.arange(examples_in(targets), device=device_of((targets, inputs)))
    return torch.stack([torch.full_like(rows, batch), rows], dim=1)
