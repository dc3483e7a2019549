"""Rows of a table as plain Python values, which are many times as fast to go through as pandas' own rows."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd


def rows_of(table: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return the values of the columns of these names, row by row."""
    return zip(*(table[name].tolist() for name in names), strict=True)
