"""Runs that share no seed: two samples, whose means are held against each other by Welch's t."""

from collections.abc import Iterable, Sequence

import numpy as np

from study.simulations.procedure import ALPHA
from study.simulations.rates import Rate
from study.simulations.verdicts import CELLS, DELTA, TINY_DELTA, covered, decided, families_of, helped
from study.stats import Arm, Contrast, Effect, compare, judge

CONTRAST = Contrast("cell", "digits", (), "given", "SAM", "own cost", "test_score")
SD = 0.01  # of runs of one configuration over seeds
SHARED = 0.8  # share of their variance that runs of one seed have in common
# Runs of the method and of the baseline, how often as much the method's runs spread, and the false verdicts of Welch's
# approximation: with few runs that spread more than many others, 6.4 % of families of five at level 5 %.
SAMPLES = {
    "6 and 6 runs": (6, 6, 1.0, ALPHA),
    "10 and 10 runs": (10, 10, 1.0, ALPHA),
    "6 and 12 runs, the few spread 3 times": (6, 12, 3.0, 0.065),
    "12 and 6 runs, the many spread 3 times": (12, 6, 3.0, ALPHA),
}


def unpaired(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Count false verdicts and held truths, sizes and spreads apart; then what pairing would have found."""
    held: list[Rate] = []
    for name, (ours, theirs, ratio, limit) in SAMPLES.items():
        effects = _effects(studies * CELLS, ours, theirs, ratio, rng)
        false = sum(decided(judge(family, TINY_DELTA, ALPHA)) for family in families_of(effects))
        what = f"{CELLS} nulls, {name}, unpaired, δ → 0: any helps or hurts"
        yield Rate("false verdicts", what, false, studies, "≤", limit)
        what = f"95 % interval, {name}, unpaired"
        held.append(Rate("coverage", what, covered(effects, 0.0), len(effects), "=", 0.95, 0.01))
    yield from held
    yield from _pairing_finds_more(studies, rng)


def _effects(count: int, ours: int, theirs: int, ratio: float, rng: np.random.Generator) -> list[Effect]:
    methods, baselines = rng.normal(0.9, ratio * SD, (count, ours)), rng.normal(0.9, SD, (count, theirs))
    return [_held(one, other, paired=False) for one, other in zip(methods.tolist(), baselines.tolist(), strict=True)]


def _held(ours: Sequence[float], theirs: Sequence[float], *, paired: bool) -> Effect:
    method, baseline = (
        Arm(name, {number: {0: value} for number, value in enumerate(values)}, len(values))
        for name, values in (("SAM", ours), ("SGD", theirs))
    )
    return compare(CONTRAST, method, [baseline], planned=len(ours), unit="run", alpha=ALPHA, paired=paired)


def _pairing_finds_more(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """The same runs judged as pairs and as two samples: who throws the seeds away needs more of them."""
    shape = (studies, 10)
    seeds = rng.normal(0.9, SD * SHARED**0.5, shape)
    alone = SD * (1 - SHARED) ** 0.5
    ours, theirs = seeds + 2 * DELTA + rng.normal(0, alone, shape), seeds + rng.normal(0, alone, shape)
    for paired, words in ((True, "paired"), (False, "unpaired")):
        pairs = zip(ours.tolist(), theirs.tolist(), strict=True)
        hits = helped(_held(one, other, paired=paired) for one, other in pairs)
        what = f"gain of 2 δ, 10 seeds that bring {SHARED:.0%} of the variance, {words}: helps"
        yield Rate("power", what, hits, studies, "")
