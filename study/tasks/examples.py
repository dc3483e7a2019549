"""Examples in batches: tensors that stay on the device, or a Dataset that is read as it goes.

Order and batch size come from outside, whatever the source, so that every method of a seed sees the same batches.
"""

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter, methodcaller
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

Pair = tuple[Any, Tensor]
Data = tuple[Any, Any] | Dataset[Any] | DataLoader[Any]  # a pair may also hold arrays
Order = npt.NDArray[np.int64]


class ExamplesError(ValueError):
    """Data that can't be used; the message says what was given and what is allowed."""


class Examples(Protocol):
    """A finite set of pairs of inputs and targets."""

    def __len__(self) -> int:
        """How many there are."""

    def to(self, device: torch.device) -> "Examples":
        """Return the same examples, their batches on a device."""

    def first(self, count: int) -> "Examples":
        """Return the first ``count`` of them, or all if there are fewer."""

    def batches(self, size: int, order: Order | None = None, *, whole: bool = False) -> Iterator[Pair]:
        """Yield pairs of inputs and targets, ``size`` examples each.

        Args:
            size: Examples a batch.
            order: Indices in the order wanted; None for all as they stand.
            whole: Leave out the last batch if it is smaller.
        """


def examples_of(data: Data, part: str) -> Examples:
    """Return any data as `Examples`.

    Args:
        data: ``(inputs, targets)``: tensors or arrays, inputs also as tuple or dict of these; a map-style Dataset; a
            DataLoader over one (its collate function, workers and pinning are kept, its order is not).
        part: What it is, for messages, such as ``train``.

    Raises:
        ExamplesError: it is something else.
    """
    if isinstance(data, Loaded | Resident):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return _resident(data[0], data[1], part)
    if isinstance(data, DataLoader):
        return Loaded(
            _map_style(data.dataset, part), data.collate_fn, data.num_workers, data.pin_memory, torch.device("cpu")
        )
    return Loaded(_map_style(data, part), default_collate, 0, False, torch.device("cpu"))


@dataclass(frozen=True, slots=True)
class Resident:
    """Tensors that stay on the device; a batch is a slice or a selection of them.

    ``inputs`` is a tensor, or a tuple or dict of tensors, with the examples along dimension 0; ``targets`` a tensor.
    """

    inputs: Any
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "Resident":
        """Return the same examples on a device."""
        return Resident(mapped(self.inputs, lambda t: t.to(device)), self.targets.to(device))

    def first(self, count: int) -> "Resident":
        """Return the first ``count`` of them."""
        return Resident(mapped(self.inputs, lambda t: t[:count]), self.targets[:count])

    def batches(self, size: int, order: Order | None = None, *, whole: bool = False) -> Iterator[Pair]:
        """Yield batches; without an order they are views."""
        count = len(self) if order is None else len(order)
        index = None if order is None else torch.from_numpy(order).to(self.targets.device)
        for begin in range(0, count - size + 1 if whole else count, size):
            chosen = slice(begin, begin + size)
            # Selected in half the time of indexing with a tensor.
            batch = itemgetter(chosen) if index is None else methodcaller("index_select", 0, index[chosen])
            yield mapped(self.inputs, batch), batch(self.targets)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A map-style dataset, read batch by batch and moved to the device."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    workers: int
    pinned: bool
    device: torch.device
    limit: int | None = None

    def __len__(self) -> int:
        return len(self.dataset) if self.limit is None else min(self.limit, len(self.dataset))

    def to(self, device: torch.device) -> "Loaded":
        """Return the same examples, their batches on a device."""
        return Loaded(self.dataset, self.collate, self.workers, self.pinned, device, self.limit)

    def first(self, count: int) -> "Loaded":
        """Return the first ``count`` of them."""
        return Loaded(self.dataset, self.collate, self.workers, self.pinned, self.device, min(count, len(self)))

    def batches(self, size: int, order: Order | None = None, *, whole: bool = False) -> Iterator[Pair]:
        """Yield batches as a DataLoader reads them."""
        indices = range(len(self)) if order is None else order.tolist()
        chunks = [list(indices[begin : begin + size]) for begin in range(0, len(indices), size)]
        if whole and chunks and len(chunks[-1]) < size:
            chunks.pop()
        pinned = self.pinned and self.device.type == "cuda"
        # A loader draws a seed for its workers; from the order, it is the same for every method and shifts nobody else.
        generator = torch.Generator().manual_seed(0 if order is None else zlib.crc32(order.tobytes()))
        loader = DataLoader(
            self.dataset,
            batch_sampler=chunks,
            collate_fn=self.collate,
            num_workers=self.workers,
            pin_memory=pinned,
            generator=generator,
        )
        for batch in loader:
            inputs, targets = _pair(batch)
            yield mapped(inputs, lambda t: t.to(self.device, non_blocking=pinned)), targets.to(self.device)


def mapped(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return inputs of the same form with every tensor changed."""
    if isinstance(inputs, Mapping):
        return {name: change(tensor) for name, tensor in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(change(tensor) for tensor in inputs)
    return change(inputs)


def leaves(inputs: Any) -> tuple[Tensor, ...]:
    """Return the tensors of inputs, in order."""
    if isinstance(inputs, Mapping):
        return tuple(inputs.values())
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def with_leaves(inputs: Any, tensors: Sequence[Tensor]) -> Any:
    """Return inputs of the same form that hold other tensors, given in the order of `leaves`."""
    if isinstance(inputs, Mapping):
        return dict(zip(inputs, tensors, strict=True))
    return tuple(tensors) if isinstance(inputs, tuple | list) else tensors[0]


def _tensor(values: Any) -> Tensor:
    """Return values as a tensor without a copy; those that Ray shares and those of files are read-only, as here too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.as_tensor(values)


def _resident(inputs: Any, targets: Any, part: str) -> Resident:
    tensors, labels = mapped(inputs, _tensor), _tensor(targets)
    for tensor in (*leaves(tensors), labels):
        if not tensor.dim():
            raise ExamplesError(f"{part}: a single number was given; inputs and targets hold an entry for each example")
        if len(tensor) != len(labels):
            raise ExamplesError(
                f"{part}: inputs of {len(tensor)} and targets of {len(labels)} examples were given; "
                "they must have equally many"
            )
    return Resident(tensors, labels)


def _map_style(dataset: Any, part: str) -> Any:
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise ExamplesError(
            f"{part}: {type(dataset).__name__} was given; allowed are a pair (inputs, targets) of tensors, and a "
            "Dataset or DataLoader with a length and an index, because the study decides the order of the examples"
        )
    return dataset


def _pair(batch: Any) -> Pair:
    if isinstance(batch, Mapping):  # as Hugging Face datasets yield it, with or without a collator
        for key in ("labels", "label"):
            if key in batch:
                return {name: value for name, value in batch.items() if name != key}, batch[key]
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    raise ExamplesError(
        f"a batch of type {type(batch).__name__} was given; it must be a pair (inputs, targets), "
        "or a dict with 'labels'"
    )
