"""An axis for rho: logarithmic, with rho = 0 apart at its left end."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_TICKS = (0.004, 0.02, 0.1, 0.5, 2.5)


@dataclass(frozen=True, slots=True)
class Radii:
    """Positions of rho on its axis: log10 of it, from ``low`` to ``high``; ``at_zero`` is where rho = 0 stands."""

    low: float
    high: float
    at_zero: float
    zero: bool

    def at(self, rho: float) -> float:
        """Return the position of a rho ≥ 0."""
        return math.log10(rho) if rho > 0 else self.at_zero

    def share(self, rho: float) -> float:
        """Return the position as a share of the axis, 0 to 1."""
        low = self.at_zero if self.zero else self.low
        return (self.at(rho) - low) / max(self.high - low, 1e-9)

    def axis(self) -> dict[str, object]:
        """Return plotly's settings of the axis."""
        ticks = {v: math.log10(v) for v in _TICKS if self.low <= math.log10(v) <= self.high}
        return {
            "tickvals": ([self.at_zero] if self.zero else []) + list(ticks.values()),
            "ticktext": (["0"] if self.zero else []) + [f"{v:g}" for v in ticks],
            "range": [(self.at_zero if self.zero else self.low) - 0.1, self.high + 0.1],
            "title": {"text": "rho"},
            "tickangle": 0,
        }


def radii_of(rhos: Iterable[float]) -> Radii:
    """Return the axis that holds all of ``rhos``."""
    given = list(rhos)
    positive = [rho for rho in given if rho > 0] or [0.01, 1.0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    return Radii(low, high, low - 0.12 * max(high - low, 0.5) - 0.1, any(rho == 0 for rho in given))
