"""Interactions: whether two things change a score by more together than each alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from study.stats.estimates import Estimate, Number, combined, estimate


@dataclass(frozen=True, kw_only=True)
class Interaction(Estimate):
    """Do perturbing and averaging add up in a cell? Per unit (WASAM − SAM) − (SWA − SGD), at equal epochs.

    Positive: averaging gains more on top of SAM than on the base; negative: the two overlap. ``means`` holds the four
    mean accuracies by method name.
    """

    cell: str
    means: tuple[tuple[str, Number], ...]


@dataclass(frozen=True, kw_only=True)
class FactorInteraction(Estimate):
    """Do two factors change a method's gain together by more than each alone? Per unit, of the four cells they cross.

    gain(second, second) − gain(first, second) − gain(second, first) + gain(first, first), levels in their order, at
    the primary budget. Units draw the same streams in all cells, so the four are paired.
    """

    task: str
    method: str
    factors: tuple[str, str]
    levels: tuple[tuple[bool | int | float | str, ...], tuple[bool | int | float | str, ...]]


def interaction(cell: str, values: Mapping[str, Mapping[int, float]]) -> Interaction:
    """Return the 2×2 interaction of perturbing and averaging over the units that all four methods have.

    Args:
        cell: The cell's name.
        values: Mean score by unit, by the method names SGD, SWA, SAM and WASAM.
    """
    units = sorted(set.intersection(*map(set, values.values())))
    means = tuple((name, estimate([numbers[unit] for unit in units]).mean) for name, numbers in values.items())
    sgd, swa, sam, wasam = (values[name] for name in ("SGD", "SWA", "SAM", "WASAM"))
    return Interaction(**vars(combined([(1, wasam), (-1, sam), (-1, swa), (1, sgd)])), cell=cell, means=means)
