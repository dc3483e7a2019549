"""Rates: how often something happened in simulated studies, and how often it should."""

import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest

SURPRISE = 1e-4  # p below which a rate is called off; some 60 rates are looked at

Relation = Literal["=", "≤", "≥", ""]
_ALTERNATIVES: dict[str, Literal["two-sided", "greater", "less"]] = {"=": "two-sided", "≤": "greater", "≥": "less"}


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened in simulated studies, and how often it should.

    Attributes:
        group, name: What was simulated.
        hits, of: How often it happened, of how many.
        relation, expected: The rate should be equal to, at most or at least ``expected``; "" and NaN where it is
            shown for comparison only.
        tolerance: What may lie between an equal rate and ``expected``.
    """

    group: str
    name: str
    hits: int
    of: int
    relation: Relation
    expected: float = math.nan
    tolerance: float = 0.0

    @property
    def rate(self) -> float:
        """The observed rate."""
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Its exact 95 % interval (Clopper and Pearson 1934)."""
        found = binomtest(self.hits, self.of).proportion_ci(0.95)
        return float(found.low), float(found.high)

    @property
    def off(self) -> bool:
        """Tell whether the rate is off by more than chance explains."""
        if not self.relation:
            return False
        if self.tolerance:
            return min(self._p(self.expected - self.tolerance, "≥"), self._p(self.expected + self.tolerance, "≤")) < (
                SURPRISE
            )
        return self._p(self.expected, self.relation) < SURPRISE

    def _p(self, expected: float, relation: Relation) -> float:
        return float(binomtest(self.hits, self.of, min(1.0, expected), alternative=_ALTERNATIVES[relation]).pvalue)

    @property
    def should(self) -> str:
        """What it should be, in words."""
        if not self.relation:
            return "for comparison"
        within = f" ± {self.tolerance:.1%}" if self.tolerance else ""
        return f"{self.relation} {self.expected:.1%}{within}"
