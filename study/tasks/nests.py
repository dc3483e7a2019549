"""Nests: the tensors of a batch in tuples, dicts, dataclasses and lists, as inputs, targets and outputs come.

A tuple, a dict or a dataclass is made of parts, each of which holds all examples; a list holds one entry for each
example, such as the boxes of an image, which vary in number. A list of another length is made of parts, too.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

Rows = slice | Tensor  # which examples of a batch


class ExamplesError(ValueError):
    """Data that can't be used; the message says what was given and what is allowed."""


def mapped(nested: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a nest of the same form with every tensor changed; what is neither tensor nor nest stays as it is."""
    if isinstance(nested, Tensor):
        return change(nested)
    parts = parts_of(nested)
    return nested if parts is None else with_parts(nested, [mapped(part, change) for part in parts])


def leaves(nested: Any) -> tuple[Tensor, ...]:
    """Return the tensors of a nest, in order."""
    if isinstance(nested, Tensor):
        return (nested,)
    return tuple(chain.from_iterable(map(leaves, parts_of(nested) or ())))


def moved(nested: Any, device: torch.device, *, non_blocking: bool = False) -> Any:
    """Return a nest on a device; an object that knows how to move, such as a packed sequence, does it by itself."""
    if isinstance(nested, Tensor):
        return nested.to(device, non_blocking=non_blocking)
    if not isinstance(nested, Mapping) and callable(getattr(nested, "to", None)):
        return nested.to(device)
    parts = parts_of(nested)
    return nested if parts is None else with_parts(nested, [moved(p, device, non_blocking=non_blocking) for p in parts])


def device_of(nested: Any) -> torch.device:
    """Return the device of the first tensor; the CPU where there is none."""
    return next((tensor.device for tensor in leaves(nested)), torch.device("cpu"))


def examples_in(targets: Any) -> int:
    """Return the examples of a batch: the length of its first list or target tensor that has one; 0 if none has.

    A share that goes with two sets of targets, as in mixup, has none.
    """
    if isinstance(targets, Tensor):
        return len(targets) if targets.dim() else 0
    if isinstance(targets, list):
        return len(targets)
    return next(filter(None, map(examples_in, parts_of(targets) or ())), 0)


def rows_of(nested: Any, size: int, rows: Rows) -> Any:
    """Return some examples of a batch of ``size``; what has no row or entry for each example stays as it is."""
    if isinstance(nested, Tensor):
        if not nested.dim() or len(nested) != size:
            return nested
        # Selected in half the time of indexing with a tensor.
        return nested[rows] if isinstance(rows, slice) else nested.index_select(0, rows.to(nested.device))
    if isinstance(nested, list) and len(nested) == size:
        return nested[rows] if isinstance(rows, slice) else [nested[row] for row in rows.tolist()]
    parts = parts_of(nested)
    return nested if parts is None else with_parts(nested, [rows_of(part, size, rows) for part in parts])


def uncuttable(nested: Any, size: int) -> str:
    """Return what of a batch of ``size`` examples can't be cut into examples, in words; "" if all of it can."""
    if isinstance(nested, Tensor):
        return "" if not nested.dim() or len(nested) == size else f"a tensor of {len(nested)} rows"
    if isinstance(nested, list) and len(nested) == size:
        return ""
    if isinstance(nested, list) and leaves(nested):
        return f"a list of {len(nested)} entries"
    parts = parts_of(nested)
    if parts is None:
        return type(nested).__name__ if callable(getattr(nested, "to", None)) else ""
    return next(filter(None, (uncuttable(part, size) for part in parts)), "")


def joined(nests: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Return batches of one form, of ``sizes`` examples, as one batch.

    Raises:
        RuntimeError: shapes don't fit, as those of batches that a collate function pads.
    """
    first = nests[0]
    if isinstance(first, Tensor):
        return torch.cat(list(nests))
    if isinstance(first, list) and all(len(nest) == size for nest, size in zip(nests, sizes, strict=True)):
        return list(chain.from_iterable(nests))
    if parts_of(first) is None:
        return first
    columns = zip(*(parts_of(nest) or () for nest in nests), strict=True)
    return with_parts(first, [joined(column, sizes) for column in columns])


def parts_of(nested: Any) -> list[Any] | None:
    """Return what a nest is made of; None of what is no nest."""
    if isinstance(nested, Mapping):
        return list(nested.values())
    if isinstance(nested, tuple | list):
        return list(nested)
    if is_dataclass(nested) and not isinstance(nested, type):
        return [getattr(nested, field.name) for field in fields(nested)]
    return None


def with_parts(nested: Any, parts: list[Any]) -> Any:
    """Return a nest of the same form made of other parts, given in the order of `parts_of`."""
    if isinstance(nested, Mapping):
        if not is_dataclass(nested):
            return dict(zip(nested, parts, strict=True))
        found: Any = copy.copy(nested)  # an output of transformers, which is both
        for name, part in zip(nested, parts, strict=True):
            found[name] = part
        return found
    if isinstance(nested, list):
        return parts
    if isinstance(nested, tuple):
        return type(nested)(*parts) if hasattr(nested, "_fields") else tuple(parts)
    found = copy.copy(nested)
    for field, part in zip(fields(nested), parts, strict=True):
        object.__setattr__(found, field.name, part)
    return found


def check_form(nested: Any, name: str, size: int) -> None:
    """Refuse lists that are parts, and tuples that hold examples.

    Raises:
        ExamplesError: one of them, at any depth.
    """
    if isinstance(nested, Tensor) or (isinstance(nested, list) and len(nested) == size):
        return
    if isinstance(nested, list) and name == "targets" and leaves(nested):
        raise ExamplesError(
            f"a batch of {size} examples was given whose {name} are a list of {len(nested)}; a list holds one entry "
            "for each example: let the collate function return a tuple or a dict of several targets"
        )
    parts = parts_of(nested) or []
    if type(nested) is tuple and len(parts) == size > 1 and leaves(nested) and size not in map(examples_in, parts):
        raise ExamplesError(
            f"a batch of {size} examples was given whose {name} are a tuple of {size}; a tuple is made of parts that "
            f"hold all examples each: let the collate function return a list with an entry for each, list({name})"
        )
    for part in parts:
        check_form(part, name, size)
