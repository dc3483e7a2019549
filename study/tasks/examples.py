"""Examples in batches: tensors that stay on the device, or a Dataset that is read as it goes.

Order and batch size come from outside, whatever the source, so that every method of a seed sees the same batches.
Inputs and targets may be nested in tuples and dicts.
"""

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter, methodcaller
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

Pair = tuple[Any, Any]
Data = tuple[Any, Any] | Dataset[Any] | DataLoader[Any]  # a pair may also hold arrays
Order = npt.NDArray[np.int64]


class ExamplesError(ValueError):
    """Data that can't be used; the message says what was given and what is allowed."""


class Examples(Protocol):
    """A finite set of pairs of inputs and targets."""

    @property
    def batch_size(self) -> int | None:
        """How many at a time their owner reads; None if that is left to others."""

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
        data: ``(inputs, targets)``: tensors or arrays, also as tuple or dict of these; a map-style Dataset; a
            DataLoader over one (its collate function, workers and pinning are kept, its order is not; its batch size
            is that of evaluations).
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
            _map_style(data.dataset, part), data.collate_fn, data.num_workers, data.pin_memory, torch.device("cpu"),
            batch_size=_batch_size(data, part),
        )  # fmt: skip
    return Loaded(_map_style(data, part), default_collate, 0, False, torch.device("cpu"))


@dataclass(frozen=True, slots=True)
class Resident:
    """Tensors that stay on the device; a batch is a slice or a selection of them.

    ``inputs`` and ``targets`` are a tensor each, or tuples or dicts of tensors, with the examples along dimension 0.
    """

    inputs: Any
    targets: Any
    batch_size: int | None = None

    def __len__(self) -> int:
        return examples_in(self.targets)

    def to(self, device: torch.device) -> "Resident":
        """Return the same examples on a device."""
        return self._changed(lambda t: t.to(device))

    def first(self, count: int) -> "Resident":
        """Return the first ``count`` of them."""
        return self._changed(lambda t: t[:count])

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Resident":
        return Resident(mapped(self.inputs, change), mapped(self.targets, change))

    def batches(self, size: int, order: Order | None = None, *, whole: bool = False) -> Iterator[Pair]:
        """Yield batches; without an order they are views."""
        count = len(self) if order is None else len(order)
        index = None if order is None else torch.from_numpy(order).to(leaves(self.targets)[0].device)
        for begin in range(0, count - size + 1 if whole else count, size):
            chosen = slice(begin, begin + size)
            # Selected in half the time of indexing with a tensor.
            batch = itemgetter(chosen) if index is None else methodcaller("index_select", 0, index[chosen])
            yield mapped(self.inputs, batch), mapped(self.targets, batch)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A map-style dataset, read batch by batch and moved to the device."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    workers: int
    pinned: bool
    device: torch.device
    limit: int | None = None
    batch_size: int | None = None

    def __len__(self) -> int:
        return len(self.dataset) if self.limit is None else min(self.limit, len(self.dataset))

    def to(self, device: torch.device) -> "Loaded":
        """Return the same examples, their batches on a device."""
        return replace(self, device=device)

    def first(self, count: int) -> "Loaded":
        """Return the first ``count`` of them."""
        return replace(self, limit=min(count, len(self)))

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
            yield mapped(_pair(batch), lambda t: t.to(self.device, non_blocking=pinned))


def mapped(nested: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return tuples and dicts of the same form with every tensor changed; what is no tensor stays."""
    if isinstance(nested, Mapping):
        return {name: mapped(part, change) for name, part in nested.items()}
    if isinstance(nested, tuple | list):
        return tuple(mapped(part, change) for part in nested)
    return change(nested) if isinstance(nested, Tensor) else nested


def leaves(nested: Any) -> tuple[Tensor, ...]:
    """Return the tensors of tuples and dicts, in order."""
    if isinstance(nested, Mapping):
        return tuple(chain.from_iterable(map(leaves, nested.values())))
    if isinstance(nested, tuple | list):
        return tuple(chain.from_iterable(map(leaves, nested)))
    return (nested,) if isinstance(nested, Tensor) else ()


def with_leaves(nested: Any, tensors: Sequence[Tensor]) -> Any:
    """Return tuples and dicts of the same form that hold other tensors, given in the order of `leaves`."""
    left = iter(tensors)
    return mapped(nested, lambda _: next(left))


def examples_in(targets: Any) -> int:
    """Return the examples of a batch: the length of its first target tensor that has one; 0 if none has.

    A share that goes with two sets of targets, as in mixup, has none.
    """
    return next((len(tensor) for tensor in leaves(targets) if tensor.dim()), 0)


def _tensor(values: Any) -> Tensor:
    """Return values as a tensor without a copy; those that Ray shares and those of files are read-only, as here too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.as_tensor(values)


def _tensors(values: Any) -> Any:
    """Return values as tensors in the same form; a list of numbers is one tensor."""
    if isinstance(values, Mapping):
        return {name: _tensors(part) for name, part in values.items()}
    if isinstance(values, tuple | list) and any(isinstance(part, _NESTED) for part in values):
        return tuple(_tensors(part) for part in values)
    return _tensor(values)


_NESTED = (Tensor, np.ndarray, Mapping, tuple)


def _resident(inputs: Any, targets: Any, part: str) -> Resident:
    found = Resident(_tensors(inputs), _tensors(targets))
    for tensor in (*leaves(found.inputs), *leaves(found.targets)):
        if not tensor.dim():
            raise ExamplesError(f"{part}: a single number was given; inputs and targets hold an entry for each example")
        if len(tensor) != len(found):
            raise ExamplesError(
                f"{part}: inputs of {len(tensor)} and targets of {len(found)} examples were given; "
                "they must have equally many"
            )
    return found


def _batch_size(loader: DataLoader[Any], part: str) -> int | None:
    """Return how many examples a loader reads at a time; 1 is what it has if nobody said anything."""
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if loader.batch_sampler is None:
        raise ExamplesError(
            f"{part}: a DataLoader with batch_size=None was given, whose Dataset yields whole batches; give one that "
            "yields examples, because the study decides the order of the examples and the size of the batches"
        )
    return size if isinstance(size, int) and size > 1 else None


def _map_style(dataset: Any, part: str) -> Any:
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise ExamplesError(
            f"{part}: {type(dataset).__name__} was given; allowed are a pair (inputs, targets) of tensors, and a "
            "Dataset or DataLoader with a length and an index, because the study decides the order of the examples; "
            "read a stream once, into a list or files, such as list(itertools.islice(stream, 10_000)), and give that"
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
