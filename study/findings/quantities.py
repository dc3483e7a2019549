"""Quantities: what each kind of hypothesis is about, as one number per seed in one cell, and what they are made of.

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
from study.specs.methods import METHODS, last_of
from study.specs.spec import Hypothesis, StudySpec
from study.stats import Effect, Estimate
from study.stats.moderators import slope_alone

BySeed = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Material:
    """What hypotheses are evaluated on; effects by (cell, method, budget), within-run ones by (cell, method)."""

    evidence: Evidence
    tuned: Mapping[tuple[str, str, str], Effect]
    averaging: Mapping[tuple[str, str], Effect]
    lines: Sequence[LineRecord]


@dataclass(frozen=True, slots=True)
class Combination:
    """Which cells enter with which weights; ``span`` is what a unit of the estimate is multiplied by to get a gain."""

    weights: Mapping[str, float]
    span: float = 1.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a kind measured: the estimate, over which unit and cells, and sentences on it.

    ``missing`` says what keeps it from deciding anything, "" if nothing does.
    """

    found: Estimate
    unit: Literal["seeds", "cells"]
    cells: tuple[str, ...]
    span: float
    missing: str
    note: str = ""


Quantity = Callable[[Hypothesis, Material, str], BySeed]
"""What a kind measures: one number per seed, in the cell that is named."""
Combine = Callable[[Hypothesis, Material], Combination]
"""How a kind puts its cells together."""


def gain_by_seed(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the gain of the hypothesis's method under its budget."""
    return _gain_of(hypothesis.method, hypothesis.budget, material, cell)


def _gain_of(method: str, budget: str, material: Material, cell: str) -> BySeed:
    effect = material.tuned.get((cell, method, budget))
    return dict(zip(effect.seeds, effect.differences, strict=True)) if effect else {}


def difference_by_seed(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return gain − gain of the other; a baseline's own gain is 0."""
    gain = gain_by_seed(hypothesis, material, cell)
    if hypothesis.other == "baseline" or METHODS[hypothesis.other].baseline == hypothesis.other:
        return gain
    return _minus(gain, _gain_of(hypothesis.other, hypothesis.budget, material, cell))


def budget_gap(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the gain at equal epochs minus that at equal gradient evaluations."""
    return _minus(_gain_of(hypothesis.method, "E", material, cell), _gain_of(hypothesis.method, "G", material, cell))


def _minus(first: BySeed, second: BySeed) -> BySeed:
    return {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}


def within_run_gain(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the gain of averaging on the method's trajectory: its own average's, or its family's first."""
    chosen = METHODS[hypothesis.method]
    averages = [hypothesis.method] if chosen.weights != "last" else _averages_of(chosen.family, material.evidence.spec)
    effect = material.averaging.get((cell, averages[0])) if averages else None
    return dict(zip(effect.seeds, effect.differences, strict=True)) if effect else {}


def _averages_of(family: str, spec: StudySpec) -> list[str]:
    return [name for name in spec.methods if METHODS[name].family == family and METHODS[name].weights != "last"]


def log_sharpness_ratio(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the log ratio of a probe of the two methods' selected weights; probes that are not above 0 have none."""
    first, second = (
        material.evidence.arm(cell, name).probed(hypothesis.measure)
        for name in (hypothesis.method, named(hypothesis, hypothesis.other))
    )
    return {
        seed: math.log(first[seed] / second[seed])
        for seed in first.keys() & second.keys()
        if first[seed] > 0 and second[seed] > 0
    }


def barrier_by_seed(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return the highest rise of the training loss over the straight line between its ends.

    Source: Frankle et al. 2020, arXiv 1912.05671, with the linear interpolation of the ends in place of their mean.
    """
    ends = {hypothesis.method, named(hypothesis, hypothesis.other)}
    return {line.seed: barrier(line) for line in material.lines if line.cell == cell and {line.start, line.end} == ends}


def barrier(line: LineRecord) -> float:
    """Return the highest rise of a line's training loss above the linear interpolation of its ends; never negative."""
    first, last = line.train_losses[0], line.train_losses[-1]
    return max(
        loss - (first + alpha * (last - first)) for alpha, loss in zip(line.alphas, line.train_losses, strict=True)
    )


def against_worse(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return gain − gain of the worse of its two parts."""
    return _against_one_of_its_parts(hypothesis, material, cell, min)


def against_better(hypothesis: Hypothesis, material: Material, cell: str) -> BySeed:
    """Return gain − gain of the better of its two parts."""
    return _against_one_of_its_parts(hypothesis, material, cell, max)


def _against_one_of_its_parts(
    hypothesis: Hypothesis, material: Material, cell: str, choose: Callable[[float, float], float]
) -> BySeed:
    """Return gain − gain of the worse (better) of the averaged base and the last perturbed weights.

    Which one is worse is a matter of the cell, so it is decided on means over seeds. Decided seed by seed, the
    smaller of two noisy numbers is always too small: simulated with two equal parts and 6 (20) seeds, the 95 %
    interval then missed the truth 14 % (45 %) of the time, against 5 % when means decide.
    """
    averaged, perturbed = parts(hypothesis.method)
    whole, first, second = (
        _gain_of(name, hypothesis.budget, material, cell) for name in (hypothesis.method, averaged, perturbed)
    )
    seeds = whole.keys() & first.keys() & second.keys()
    if not seeds:
        return {}
    one, other = (statistics.fmean(part[seed] for seed in seeds) for part in (first, second))
    against = first if choose(one, other) == one else second
    return {seed: whole[seed] - against[seed] for seed in seeds}


def parts(method: str) -> tuple[str, str]:
    """Return the two methods that a method is made of: the average alone, the perturbation alone.

    SWA and SAM for WASAM; a method that is not both is one of its own parts.
    """
    whole = METHODS[method]
    base = METHODS[whole.baseline].family
    averaged = next(name for name, m in METHODS.items() if (m.family, m.weights) == (base, whole.weights))
    return averaged, last_of(whole.family)


def named(hypothesis: Hypothesis, name: str) -> str:
    """Return the method that a name stands for: "baseline" is that of the hypothesis's method."""
    return METHODS[hypothesis.method].baseline if name == "baseline" else name


def minimizers(hypothesis: Hypothesis, material: Material) -> Measured:
    """Return how the gain moves with the distance between the minimizers of train and test loss on the line.

    The distance is in shares of the line. It can't be set, only measured, so the cell is the unit: HC3 on cell means,
    the distance from every second seed, the gain from the seeds between them.
    """
    ends = {hypothesis.method, named(hypothesis, hypothesis.other)}
    distances, gains, cells = [], [], []
    for cell in material.evidence.cells:
        gain = gain_by_seed(hypothesis, material, cell.name)
        apart = {
            line.seed: minimizer_distance(line)
            for line in material.lines
            if line.cell == cell.name and {line.start, line.end} == ends
        }
        seeds = sorted(gain.keys() & apart.keys())
        if len(seeds) >= 2:
            cells.append(cell.name)
            distances.append(statistics.fmean(apart[seed] for seed in seeds[::2]))
            gains.append(statistics.fmean(gain[seed] for seed in seeds[1::2]))
    span = max(distances) - min(distances) if len(set(distances)) > 1 else 1.0
    found = slope_alone(gains, distances)
    freedom = len(cells) - 2
    missing = ""
    if math.isnan(found.slope):
        missing = f"{len(cells)} cells with lines and gains; four are needed, at distances that differ."
    estimated = Estimate(
        len(cells), found.slope, math.nan, found.ci95, _narrowed(found.slope, found.ci95, freedom), found.p
    )
    return Measured(estimated, "cells", tuple(cells), span, missing)


def minimizer_distance(line: LineRecord) -> float:
    """Return how far apart the lowest train and the lowest test loss stand on a line, as a share of it."""
    lowest = [
        line.alphas[min(range(len(losses)), key=losses.__getitem__)] for losses in (line.train_losses, line.test_losses)
    ]
    return abs(lowest[0] - lowest[1])


def _narrowed(mean: float, ci95: tuple[float, float], freedom: int) -> tuple[float, float]:
    """Return the 90 % interval that belongs to a 95 % one."""
    half = (ci95[1] - mean) * float(t.isf(0.05, freedom) / t.isf(0.025, freedom)) if freedom > 0 else math.nan
    return mean - half, mean + half
