"""Objects of pydantic made of values that were validated before: slot by slot, or by public ways.

Filling slots takes half of the time in which a cache of records is read; the public ways make that time twice as long.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from inspect import getattr_static
from itertools import repeat
from typing import Any, TypeVar

import pydantic

TRIED = ("2.14",)  # releases whose slots these are

Model = TypeVar("Model")


def known() -> bool:
    """Tell whether this is a pydantic whose slots are known."""
    return pydantic.VERSION.rpartition(".")[0] in TRIED


def made(kind: type[Model], columns: Mapping[str, Sequence[Any]], number: int) -> list[Model]:
    """Return objects of one kind without validating them.

    Args:
        kind: A model without private attributes, or a dataclass of pydantic that has slots.
        columns: By field, for all fields: its value in each object.
        number: How many objects.
    """
    return _filled(kind, columns, number) if known() else _constructed(kind, columns, number)


def _constructed(kind: type[Any], columns: Mapping[str, Sequence[Any]], number: int) -> list[Any]:
    make = kind if is_dataclass(kind) else kind.model_construct
    rows = zip(*columns.values(), strict=True) if columns else repeat((), number)
    return [make(**dict(zip(columns, row, strict=True))) for row in rows]


def _filled(kind: type[Model], columns: Mapping[str, Sequence[Any]], number: int) -> list[Model]:
    slots: Mapping[str, Iterable[Any]] = columns
    if not is_dataclass(kind):
        slots = {
            "__dict__": map(dict, map(zip, repeat(list(columns)), zip(*columns.values(), strict=True))),
            "__pydantic_fields_set__": repeat({*columns}),  # one set for all: it can hold no more than it does
            "__pydantic_extra__": repeat(None),
            "__pydantic_private__": repeat(None),
        }
    found = list(map(object.__new__, repeat(kind, number)))
    for slot, values in slots.items():  # slot by slot, so that no line of Python is run for each of a million objects
        deque(map(getattr_static(kind, slot).__set__, found, values), maxlen=0)
    return found
