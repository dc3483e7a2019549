"""Verdicts of simulated studies: how often they are false, how often intervals hold the truth, what is found."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from study.simulations.procedure import ALPHA, CONTRAST, TRIALS, Known, Setting, Side, Spread, Trajectory, arm_of, known
from study.simulations.rates import Rate
from study.stats import Effect, compare, judge

DELTA = 0.005
TINY_DELTA = 1e-9  # excuses nothing, so that the level of the test is on its own
CELLS = 5  # of a family
SIZES = (6, 10, 15, 20)
METHODS = ("SAM", "ASAM", "WASAM")

# What trainings show: of gains, tuning .003 and seeds .010 a run; tuning .008 and seeds .013 a run.
SETTLED = Spread(proposals=0.0023, seeds=0.0065, checkpoints=0.0015, validation=0.008)
UNSETTLED = Spread(proposals=0.0065, seeds=0.0085, checkpoints=0.0025, validation=0.012)
SPREADS = {"tuning .003, seeds .010": SETTLED, "tuning .008, seeds .013": UNSETTLED}
RISING = Trajectory((-0.05, -0.02, -0.006, -0.001, 0.0))
OVERFITTED = Trajectory((-0.05, -0.012, 0.0, -0.02, -0.05))
LONGER = Trajectory((-0.03, -0.01, -0.004, 0.0, 0.001), TRIALS // 2)
LONGER_OVERFITTED = Trajectory((-0.04, -0.03, -0.04, -0.07, -0.1), TRIALS // 2)
LAST_2X = "SGD last, 2× epochs"
BASELINES = {
    "SGD last": Side("1x", "last"),
    "SGD best": Side("1x", "best"),
    LAST_2X: Side("2x", "last"),
    "SGD best, 2× epochs": Side("2x", "best"),
}


def overfitted(spread: Spread, off: float = 0.0) -> Setting:
    """Return a cell where training overfits, the more the longer: one baseline, the best epoch, is the strongest."""
    return Setting(spread, {"1x": OVERFITTED, "2x": LONGER_OVERFITTED, "sam": RISING}, _ONE, BASELINES, off=off)


def level(spread: Spread, methods: Sequence[str] = ("SAM",), kinship: float = 0.0) -> Setting:
    """Return a cell where all four baselines are equally good."""
    trajectories = {"1x": RISING, "2x": LONGER} | dict.fromkeys(methods, RISING)
    sides = {name: Side(name, "best") for name in methods}
    return Setting(spread, trajectories, sides, BASELINES, level=True, kinship=kinship)


_ONE = {"SAM": Side("sam", "best")}


def false_verdicts(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Nothing helps: a family that says otherwise anywhere is wrong."""
    group = "false verdicts"
    where = {"one strongest baseline": overfitted(SETTLED), "4 level baselines": level(SETTLED)}
    for name, setting in where.items():
        cell = known(setting, rng)
        for size in SIZES[:3]:
            families = families_of(cell.draw(studies * CELLS * size, 0.0, rng).effects("SAM", size))
            what = f"{CELLS} nulls, n = {size}, {name}"
            lenient = sum(decided(judge(family, DELTA, ALPHA)) for family in families)
            yield Rate(group, f"{what}, δ = .005: any helps or hurts", lenient, studies, "≤", ALPHA)
            judged = [judge(family, TINY_DELTA, ALPHA) for family in families]
            yield Rate(group, f"{what}, δ → 0: any helps or hurts", sum(map(decided, judged)), studies, "≤", ALPHA)
            for verdict in ("helps", "hurts"):
                hits = sum(any(effect.verdict == verdict for effect in family) for family in judged)
                yield Rate(group, f"{what}, δ → 0: any {verdict}", hits, studies, "≤", ALPHA / 2)
    yield from _switched_off(studies, rng)
    yield from _three_methods(max(1, studies // 2), rng)


def families_of(effects: Sequence[Effect]) -> list[Sequence[Effect]]:
    """Return the families of five that effects are judged in."""
    return [effects[first : first + CELLS] for first in range(0, len(effects), CELLS)]


def helped(effects: Iterable[Effect], delta: float = DELTA) -> int:
    """Count the comparisons, each a family of its own, that are said to help."""
    return sum(judge([effect], delta, ALPHA)[0].verdict == "helps" for effect in effects)


def decided(effects: Iterable[Effect]) -> bool:
    """Tell whether something is said to help or to hurt."""
    return any(effect.verdict in ("helps", "hurts") for effect in effects)


def _switched_off(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    cell, size = known(overfitted(SETTLED, off=0.5), rng), 10
    families = families_of(cell.draw(studies * CELLS * size, 0.0, rng).effects("SAM", size))
    false = sum(decided(judge(family, TINY_DELTA, ALPHA)) for family in families)
    what = f"{CELLS} nulls, n = {size}, off in half of the replicates, δ → 0: any helps or hurts"
    yield Rate("false verdicts", what, false, studies, "≤", ALPHA)


def _three_methods(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Every method has a family of its own: what is shown is how often any of three is wrong."""
    size = 10
    for kinship, what in ((0.8, "methods that share most of their noise"), (0.0, "methods that share baselines alone")):
        drawn = known(level(SETTLED, METHODS, kinship), rng).draw(studies * CELLS * size, 0.0, rng)
        studied = zip(*(families_of(drawn.effects(name, size)) for name in METHODS), strict=True)
        false = sum(any(decided(judge(family, TINY_DELTA, ALPHA)) for family in of_study) for of_study in studied)
        yield Rate("false verdicts", f"any of three {what}", false, studies, "")
    yield from _three_strangers(studies, rng)


def _three_strangers(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Three families that share nothing, each on one cell and against one baseline: the worst that three can do."""
    drawn = known(overfitted(SETTLED), rng).draw(studies * 3 * 10, 0.0, rng)
    effects = [drawn.effect("SAM", slice(10 * k, 10 * (k + 1)), ("SGD best",)) for k in range(3 * studies)]
    false = sum(any(decided(judge([e], TINY_DELTA, ALPHA)) for e in effects[3 * k : 3 * k + 3]) for k in range(studies))
    yield Rate("false verdicts", "any of three families that share nothing", false, studies, "≤", 1 - (1 - ALPHA) ** 3)


def found_and_covered(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Gains are planted: how often are they found, and how often does the interval hold them?"""
    rates: list[Rate] = []
    held: dict[tuple[int, int], int] = {}
    tries = 0
    for name, spread in SPREADS.items():
        cell = known(overfitted(spread), rng)
        for multiple in (1, 2, 3):
            tries += studies
            for size in SIZES:
                gain = multiple * DELTA
                effects = cell.draw(studies * size, gain, rng).effects("SAM", size)
                what = f"gain of {multiple} δ, n = {size}, {name}: helps"
                rates.append(Rate("power", what, helped(effects), studies, ""))
                for percent in (95, 90):
                    held[percent, size] = held.get((percent, size), 0) + covered(effects, gain, percent)
    for (percent, size), hits in held.items():
        what = f"{percent} % interval, n = {size}, one strongest baseline"
        yield Rate("coverage", what, hits, tries, "=", percent / 100, 0.01)
    yield from _covered_elsewhere(studies, rng)
    yield from rates


def covered(effects: Iterable[Effect], truth: float, percent: int = 95) -> int:
    """Count the intervals that hold the truth."""
    ends = ((effect.ci95 if percent == 95 else effect.ci90) for effect in effects)
    return sum(low <= truth <= high for low, high in ends)


def _covered_elsewhere(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Where several baselines are level the smallest of their means is too small; zeros are not a normal gain."""
    cell = known(level(SETTLED), rng)
    for size in SIZES[:3]:
        held = covered(cell.draw(studies * size, DELTA, rng).effects("SAM", size), DELTA)
        yield Rate("coverage", f"95 % interval, n = {size}, 4 level baselines", held, studies, "")
    for off in (0.3, 0.6, 0.9):
        cell, gain = known(overfitted(SETTLED, off), rng), 0.01
        truth = (1 - off) * gain
        for size in (6, 10):
            held = covered(cell.draw(studies * size, gain, rng).effects("SAM", size), truth)
            what = f"95 % interval, n = {size}, gain exactly 0 with chance {off:g}"
            yield Rate("coverage", what, held, studies, "")


def protocols(studies: int, rng: np.random.Generator) -> Iterable[Rate]:
    """Hold protocol 1 (one tuning, last weights, equal gradient evaluations, seeds as units) beside protocol 2."""
    for name, spread in SPREADS.items():
        cell = known(level(spread), rng)
        for size in (6, 10):
            for protocol, make in ((1, _of_protocol_1), (2, _of_protocol_2)):
                group = f"protocol {protocol}"
                where = f"n = {size}, {name}"
                effects = make(cell, DELTA, studies, size, rng)
                yield Rate(group, f"95 % interval, {where}", covered(effects, DELTA), studies, "")
                yield from _pairs(group, where, effects)
                nulls = [judge([effect], TINY_DELTA, ALPHA) for effect in make(cell, 0.0, studies, size, rng)]
                what = f"one null, {where}, δ → 0: helps or hurts"
                yield Rate(group, what, sum(map(decided, nulls)), studies, "")
    cell = known(overfitted(SETTLED), rng)
    for protocol, make in ((1, _of_protocol_1), (2, _of_protocol_2)):
        effects = make(cell, 0.0, studies, 10, rng)
        what = "longer training overfits, gain over the strongest baseline 0, n = 10: helps"
        yield Rate(f"protocol {protocol}", what, helped(effects), studies, "")


def _pairs(group: str, where: str, effects: Sequence[Effect]) -> Iterable[Rate]:
    """Compare two studies of the same question, and again with the next two."""
    said = [judge([effect], DELTA, ALPHA)[0].verdict for effect in effects]
    pairs = list(zip(said[::2], said[1::2], strict=False))
    agree = sum(one == other for one, other in pairs)
    flips = sum({one, other} == {"helps", "hurts"} for one, other in pairs)
    yield Rate(group, f"gain of δ, {where}: two studies agree", agree, len(pairs), "")
    yield Rate(group, f"gain of δ, {where}: helps against hurts", flips, len(pairs), "")


def _of_protocol_1(cell: Known, gain: float, studies: int, size: int, rng: np.random.Generator) -> list[Effect]:
    """Return studies of one tuning and ``size`` seeds each, last weights against last weights at 2× the epochs."""
    sides = {"SAM": replace(cell.setting.methods["SAM"], keeps="last")}
    setting = replace(cell.setting, methods=sides, baselines={LAST_2X: BASELINES[LAST_2X]})
    # The same gain is planted over the strongest baseline that the cell has, which need not be this one.
    planted = gain if cell.setting.level else gain + cell.truth[cell.strongest] - cell.truth[LAST_2X]
    drawn = known(setting, rng).draw(studies, planted, rng, confirms=size)
    ours, theirs = (drawn.scores[name][:, :, None] for name in ("SAM", LAST_2X))
    return [
        compare(CONTRAST, arm_of("SAM", one), [arm_of(LAST_2X, other)], planned=size, unit="seed", alpha=ALPHA)
        for one, other in zip(ours, theirs, strict=True)
    ]


def _of_protocol_2(cell: Known, gain: float, studies: int, size: int, rng: np.random.Generator) -> list[Effect]:
    return cell.draw(studies * size, gain, rng).effects("SAM", size)
