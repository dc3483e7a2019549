"""Examples in batches: tensors that stay on the device, a Dataset that is read as it goes, or a stream.

Order and batch size come from outside, whatever the source, so that every method of a seed sees the same batches.
Inputs and targets may be any nest: see `study.tasks.nests`.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from study.tasks.loaded import Loaded, Order, Pair
from study.tasks.nests import ExamplesError, device_of, examples_in, moved, parts_of, rows_of, with_parts
from study.tasks.streamed import Streamed

Data = tuple[Any, Any] | Dataset[Any] | DataLoader[Any] | Streamed  # a pair may also hold arrays


@dataclass(frozen=True, slots=True)
class Resident:
    """Tensors that stay on the device; a batch is a slice or a selection of them.

    ``inputs`` and ``targets`` are any nest of tensors with a row, and lists with an entry, for each example.
    """

    inputs: Any
    targets: Any
    batch_size: int | None = None

    def __len__(self) -> int:
        return examples_in(self.targets)

    def to(self, device: torch.device) -> "Resident":
        """Return the same examples on a device."""
        return Resident(moved(self.inputs, device), moved(self.targets, device))

    def first(self, count: int) -> "Resident":
        """Return the first ``count`` of them."""
        return Resident(*rows_of((self.inputs, self.targets), len(self), slice(count)))

    def batches(self, size: int, order: Order | None = None, *, whole: bool = False) -> Iterator[Pair]:
        """Yield pairs of inputs and targets, ``size`` examples each; without an order they are views.

        Args:
            size: Examples a batch.
            order: Indices in the order wanted; None for all as they stand.
            whole: Leave out the last batch if it is smaller.
        """
        examples = len(self)
        count = examples if order is None else len(order)
        index = None if order is None else torch.from_numpy(order).to(device_of((self.targets, self.inputs)))
        for begin in range(0, count - size + 1 if whole else count, size):
            chosen = slice(begin, begin + size)
            rows = chosen if index is None else index[chosen]
            yield rows_of(self.inputs, examples, rows), rows_of(self.targets, examples, rows)

    def epoch(self, number: int, size: int, draws: np.random.Generator) -> Iterator[Pair]:
        """Yield the batches that an epoch, counted from 1, trains on, in an order that is drawn; whole ones alone."""
        return self.batches(size, draws.permutation(len(self)), whole=True)


# A finite set of pairs of inputs and targets: all have a length, and batches, whatever they are made of.
Examples = Resident | Loaded | Streamed


def examples_of(data: Data, part: str) -> Examples:
    """Return any data as `Examples`.

    Args:
        data: ``(inputs, targets)``: tensors or arrays with a row for each example, or lists with an entry for each, in
            any nest of tuples, dicts and dataclasses; a map-style Dataset; a DataLoader over one (its collate function,
            workers and pinning are kept, its order is not; its batch size is that of evaluations).
        part: What it is, for messages, such as ``train``.

    Raises:
        ExamplesError: it is something else.
    """
    if isinstance(data, Loaded | Resident | Streamed):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        found = Resident(_tensors(data[0]), _tensors(data[1]))
        for held in (found.inputs, found.targets):
            _check_rows(held, len(found), part)
        return found
    source = _source_of(data, part)
    return replace(source, dataset=_map_style(source.dataset, part))


def training_examples(data: Data, count: int, seed: int) -> Examples:
    """Return the training part as `Examples`; it alone may be a stream, of which an epoch reads ``count`` examples.

    Args:
        data: As for `examples_of`, or an IterableDataset, or a DataLoader over one.
        count: Examples of an epoch of a stream.
        seed: What a stream draws belongs to it.

    Raises:
        ExamplesError: it is something else.
    """
    dataset = data.dataset if isinstance(data, DataLoader) else data
    if not isinstance(dataset, IterableDataset):
        return examples_of(data, "train")
    return Streamed(_source_of(data, "train"), count, seed)


def _source_of(data: Any, part: str) -> Loaded:
    if not isinstance(data, DataLoader):
        return Loaded(data, default_collate, 0, False, torch.device("cpu"))
    return Loaded(
        data.dataset, data.collate_fn, data.num_workers, data.pin_memory, torch.device("cpu"),
        batch_size=_batch_size(data, part), worker_init=data.worker_init_fn,
    )  # fmt: skip


def _tensor(values: Any) -> Tensor:
    """Return values as a tensor without a copy; those that Ray shares and those of files are read-only, as here too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.as_tensor(values)


def _tensors(values: Any) -> Any:
    """Return values as tensors in the same form; a list of numbers is one tensor, any other holds examples."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, list) and not any(map(_is_nest, values)):
        try:
            return _tensor(values)
        except ValueError:  # rows of several lengths
            return [_tensor(row) for row in values]
    if isinstance(values, list):
        return [_entry(value) for value in values]
    if isinstance(values, tuple) and not any(map(_is_nest, values)):
        return _tensor(values)
    parts = parts_of(values)
    return _tensor(values) if parts is None else with_parts(values, list(map(_tensors, parts)))


def _entry(value: Any) -> Any:
    """Return what belongs to one example with tensors for arrays; numbers and texts stay as they are."""
    if isinstance(value, np.ndarray):
        return _tensor(value)
    parts = None if isinstance(value, Tensor) else parts_of(value)
    return value if parts is None else with_parts(value, list(map(_entry, parts)))


def _is_nest(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_nest, value))
    return isinstance(value, Tensor | np.ndarray) or parts_of(value) is not None


def _check_rows(nested: Any, count: int, part: str) -> None:
    """Make sure that a part of the data has a row or an entry for each example."""
    if isinstance(nested, Tensor) and not nested.dim():
        raise ExamplesError(f"{part}: a single number was given; inputs and targets hold an entry for each example")
    if isinstance(nested, Tensor | list):
        if len(nested) != count:
            raise ExamplesError(
                f"{part}: inputs of {len(nested)} and targets of {count} examples were given; they must have equally "
                f"many{', and several of either are a tuple or a dict' if isinstance(nested, list) else ''}"
            )
        return
    for held in parts_of(nested) or ():
        _check_rows(held, count, part)


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
            "only the training part may be a stream, an IterableDataset: read any other once, into a list or files, "
            "such as list(itertools.islice(stream, 10_000)), and give that"
        )
    return dataset
