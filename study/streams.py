"""Named random streams: one root seed gives every purpose its own generator.

A stream depends on the seed and its name alone, so a method that draws more numbers in one place shifts nobody
anywhere else, and seed i gives every method the same split, noisy labels, initial weights and data order.

Source: NumPy's ``SeedSequence`` (O'Neill 2015's seeding), keyed by a hash of the name instead of by spawn order.
"""

import hashlib

import numpy as np


def _sequence(seed: int, name: str) -> np.random.SeedSequence:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.SeedSequence([seed, key])


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one purpose, e.g. ``stream(3, "label noise")``.

    Args:
        seed: Root seed of the run, ≥ 0.
        name: The purpose; equal names give equal streams.

    Example:
        >>> bool(stream(0, "order").random() == stream(0, "order").random())
        True
        >>> bool(stream(0, "order").random() == stream(0, "split").random())
        False
    """
    return np.random.default_rng(_sequence(seed, name))


def derived_seed(seed: int, name: str, kind: int = 0) -> int:
    """Return a root seed that belongs to one purpose of a study, below 2^48; those of two kinds never meet.

    Args:
        seed: The study's.
        name: The purpose.
        kind: 0 or 1: the seed's last bit.
    """
    return (int(_sequence(seed, name).generate_state(1, np.uint64)[0]) >> 17) * 2 + kind


def torch_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed for ``torch.manual_seed`` that belongs to one purpose."""
    return int(_sequence(seed, name).generate_state(1, np.uint64)[0] >> np.uint64(1))
