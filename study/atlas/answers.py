"""What the atlas says: how large gains are, what they move with, and what of it had been expected.

Tasks are the sample: cells of one task are repeated measures. Every table says "not seen" where it sees nothing.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import pandas as pd

from study.atlas.cells import FEATURES_OF_CELLS, METHODS, CellGain, by_task, cell_gains, tasks_of
from study.atlas.part import short
from study.specs.spec import parse_spec, suite_specs
from study.stats import ModeratorRule, Synthesis, estimate, holm, moderator_rule, synthesize
from study.stats.clustered import MIN_TASKS, slopes_within
from study.stats.estimates import Estimate

DELTA = 0.005
_LEVEL = 0.05
Seen = Literal["as expected", "the opposite", "seen", "not seen", "too few tasks"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How large a method's gains are over the cells of the atlas.

    Attributes:
        method, budget: Whose.
        cells, tasks: How many.
        typical: Over tasks, by random effects: mean, its interval, and where a new problem lies.
        above: Share of the cells whose mean gain is at least δ; noise alone lifts some of them over it.
        shown, hurt: Share of the cells whose 95 % interval lies above 0, and below it.
        by_domain: Mean gain of the tasks of each kind of data, with the number of tasks.
    """

    method: str
    budget: str
    cells: int
    tasks: int
    typical: Synthesis
    above: float
    shown: float
    hurt: float
    by_domain: Mapping[str, tuple[float, int]]


def distribution(gains: pd.DataFrame, method: str, budget: str = "G", delta: float = DELTA) -> Distribution | None:
    """Return how large a method's gains are; None without any cell."""
    cells = cell_gains(gains, method, budget)
    if not cells:
        return None
    tasks = by_task(cells)
    means = {task: statistics.fmean(one.gain for one in some) for task, some in tasks.items()}
    errors = [math.hypot(*(one.error for one in some)) / len(some) for some in tasks.values()]
    intervals = [estimate(one.gains).ci95 for one in cells]
    domains = {some[0].task: some[0].domain for some in tasks.values()}
    return Distribution(
        method, budget, len(cells), len(tasks),
        synthesize(method, budget, list(means.values()), errors, delta),
        _share(one.gain >= delta for one in cells),
        _share(low > 0 for low, _ in intervals),
        _share(high < 0 for _, high in intervals),
        {
            domain: (statistics.fmean(found), len(found))
            for domain in dict.fromkeys(domains.values())
            for found in [[means[task] for task in means if domains[task] == domain]]
        },
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moderation:
    """What a gain moves with, over the cells within their tasks.

    Attributes:
        method, budget: Whose gain.
        name: Of the factor, or of what was measured on the baseline.
        measured: It was measured; the gain is then that of other replicates.
        tasks: In which it varies: the sample.
        effect: From its lower to its upper level; of something measured, for one standard deviation within tasks.
        ci95, p: With the tasks as units; NaN with fewer than five. p_holm: over the table that it stands in.
        expected: The sign that was named before the first run, or "".
        seen: What became of it.
    """

    method: str
    budget: str
    name: str
    measured: bool
    tasks: int
    effect: float
    ci95: tuple[float, float]
    p: float
    p_holm: float
    expected: str
    seen: Seen


def moderation_by_factors(gains: pd.DataFrame, method: str, budget: str = "G") -> list[Moderation]:
    """Return how a method's gain moves with each factor that varies within some task.

    Designs are half fractions, in which factors do not disturb each other: each is read alone.
    """
    cells = cell_gains(gains, method, budget)
    rows = []
    for name in dict.fromkeys(name for one in cells for name in one.levels):
        having = [one for one in cells if name in one.levels]
        rows.append((name, having, [float(one.levels[name]) for one in having], [one.gain for one in having]))
    return _moderations(method, budget, rows, measured=False)


def moderation_by_features(gains: pd.DataFrame, method: str, budget: str = "G") -> list[Moderation]:
    """Return how a method's gain moves with what was measured on the baseline of the other replicates."""
    cells = [one for one in cell_gains(gains, method, budget) if math.isfinite(one.gain_elsewhere)]
    rows = []
    for name in FEATURES_OF_CELLS:
        having = [one for one in cells if name in one.features]
        values = _standardized(having, name)
        if values:
            rows.append((name, having, values, [one.gain_elsewhere for one in having]))
    return _moderations(method, budget, rows, measured=True)


def rule(gains: pd.DataFrame, method: str, budget: str = "G") -> ModeratorRule:
    """Return the exploratory rule on what was measured, if one predicts tasks that it has not seen; else none."""
    cells = [one for one in cell_gains(gains, method, budget) if math.isfinite(one.gain_elsewhere)]
    shared = [name for name in FEATURES_OF_CELLS if all(name in one.features for one in cells)]
    return moderator_rule(
        method, budget, [{name: one.features[name] for name in shared} for one in cells],
        [one.gain_elsewhere for one in cells], [one.task for one in cells],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A question about what replaces what: a difference of gains, task by task.

    ``found`` is over tasks; ``by_task`` holds what it is made of.
    """

    question: str
    found: Estimate
    by_task: Mapping[str, float]


def suspicions(gains: pd.DataFrame) -> list[Suspicion]:
    """Return what became of the two suspicions: that averaging replaces decay, and SAM early stopping.

    Both are about gains at equal epochs. *Averaging replaces decay*: its gain over last weights, at a constant rate
    minus at one annealed to 0. *SAM replaces early stopping*: its gain over last weights minus that over the best
    epoch, in cells with wrong labels. Then, of both, what is left over the baseline that keeps its best epoch.
    """
    swa, sam = (by_task(cell_gains(gains, method, "E")) for method in ("SWA", "SAM"))
    over = "SWA over {} weights at equal epochs: at a constant rate minus at one annealed to 0"
    found = [
        _suspicion(over.format("last"), {task: _contrast(some, "schedule", "over_last") for task, some in swa.items()}),
        _suspicion(
            over.format("the best"), {task: _contrast(some, "schedule", "over_best") for task, some in swa.items()}
        ),
    ]
    noisy = {task: [one for one in some if one.levels.get("label_noise") == 1] for task, some in sam.items()}
    for words, minus in (
        ("SAM with wrong labels: gain over last weights minus gain over the best epoch", True),
        ("SAM with wrong labels: gain over the best epoch", False),
    ):
        differences = {
            task: statistics.fmean(
                one.over["over_last"] - one.over["over_best"] if minus else one.over["over_best"] for one in some
            )
            for task, some in noisy.items()
            if some
        }
        found.append(_suspicion(words, differences))
    return found


@dataclass(frozen=True, slots=True)
class Decay:
    """SAM's gain beside a baseline whose weight decay is tuned, and beside one whose decay is fixed, cell by cell."""

    method: str
    task: str
    cells: int
    fixed: Estimate
    searched: Estimate
    difference: Estimate


def beside_decay(gains: pd.DataFrame, method: str, budget: str = "G") -> list[Decay]:
    """Return, for each task that was studied both ways, the mean gain over its cells, replicate by replicate."""
    searched = by_task(cell_gains(gains, method, budget, searched_decay=True))
    fixed = by_task(cell_gains(gains, method, budget))
    found = []
    for task in searched.keys() & fixed.keys():
        pairs = [
            (one.gains, other.gains)
            for one in fixed[task]
            for other in searched[task]
            if one.cell == other.cell and len(one.gains) == len(other.gains)
        ]
        if pairs:
            without, beside = (
                [statistics.fmean(values) for values in zip(*side, strict=True)] for side in zip(*pairs, strict=True)
            )
            differences = [b - a for a, b in zip(without, beside, strict=True)]
            found.append(Decay(method, task, len(pairs), estimate(without), estimate(beside), estimate(differences)))
    return sorted(found, key=lambda one: one.task)


@cache
def expectations() -> Mapping[tuple[str, str], str]:
    """Return the signs that the parts' specs name, by factor and method whatever its base optimizer.

    Of the base optimizer, which no spec varies, nothing is expected: no published comparison holds all else fixed.
    """
    return {
        (one.factor, short(one.method)): one.expected
        for name, text in suite_specs("atlas").items()
        for one in parse_spec(text, name).hypotheses
        if one.kind in ("slope", "contrast")
    }


_Row = tuple[str, Sequence[CellGain], list[float], list[float]]  # name, cells, its values, gains


def _moderations(method: str, budget: str, rows: Iterable[_Row], *, measured: bool) -> list[Moderation]:
    found = []
    for name, having, values, gains in rows:
        tasks = [one.task for one in having]
        known = {(task, value) for task, value in zip(tasks, values, strict=True)}
        varying = [task for task in tasks_of(having) if sum(task == other for other, _ in known) > 1]
        (slope,) = slopes_within(gains, [values], tasks)
        effect = slope.slope if math.isfinite(slope.slope) else _mean_slope(values, gains, tasks)
        found.append((name, len(varying), effect, slope.ci95, slope.p))
    adjusted = holm([p for *_, p in found])
    signs = {} if measured else expectations()
    return [
        Moderation(
            method, budget, name, measured, count, effect, ci95, p, p_holm, signs.get((name, method), ""),
            _seen(signs.get((name, method), ""), count, effect, ci95, p_holm),
        )
        for (name, count, effect, ci95, p), p_holm in zip(found, adjusted, strict=True)
    ]  # fmt: skip


def _seen(expected: str, tasks: int, effect: float, ci95: tuple[float, float], p: float) -> Seen:
    """Return what became of an expected sign, "" for none and "0" for no effect as large as δ."""
    if tasks < MIN_TASKS or math.isnan(p):
        return "too few tasks"
    if expected == "0" and ci95[0] > -DELTA and ci95[1] < DELTA:
        return "as expected"
    if p >= _LEVEL:
        return "not seen"
    if not expected:
        return "seen"
    return "as expected" if expected == ("+" if effect > 0 else "-") else "the opposite"


def _mean_slope(values: Sequence[float], gains: Sequence[float], tasks: Sequence[str]) -> float:
    """Return the least-squares slope within tasks, of however few."""
    top = bottom = 0.0
    for task in dict.fromkeys(tasks):
        own = [(v, g) for v, g, t in zip(values, gains, tasks, strict=True) if t == task]
        v_mean, g_mean = (statistics.fmean(side) for side in zip(*own, strict=True))
        top += sum((v - v_mean) * (g - g_mean) for v, g in own)
        bottom += sum((v - v_mean) ** 2 for v, _ in own)
    return top / bottom if bottom > 0 else math.nan


def _standardized(cells: Sequence[CellGain], name: str) -> list[float]:
    """Return a feature in standard deviations within tasks; empty where it does not vary within any."""
    centred = []
    for one in cells:
        centred.append(one.features[name] - statistics.fmean(c.features[name] for c in cells if c.task == one.task))
    spread = math.sqrt(math.fsum(value**2 for value in centred) / max(1, len(centred)))
    return [one.features[name] / spread for one in cells] if spread > 0 else []


def _contrast(cells: Sequence[CellGain], factor: str, column: str) -> float:
    sides = [[one.over[column] for one in cells if one.levels.get(factor) == level] for level in (0, 1)]
    return statistics.fmean(sides[1]) - statistics.fmean(sides[0]) if all(sides) else math.nan


def _suspicion(question: str, values: Mapping[str, float]) -> Suspicion:
    known = {task: value for task, value in values.items() if math.isfinite(value)}
    return Suspicion(question, estimate(list(known.values())), known)


def _share(of: Iterable[bool]) -> float:
    known = list(of)
    return sum(known) / len(known)


__all__ = [
    "DELTA",
    "METHODS",
    "Decay",
    "Distribution",
    "Moderation",
    "Suspicion",
    "beside_decay",
    "distribution",
    "expectations",
    "moderation_by_factors",
    "moderation_by_features",
    "rule",
    "suspicions",
]
