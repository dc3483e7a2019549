"""Values of a table: each is a label, a number, or nothing. Those of a CSV are texts, others have types."""

import math
import numbers
from typing import Any

_NOTHING = {"", "nan", "na", "n/a", "none", "null", "<na>", "nat"}  # as the tools that write tables say it


def label_of(value: Any) -> str | None:
    """Return a value as a label; None where nothing stands in it. Whole numbers are written alike, with or without .0.

    A text is a label whatever it says: a method may be called "None".
    """
    if isinstance(value, str):
        return _whole(value.strip()) or None
    if value is None or type(value).__name__ == "NAType" or value != value:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return _whole(str(value).strip()) or None
    if isinstance(value, numbers.Integral):
        return str(int(value))
    return f"{float(value):.0f}" if float(value).is_integer() else f"{float(value):.12g}"


def _whole(text: str) -> str:
    head, dot, tail = text.partition(".")
    return head if dot and head.lstrip("-").isdigit() and set(tail) == {"0"} else text


def number_of(value: Any) -> float | None:
    """Return a value as a number: NaN where nothing stands in it, None where something else does."""
    if value is None or type(value).__name__ == "NAType":
        return math.nan
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NOTHING:
            return math.nan
        try:
            return None if "_" in text else float(text)
        except ValueError:
            return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
