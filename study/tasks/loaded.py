"""A map-style dataset, read batch by batch as a DataLoader reads it."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from study.tasks.nests import ExamplesError, check_form, mapped, moved
from study.tasks.seeded import read_seeded

Pair = tuple[Any, Any]
Order = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a collate function returned; a DataLoader would make a list of every tuple that it pins."""

    content: Any

    def pin_memory(self) -> "Batch":
        """Return it in memory from which a GPU can read by itself."""
        return Batch(mapped(self.content, Tensor.pin_memory))


@dataclass(frozen=True, slots=True)
class _Collating:
    """A collate function for `Batch`; torch's own gives parts as lists, which are tuples here."""

    collate: Callable[[list[Any]], Any]

    def __call__(self, items: list[Any]) -> Batch:
        found = self.collate(items)
        return Batch(_in_parts(found, items[0]) if self.collate is default_collate else found)


def _in_parts(batch: Any, item: Any) -> Any:
    if isinstance(item, Mapping):
        return {name: _in_parts(part, item[name]) for name, part in batch.items()}
    if isinstance(item, tuple | list) and not hasattr(item, "_fields"):
        return tuple(map(_in_parts, batch, item))
    return batch


@dataclass(frozen=True, slots=True)
class Loaded:
    """A map-style dataset, read batch by batch and moved to the device.

    What it draws while it is read belongs to the order and the batch, so methods of a seed see the same augmentations.
    """

    dataset: Any
    collate: Callable[[list[Any]], Any]
    workers: int
    pinned: bool
    device: torch.device
    limit: int | None = None
    batch_size: int | None = None
    worker_init: Callable[[int], None] | None = None

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
        seed = 0 if order is None else zlib.crc32(order.tobytes())
        for chunk, batch in zip(chunks, self.read(seed, batch_sampler=chunks), strict=True):
            yield self.placed(batch, len(chunk))

    def epoch(self, number: int, size: int, draws: np.random.Generator) -> Iterator[Pair]:
        """Yield batches in an order that is drawn."""
        return self.batches(size, draws.permutation(len(self)), whole=True)

    def read(self, seed: int, **how: Any) -> Iterator[Batch]:
        """Yield the batches of a DataLoader, which gets ``how``."""
        loader = DataLoader(
            self.dataset,
            collate_fn=_Collating(self.collate),
            num_workers=self.workers,
            pin_memory=self.pinned and self.device.type == "cuda",
            worker_init_fn=self.worker_init,
            generator=torch.Generator().manual_seed(seed),  # of the seeds of its workers
            **how,
        )
        return iter(loader) if self.workers else read_seeded(loader, seed)

    def placed(self, batch: Batch, size: int) -> Pair:
        """Return what a batch of ``size`` examples holds, on the device.

        Raises:
            ExamplesError: it is no pair, or its targets don't belong to so many examples.
        """
        inputs, targets = moved(_pair(batch.content), self.device, non_blocking=self.pinned)
        check_form(inputs, "inputs", size)
        check_form(targets, "targets", size)
        return inputs, targets


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
