"""Quantities: what each kind of hypothesis is about, as one number per unit in one cell, and what they are made of.

A unit is a replicate, or a seed where there is one tuning.

One kind stands for itself: the distance between minimizers can't be set, so it is measured over cells.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import t

from study.findings.evidence import Evidence
from study.records import LineRecord
from study.specs.contenders import Contender, at_equal_epochs, baseline_with, contender
from study.specs.methods import Methods
from study.specs.spec import Hypothesis, StudySpec
from study.stats import Effect, Estimate
from study.stats.designs import UNKNOWN_SLOPE, robust_slopes

ByUnit = Mapping[int, float]
SCORE = "test_score"  # what hypotheses are about
MIN_CELLS = 4  # of a slope over them: two degrees of freedom


@dataclass(frozen=True, slots=True)
class Asked:
    """A hypothesis, and what it is evaluated on.

    Attributes:
        hypothesis: What is claimed.
        evidence: Of the study.
        tuned: Effects of tuned methods by (cell, method, budget).
        averaging: Within-run effects by (cell, method).
        lines: Losses along lines between methods' weights.
    """

    hypothesis: Hypothesis
    evidence: Evidence
    tuned: Mapping[tuple[str, str, str], Effect]
    averaging: Mapping[tuple[str, str], Effect]
    lines: Sequence[LineRecord]

    @property
    def spec(self) -> StudySpec:
        """The study."""
        return self.evidence.spec

    @property
    def pair(self) -> tuple[str, str]:
        """Its method and the other one; "baseline" is that of its method."""
        one, other = self.hypothesis.method, self.hypothesis.other
        return one, self.spec.table[one].baseline if other == "baseline" else other

    def gains(self, cell: str, budget: str = "") -> ByUnit:
        """Return the gains of its method over the strongest baseline, under its budget or another."""
        effect = self.tuned.get((cell, self.hypothesis.method, budget or self.hypothesis.budget))
        return effect.gains if effect else {}

    def scores(self, cell: str, one: Contender | str, kind: str = "") -> ByUnit:
        """Return the mean score by unit of a contender, or of a method under its budget.

        Args:
            cell, one: Where, and whose.
            kind: Of this kind of weights; "" those that every run stands by.
        """
        if isinstance(one, str):
            one = contender(self.evidence.spec_in(cell), one, self.hypothesis.budget)
        return self.evidence.means(self.evidence.of(cell, one).scores(SCORE, kind))

    def of_lines(self, number: Callable[[LineRecord], float], cell: str) -> ByUnit:
        """Return a number of every line between its two methods in a cell."""
        return {
            line.seed if self.spec.one_tuning else line.replicate: number(line)
            for line in self.lines
            if line.cell == cell and {line.start, line.end} == {*self.pair}
        }


@dataclass(frozen=True, slots=True)
class Combination:
    """Which cells enter with which weights; ``span`` is what a unit of the estimate is multiplied by to get a gain."""

    weights: Mapping[str, float]
    span: float = 1.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a kind measured: the estimate, over which unit and cells, and a sentence on what keeps it from deciding."""

    found: Estimate
    unit: Literal["replicates", "seeds", "cells"]
    cells: tuple[str, ...]
    span: float
    missing: str


Quantity = Callable[[Asked, str], ByUnit]
"""What a kind measures: one number per unit, in the cell that is named."""
Combine = Callable[[Asked], Combination]
"""How a kind puts its cells together."""


def gain(asked: Asked, cell: str) -> ByUnit:
    """Return the gain of the hypothesis's method over its strongest baseline under its budget."""
    return asked.gains(cell)


def difference(asked: Asked, cell: str) -> ByUnit:
    """Return score − score of the other method; against a baseline it is the gain."""
    if asked.hypothesis.other == "baseline" or asked.spec.table.is_baseline(asked.hypothesis.other):
        return asked.gains(cell)
    return _minus(*(asked.scores(cell, name) for name in asked.pair))


def checkpoint_gap(asked: Asked, cell: str) -> ByUnit:
    """Return the gain over the base where both keep their last weights, minus that where both keep their best epoch.

    At the cell's epochs; the configuration is in either case the one that the side picked for what it may keep.
    """
    spec, method = asked.evidence.spec_in(cell), asked.hypothesis.method
    if {*spec.weights} != {"last", "best"}:
        return {}
    ours = contender(spec, method, "E")
    last, best = (
        _minus(asked.scores(cell, ours, kind), asked.scores(cell, baseline_with(spec, method, kind)))
        for kind in ("last", "best")
    )
    return _minus(last, best)


def budget_gap(asked: Asked, cell: str) -> ByUnit:
    """Return the gain at equal epochs minus that at equal gradient evaluations."""
    return _minus(asked.gains(cell, "E"), asked.gains(cell, "G"))


def _minus(first: ByUnit, second: ByUnit) -> ByUnit:
    return {unit: first[unit] - second[unit] for unit in first.keys() & second.keys()}


def within_run_gain(asked: Asked, cell: str) -> ByUnit:
    """Return the gain of averaging on the method's trajectory: its own average's, or its family's first."""
    table, method = asked.spec.table, asked.hypothesis.method
    of_family = [name for name in table.averages_of(table[method].family) if name in asked.spec.methods]
    averages = [method] if table[method].weights != "last" else of_family
    effect = asked.averaging.get((cell, averages[0])) if averages else None
    return effect.gains if effect else {}


def log_sharpness_ratio(asked: Asked, cell: str) -> ByUnit:
    """Return the log ratio of a probe of the two methods' selected weights; probes that are not above 0 have none."""
    evidence = asked.evidence
    first, second = (
        evidence.of(cell, at_equal_epochs(evidence.spec_in(cell), name)).probed(asked.hypothesis.measure)
        for name in asked.pair
    )
    return {
        unit: math.log(first[unit] / second[unit])
        for unit in first.keys() & second.keys()
        if first[unit] > 0 and second[unit] > 0
    }


def barrier_between(asked: Asked, cell: str) -> ByUnit:
    """Return the highest rise of the training loss over the straight line between the two methods' weights."""
    return asked.of_lines(barrier, cell)


def barrier(line: LineRecord) -> float:
    """Return the highest rise of a line's training loss above the linear interpolation of its ends; never negative.

    Source: Frankle et al. 2020, arXiv 1912.05671, with the linear interpolation of the ends in place of their mean.
    """
    first, last = line.train_losses[0], line.train_losses[-1]
    return max(
        loss - (first + alpha * (last - first)) for alpha, loss in zip(line.alphas, line.train_losses, strict=True)
    )


def against_worse(asked: Asked, cell: str) -> ByUnit:
    """Return score − score of the worse of its two parts, the averaged base and the perturbed method alone.

    Which one is worse is a matter of the cell, so it is decided on means over units. Decided unit by unit, the
    smaller of two noisy numbers is always too small: simulated with two equal parts and 6 (20) units, the 95 %
    interval then missed the truth 14 % (45 %) of the time, against 5 % when means decide.
    """
    return _against_part(asked, cell, min)


def against_better(asked: Asked, cell: str) -> ByUnit:
    """Return score − score of the better of its two parts, likewise."""
    return _against_part(asked, cell, max)


def _against_part(asked: Asked, cell: str, choose: Callable[[float, float], float]) -> ByUnit:
    method = asked.hypothesis.method
    whole, first, second = (asked.scores(cell, name) for name in (method, *parts(method, asked.spec.table)))
    units = whole.keys() & first.keys() & second.keys()
    if not units:
        return {}
    one, other = (statistics.fmean(part[unit] for unit in units) for part in (first, second))
    return _minus({unit: whole[unit] for unit in units}, first if choose(one, other) == one else second)


def parts(method: str, table: Methods) -> tuple[str, str]:
    """Return the two methods that a method is made of: the average alone, the perturbation alone.

    SWA and SAM for WASAM; a method that is not both is one of its own parts.
    """
    whole = table[method]
    averaged = table.reading(table[whole.baseline].family).get(whole.weights)
    return averaged or whole.baseline, table.last_of(whole.family)


def minimizers(asked: Asked) -> Measured:
    """Return how the gain moves with the distance between the minimizers of train and test loss on the line.

    The distance is in shares of the line. It can't be set, only measured, so the cell is the unit: HC3 on cell means,
    the distance from every second unit, the gain from the units between them.
    """
    distances, gains, cells = [], [], []
    for cell in asked.evidence.pooled:
        gained, apart = asked.gains(cell.name), asked.of_lines(minimizer_distance, cell.name)
        units = sorted(gained.keys() & apart.keys())
        if len(units) >= 2:
            cells.append(cell.name)
            distances.append(statistics.fmean(apart[unit] for unit in units[::2]))
            gains.append(statistics.fmean(gained[unit] for unit in units[1::2]))
    span = max(distances) - min(distances) if len(set(distances)) > 1 else 1.0
    n, missing = len(cells), ""
    found = robust_slopes(gains, [distances])[0] if n >= MIN_CELLS else UNKNOWN_SLOPE
    if math.isnan(found.slope):
        missing = f"{n} cells with lines and gains; four are needed, at distances that differ."
    estimated = Estimate(n, found.slope, math.nan, found.ci95, _narrowed(found.slope, found.ci95, n - 2), found.p)
    return Measured(estimated, "cells", tuple(cells), span, missing)


def minimizer_distance(line: LineRecord) -> float:
    """Return how far apart the lowest train and the lowest test loss stand on a line, as a share of it."""
    lowest = [line.alphas[losses.index(min(losses))] for losses in (line.train_losses, line.test_losses)]
    return abs(lowest[0] - lowest[1])


def _narrowed(mean: float, ci95: tuple[float, float], freedom: int) -> tuple[float, float]:
    """Return the 90 % interval that belongs to a 95 % one."""
    half = (ci95[1] - mean) * float(t.isf(0.05, freedom) / t.isf(0.025, freedom)) if freedom > 0 else math.nan
    return mean - half, mean + half
