"""What runs are typically like: the one rule for every number, line and sentence that puts runs together.

A mean follows its farthest value, wherever nothing bounds that: a single run that ends at an R² of −1,000,000 takes the
mean of six to −166,667, its interval with it, and neither says anything of any run. So

- **scores and losses** are described by the mean of their values, with its Student-t interval, where they are shares,
  which can't be far off; of all else (R², losses, metrics of users) by the median with its quartiles;
- **gains** stay means everywhere, for verdicts are about means; those that far-out values carry are told apart
  (`dashboards.far_out`).

Source: Tukey 1977, "Exploratory Data Analysis".
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from study.stats.estimates import estimate

Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Typical:
    """What ``n`` values are like: their middle, and two ends around it, NaN below two values."""

    n: int
    middle: float
    ends: Ends


@dataclass(frozen=True, slots=True)
class Way:
    """How values are put together, and what that is called.

    Attributes:
        middle: "mean".
        ends: In a sentence: "its 95 % Student-t interval".
        short: In a head or under the pointer: "95 % CI".
        csv: Of the columns of a download that hold the ends.
        of: Puts values together.
    """

    middle: str
    ends: str
    short: str
    csv: str
    of: Callable[[Sequence[float]], Typical]

    @property
    def title(self) -> str:
        """The head of a column, without its ends: "Mean"."""
        return self.middle.capitalize()


def _mean(values: Sequence[float]) -> Typical:
    found = estimate(values)
    return Typical(found.n, found.mean, found.ci95)


def _median(values: Sequence[float]) -> Typical:
    if len(values) < 2:
        return Typical(len(values), values[0] if values else math.nan, (math.nan, math.nan))
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Typical(len(values), middle, (low, high))


MEAN = Way("mean", "its 95 % Student-t interval", "95 % CI", "ci95", _mean)
MEDIAN = Way("median", "its quartiles", "quartiles", "quartile", _median)


def way_of(share: bool) -> Way:
    """Return how scores are put together that are shares, or are not."""
    return MEAN if share else MEDIAN
