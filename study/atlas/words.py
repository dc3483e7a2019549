"""Numbers and tables as the atlas writes them."""

import math
from collections.abc import Iterable, Sequence

from study.stats.estimates import Estimate


def number(value: float) -> str:
    """Return a gain with its sign; "–" for what is not known."""
    return "–" if math.isnan(value) else f"{value:+.4f}"


def interval(ends: Sequence[float]) -> str:
    """Return both ends of an interval; "" where they are not known."""
    return "" if math.isnan(ends[0]) else f"[{number(ends[0])}, {number(ends[1])}]"


def with_interval(mean: float, ends: Sequence[float]) -> str:
    """Return a mean and its interval, as far as they are known."""
    return f"{number(mean)} {interval(ends)}".strip()


def estimated(found: Estimate) -> str:
    """Return an estimate with its 95 % interval."""
    return with_interval(found.mean, found.ci95)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
