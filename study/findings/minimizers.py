"""Minimizers: how a gain moves with the distance between the train and the test minimizer, over cells."""

import math
import statistics

from scipy.stats import t

from study.findings.material import Material, Measured
from study.findings.quantities import gain_by_seed, named
from study.records import LineRecord
from study.specs.spec import Hypothesis
from study.stats import Estimate
from study.stats.moderators import slope_alone


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
