"""What stands in the atlas's tables, and how Markdown writes it: gains as fractions. The page writes them in points."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from study.stats.estimates import Estimate

UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Gain:
    """A gain, or a difference of gains, with its interval where that is known."""

    mean: float
    ends: tuple[float, float] = UNKNOWN


@dataclass(frozen=True, slots=True)
class Size:
    """A size in the unit of gains, without a sign."""

    value: float


@dataclass(frozen=True, slots=True)
class Share:
    """A share of something, or a measure of fit that 1 is the best of."""

    value: float


@dataclass(frozen=True, slots=True)
class P:
    """A p value."""

    value: float


Gains = tuple[tuple[str, Gain], ...]  # by what they are of
Entry = str | int | Gain | Size | Share | P | Gains


Row = Mapping[str, Entry]  # by the heading of its column


@dataclass(frozen=True, slots=True)
class Answer:
    """One question's answer: a table, whose rows have the same columns; none where there is nothing to say yet."""

    id: str
    title: str
    rows: tuple[Row, ...]


def estimated(found: Estimate) -> Gain:
    """Return an estimate with its 95 % interval."""
    return Gain(found.mean, found.ci95)


def number(value: float) -> str:
    """Return a gain with its sign; "–" for what is not known."""
    return "–" if math.isnan(value) else f"{value:+.4f}"


def gain(found: Gain) -> str:
    """Return a gain and its interval, as far as they are known."""
    low, high = found.ends
    return number(found.mean) if math.isnan(low) else f"{number(found.mean)} [{number(low)}, {number(high)}]"


def written(entry: Entry) -> str:
    """Return an entry as text."""
    match entry:
        case Gain():
            return gain(entry)
        case Size(value):
            return f"{value:.4f}"
        case Share(value):
            return "–" if math.isnan(value) else f"{value:.0%}"
        case P(value):
            return "–" if math.isnan(value) else f"{value:.2g}"
        case int():
            return f"{entry:,}"
        case tuple():
            return ", ".join(f"{words} {gain(found)}" for words, found in entry)
    return str(entry)


def table(rows: Iterable[Row]) -> str:
    """Return a table in Markdown; of no rows a sentence."""
    found = list(rows)
    if not found:
        return "Nothing yet.\n"
    lines = [[*found[0]], ["---"] * len(found[0]), *([written(entry) for entry in row.values()] for row in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
