"""A stream: an iterable dataset, which may have neither a length nor an end."""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from study.tasks.loaded import Batch, Loaded, Order, Pair
from study.tasks.nests import ExamplesError, leaves, rows_of


class Streamed:
    """An iterable dataset, of which every epoch reads so many examples and goes on where the last one stopped.

    Where it ends, it begins again. Whoever reads it from its beginning, as an evaluation does, reads a copy: passes
    don't disturb one another. Of what it is trained on a hash is kept, so that it can be told whether two methods of a
    seed saw the same, and an interrupted run the same again.

    Args:
        source: The dataset, and how it is read.
        count: Examples of an epoch.
        seed: Of what it draws while it is read.

    Attributes:
        inexact: A run went on at a place of the stream where other examples were than before.
    """

    def __init__(self, source: Loaded, count: int, seed: int) -> None:
        self._source, self._count, self._seed = source, count, seed
        self.inexact = False
        self._reading: Iterator[Batch] | None = None
        self._done = 0  # epochs that were read
        self._hash = hashlib.sha256()
        self._expected = ""

    @property
    def batch_size(self) -> int | None:
        """How many at a time their owner reads; None if that is left to others."""
        return self._source.batch_size

    def __len__(self) -> int:
        return self._count

    def to(self, device: torch.device) -> "Streamed":
        """Return the same examples, their batches on a device."""
        return Streamed(replace(self._source, device=device), self._count, self._seed)

    def first(self, count: int) -> "Streamed":
        """Return the stream with epochs of ``count`` examples, or of as many as it has if these are fewer."""
        return Streamed(self._source, min(count, self._count), self._seed)

    def in_process(self) -> "Streamed":
        """Return the same stream, read without workers."""
        return Streamed(replace(self._source, workers=0), self._count, self._seed)

    def batches(self, size: int, order: Order | None = None, *, whole: bool = False) -> Iterator[Pair]:
        """Yield the first examples of the stream; it has no order but its own."""
        left, reading = self._count, self._batches(size)
        while left >= (size if whole else 1):
            inputs, targets = self._source.placed(next(reading), size)
            if left < size:
                inputs, targets = rows_of((inputs, targets), size, slice(left))
            yield inputs, targets
            left -= size

    def epoch(self, number: int, size: int, draws: np.random.Generator) -> Iterator[Pair]:
        """Yield the next batches; those of earlier epochs are read again where an interrupted run goes on."""
        steps = self._count // size
        if self._reading is None or number != self._done + 1:
            self._hash, self._reading = hashlib.sha256(), self._batches(size)
            for _ in range((number - 1) * steps):
                self._taken(size)
            self.inexact |= self._expected not in ("", self.digest)
        for _ in range(steps):
            yield self._taken(size)
        self._done = number

    @property
    def digest(self) -> str:
        """A hash of all batches that were trained on, 16 hex digits."""
        return self._hash.hexdigest()[:16]

    def expect(self, digest: str, *, inexact: bool) -> None:
        """Compare what the epochs before the next one hold with the digest of what was trained on."""
        self._expected, self.inexact = digest, inexact

    def _taken(self, size: int) -> Pair:
        assert self._reading is not None
        batch = next(self._reading)
        for tensor in leaves(batch.content):
            self._hash.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        return self._source.placed(batch, size)

    def _batches(self, size: int) -> Iterator[Batch]:
        """Yield batches without an end, from the beginning of a copy of the stream."""
        try:
            source = replace(self._source, dataset=copy.deepcopy(self._source.dataset))
        except Exception as error:  # whatever a user's object raises
            raise ExamplesError(
                f"train: a {type(self._source.dataset).__name__} was given, which can't be copied ({error}); open "
                "files and connections in its __iter__, because each pass reads a copy of its own"
            ) from error
        while True:
            found = False
            for batch in source.read(self._seed, batch_size=size, drop_last=True):
                found = True
                yield batch
            if not found:
                raise ExamplesError(
                    f"train: a {type(source.dataset).__name__} was given that ends before a batch of {size} examples; "
                    "it must hold at least one, and begin anew whenever it is iterated over"
                )
