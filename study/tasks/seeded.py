"""The global generators of torch, NumPy and Python, seeded while a user's code runs."""

import itertools
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_NUMPY: Any = np.random  # whose stubs lack what exchanges its generator


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for the block, and put their states back.

    Args:
        seed: ≥ 0.
    """
    held = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(held[0])
            random.setstate(held[1])


def read_seeded(batches: Iterable[Any], seed: int) -> Iterator[Any]:
    """Yield what reading gives, each batch read with generators that belong to the seed and the batch's number.

    What a dataset draws, such as a random crop, is the same then for every method of a seed, whatever each of them
    draws between two batches, and the same again after an interruption. Between batches the generators are those of
    whoever reads.

    Args:
        batches: Read in this process.
        seed: ≥ 0.
    """
    reading, own = iter(batches), np.random.MT19937()
    for number in itertools.count(seed):
        held = torch.get_rng_state(), _NUMPY.get_bit_generator(), random.getstate()
        torch.default_generator.manual_seed(number)
        _NUMPY.set_bit_generator(own)
        np.random.seed(number % 2**32)
        random.seed(number)
        try:
            batch = next(reading)
        except StopIteration:
            return
        finally:
            torch.set_rng_state(held[0])
            _NUMPY.set_bit_generator(held[1])
            random.setstate(held[2])
        yield batch
