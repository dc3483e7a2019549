"""Tasks: data by name, each built from constants alone and split by seed.

A `Pool` is what ships to the trial workers, once. Its development part is split into train and validation by
the run's seed; its test part is fixed and sealed: it opens in the confirm stage only.
"""

from collections.abc import Callable

from study.tasks.images import load_digits_pool
from study.tasks.pool import Pool, SealedTestError, Split, draw_split
from study.tasks.signals import make_mnist1d_pool

POOLS: dict[str, Callable[[], Pool]] = {
    "digits": load_digits_pool,
    "mnist1d": make_mnist1d_pool,
}

__all__ = ["POOLS", "Pool", "SealedTestError", "Split", "draw_split"]
