"""Models of any call signature behind one: the inputs of a batch as one object in, a tensor out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from study.tasks.examples import Pair, mapped


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
            inputs = mapped(self.shelf[int(inputs[0, 0])], lambda t: t[inputs[:, 1]])
        if isinstance(inputs, dict):
            outputs = self.model(**inputs)
        elif isinstance(inputs, tuple | list):
            outputs = self.model(*inputs)
        else:
            outputs = self.model(inputs)
        return getattr(outputs, "logits", outputs)


@contextmanager
def numbered(model: nn.Module, *parts: Sequence[Pair]) -> Iterator[tuple[list[tuple[Tensor, Tensor]], ...]]:
    """Let numbers stand for inputs that are no tensor, for measures that ask for one tensor a batch.

    Inside the block the model looks the rows up: a batch of n examples becomes ``(n, 2)`` numbers, its own and those of
    its rows, so that a batch may also be cut. Batches whose inputs are tensors stay as they are.

    Args:
        model: Whatever `study.training.building.adapted` returned.
        parts: Lists of batches.
    """
    if not isinstance(model, Adapted) or all(isinstance(inputs, Tensor) for part in parts for inputs, _ in part):
        yield tuple(list(part) for part in parts)
        return
    shelf: list[Any] = []
    found = []
    for part in parts:
        found.append([(_numbers(len(shelf) + index, targets), targets) for index, (_, targets) in enumerate(part)])
        shelf += [inputs for inputs, _ in part]
    model.shelf = shelf
    try:
        yield tuple(found)
    finally:
        model.shelf = []


def _numbers(batch: int, targets: Tensor) -> Tensor:
    rows = torch.arange(len(targets), device=targets.device)
    return torch.stack([torch.full_like(rows, batch), rows], dim=1)
