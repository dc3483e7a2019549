"""Effects: what is held against what, what came out, and the verdict from the closed list.

The unit of every interval is the *replicate*: one honest run of the whole procedure, tuning included. Its gain is the
mean, over its confirm seeds, of the method's score less the baseline's. Results that were made elsewhere come run by
run; where runs of two sides share no seed they are two samples, and all else is the same.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from study.specs.budgets import Spending
from study.stats.estimates import (
    Estimate,
    Number,
    binary_scale,
    detectable,
    estimate,
    estimate_apart,
    holm,
    interval_for_new_data,
    max_t_p,
    mean_of,
    rounded,
    scaled,
    share_better,
    share_better_apart,
    variance,
)

Verdict = Literal["helps", "hurts", "no material effect", "inconclusive", "insufficient data"]
Unit = Literal["replicate", "seed", "run"]
Scores = Mapping[int, Mapping[int, float]]
"""A metric by unit (the replicate's number, or the seed where there is one tuning) and by seed within it."""

# The one definition of what is said; page, index, JSON, README and the comments of specs quote it.
RULES: Final[Mapping[Verdict, str]] = {
    "insufficient data": (
        "fewer than 5 complete replicates (or, with one tuning, seeds), more than 20 % incomplete ones, or runs that "
        "all diverged or all have one and the same score"
    ),
    "helps": (
        "Holm p below α, a mean gain of at least δ over the strongest baseline, and every baseline of the budget "
        "beaten; clear if the 95 % interval lies beyond δ, else its size is uncertain"
    ),
    "hurts": (
        "Holm p below α and a mean loss of at least δ against the strongest baseline, after Bonferroni's correction "
        "for which of the baselines that is; clear if the 95 % interval lies beyond −δ"
    ),
    "no material effect": "the 90 % interval lies inside ±δ, or the method was switched off in every replicate",
    "inconclusive": "none of these: neither an effect of δ nor its absence is shown",
}
MIN_UNITS = 5
FEW_REPLICATES = 8  # below, a verdict carries the caveat that replicates are few
MAX_INCOMPLETE = 5  # one in five, 20 %


@dataclass(frozen=True)
class Contrast:
    """What is held against what, as it is known before anything is measured.

    Attributes:
        cell, task: The cell's name, and its task.
        factors: The factors that vary between the study's cells, as (name, value) pairs.
        kind: ``tuned`` (tuned method against tuned baselines: the verdict), ``direct`` (two methods against each
            other), ``within-run`` (averaged against last weights of the same trajectories: the mechanism), or ``given``
            (runs that were made elsewhere, as they are).
        method: Name of the method (or, within-run, of the averaging method: SWA or WASAM).
        budget: The budget; within-run comparisons are ``E``, those of results made elsewhere ``own cost``.
        metric: Column of the frame, e.g. ``test_score``.
    """

    cell: str
    task: str
    factors: tuple[tuple[str, bool | int | float | str], ...]
    kind: Literal["tuned", "within-run", "direct", "given"]
    method: str
    budget: Spending
    metric: str


@dataclass(frozen=True, slots=True)
class Arm:
    """What one side of a comparison brings.

    Attributes:
        name: What it is called, such as ``SGD best, 2× epochs``.
        scores: The metric, as measured.
        runs, diverged: Its runs that ended, and how many of them diverged (they enter at chance level).
        cost: Gradient evaluations of a completed run, on average; NaN without any.
        planned: Units that it should have, where sides are not paired; 0: those that it has.
    """

    name: str
    scores: Scores
    runs: int = 0
    diverged: int = 0
    cost: float = math.nan
    planned: int = 0


@dataclass(frozen=True, slots=True)
class Against:
    """What one baseline of a comparison came to: the mean gain over it, its 95 % interval and t test."""

    baseline: str
    mean: Number
    ci95: tuple[Number, Number]
    p: Number
    baseline_mean: Number


@dataclass(frozen=True, kw_only=True)
class Effect(Estimate, Contrast):
    """One comparison in one cell, against the strongest of its baselines: that with the smallest mean gain.

    It is what is held against what (`Contrast`), and the estimate of the mean gain (`Estimate`) with

    - ``n``: complete units; of sides that are not paired, those of the smallest;
    - ``sd`` of sides that are not paired: that of the difference of one unit of each;
    - ``ci95``, ``ci90``: unadjusted;
    - ``p``: two-sided t test, paired or Welch's: of a gain the largest over all baselines, since all have to be beaten;
      of a loss that against the strongest, times the number of baselines.

    Attributes:
        baseline: What it is held against: the strongest baseline.
        unit: What the interval is over: replicates, the seeds of one tuning, or runs that were made elsewhere.
        units: The complete ones, ascending; none where sides are not paired.
        method_values, baseline_values: Means of the metric by unit, as measured (not sign-corrected).
        differences: Gains by unit, sign-corrected; none where sides are not paired.
        planned: Units that the plan wanted.
        diverged_method, diverged_baseline: Diverged runs among them (they enter at chance level).
        sd_seed, sd_tuning: What of ``sd`` the confirm seeds explain, and what is left to tuning and split; NaN where
            there is one seed a unit.
        share_better: Share of units with gain > 0 (ties count half); share_better_ci95: its Wilson interval. Of sides
            that are not paired: the share among all pairs of one unit of each, without an interval.
        minimum_detectable: Smallest true mean gain found with 80 % power at the family's level with this sd and n.
        cost_ratio: Gradient evaluations of the method ÷ those of the strongest baseline, per completed run.
        against: All baselines, in their order.
        off: Units in which the method was switched off: its gain over some baseline is exactly 0 at every seed.
        candidates: Sets of weights that validation chose from for the method; 0 where that is not asked.
        informative: Scores differ, and some run of some side did not diverge.
        ci95_new_data: Of small data sets, which are split anew: the interval for new data of that kind. NaN elsewhere.
        apart: Of sides that are not paired: the complete and the planned units of the method, then of each baseline;
            None where they are paired.
        p_holm: ``p`` after Holm over its family, None outside a family and where ``p`` is NaN.
        p_max_t: Of pairs, a check of ``p_holm``: the exact two-sided sign-flip test for its family, jointly, by the
            largest t; None outside a family.
        clear: A helps/hurts whose 95 % interval lies wholly beyond δ.
        verdict: From the closed list. A descriptive effect (``p_holm`` is None) is at most ``inconclusive``.
    """

    baseline: str
    unit: Unit
    units: tuple[int, ...]
    method_values: tuple[float, ...]
    baseline_values: tuple[float, ...]
    differences: tuple[float, ...]
    planned: int
    diverged_method: int
    diverged_baseline: int
    sd_seed: Number
    sd_tuning: Number
    share_better: Number
    share_better_ci95: tuple[Number, Number]
    minimum_detectable: Number
    cost_ratio: Number
    against: tuple[Against, ...]
    off: int
    candidates: int
    informative: bool
    ci95_new_data: tuple[Number, Number] = (math.nan, math.nan)
    apart: tuple[tuple[int, int], ...] | None = None
    p_holm: float | None = None
    p_max_t: float | None = None
    clear: bool = False
    verdict: Verdict = "inconclusive"

    @property
    def gains(self) -> dict[int, float]:
        """Gains by unit; none where sides are not paired."""
        return dict(zip(self.units, self.differences, strict=True))

    @property
    def insufficient(self) -> bool:
        """Tell whether complete units are too few for any verdict, on either side where they are not paired."""
        return any(insufficient(n, planned) for n, planned in self.apart or ((self.n, self.planned),))

    @property
    def always_off(self) -> bool:
        """Tell whether the method was its strongest baseline in every replicate: no gain, no interval."""
        return self.n > 0 and not any(self.differences) and self.off == self.n


def compare(
    contrast: Contrast,
    method: Arm,
    baselines: Sequence[Arm],
    *,
    planned: int,
    confirms: int = 1,
    unit: Unit = "replicate",
    alpha: float = 0.05,
    off: int = 0,
    candidates: int = 0,
    test_share: float = 0.0,
    paired: bool = True,
) -> Effect:
    """Hold a method against its baselines; the effect is descriptive until `judge` has seen its family.

    Args:
        contrast: What is compared. Of a ``…_loss`` and an ``…_error`` lower is better, of every other metric higher.
        method, baselines: The sides. A unit counts where all of them have all of its seeds.
        planned: Units that the plan wanted; of sides that are not paired, each has its own.
        confirms: Seeds of a unit.
        unit: What the units are.
        alpha: Level that the minimum detectable effect is computed at.
        off: Units in which the method was switched off.
        candidates: Sets of weights that validation chose from for the method.
        test_share: n_test/n_train where every unit splits the same data anew; 0 elsewhere.
        paired: Units of one number belong together. Else every side is a sample of its own, with a unit at least: the
            means are held against each other by Welch's t.
    """
    sides = (method, *baselines)
    units = _shared_units(sides, confirms) if paired else None
    scores = [score for side in sides for unit in _own(side, units) for score in side.scores[unit].values()]
    sign = -1.0 if contrast.metric.endswith(("_loss", "_error")) else 1.0
    held = [_held(method, side, units, sign, max(map(abs, scores), default=0.0)) for side in baselines]
    strongest = min(held, key=lambda one: one.found.mean)
    baseline, found = strongest.baseline, strongest.found
    sd_seed, sd_tuning = _parts_of_sd(strongest.by_seed, found.sd)
    apart = None if paired else tuple((len(side.scores), side.planned or len(side.scores)) for side in sides)
    n, planned = min(apart) if apart else (found.n, planned)
    effect = Effect(
        **vars(contrast),
        **vars(found) | {"n": n, "p": _p_against_all(found, [one.found.p for one in held])},
        baseline=baseline.name,
        unit=unit,
        units=units or (),
        method_values=_means(method, units),
        baseline_values=_means(baseline, units),
        differences=strongest.gains,
        planned=planned,
        diverged_method=method.diverged,
        diverged_baseline=baseline.diverged,
        sd_seed=sd_seed,
        sd_tuning=sd_tuning,
        share_better=strongest.better[0],
        share_better_ci95=strongest.better[1],
        minimum_detectable=detectable(found.error, found.freedom, alpha),
        cost_ratio=method.cost / baseline.cost if baseline.cost > 0 else math.nan,
        against=tuple(one.against(units) for one in held),
        off=off,
        candidates=candidates,
        informative=len({*scores}) > 1 and not all(side.runs and side.diverged == side.runs for side in sides),
        ci95_new_data=interval_for_new_data(found.mean, found.sd, found.n, test_share) if test_share else _UNKNOWN,
        apart=apart,
    )
    return replace(effect, verdict="insufficient data") if effect.insufficient else effect


_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class _Held:
    """A method against one baseline: its gains by unit, and within it by seed; none where sides are not paired."""

    baseline: Arm
    by_seed: Sequence[Sequence[float]]
    gains: tuple[float, ...]
    found: Estimate
    better: tuple[float, tuple[float, float]]

    def against(self, units: Sequence[int] | None) -> Against:
        """Return what is told of it; ``units`` as of `_held`."""
        values, found = _means(self.baseline, units), self.found
        return Against(self.baseline.name, found.mean, found.ci95, found.p, mean_of(values) if values else math.nan)


def _held(method: Arm, baseline: Arm, units: Sequence[int] | None, sign: float, size: float) -> _Held:
    """Hold a method against one baseline.

    Args:
        method, baseline: The sides.
        units: The units that are paired; None holds all of either side against each other.
        sign: −1 where lower is better, else 1.
        size: The largest score, in absolute value.
    """
    if units is None:
        ours, theirs = ([sign * value for value in _means(side, None)] for side in (method, baseline))
        found = estimate_apart(ours, theirs)
        return _Held(baseline, (), (), found, (share_better_apart(ours, theirs), _UNKNOWN))
    by_seed = [
        [sign * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
        for ours, theirs in ((method.scores[unit], baseline.scores[unit]) for unit in units)
    ]
    gains = tuple(rounded(mean_of(seeds), size) for seeds in by_seed)
    return _Held(baseline, by_seed, gains, estimate(gains), share_better(gains))


def _shared_units(sides: Sequence[Arm], confirms: int) -> tuple[int, ...]:
    """Return the units of which all sides have all seeds, ascending."""
    shared = set.intersection(*(set(side.scores) for side in sides))
    return tuple(
        sorted(u for u in shared if len(set.intersection(*(set(side.scores[u]) for side in sides))) >= confirms)
    )


def _own(side: Arm, units: Sequence[int] | None) -> Sequence[int]:
    """Return the units of a side that count: those that are paired, or all of its own."""
    return sorted(side.scores) if units is None else units


def _means(side: Arm, units: Sequence[int] | None) -> tuple[float, ...]:
    return tuple(mean_of(tuple(side.scores[unit].values())) for unit in _own(side, units))


def _parts_of_sd(gains: Sequence[Sequence[float]], sd: float) -> tuple[float, float]:
    """Split the standard deviation of the units' mean gains into what their seeds explain, and what is left."""
    several = [by_seed for by_seed in gains if len(by_seed) > 1]
    if not several or math.isnan(sd):
        return math.nan, math.nan
    exponent = binary_scale([*itertools.chain.from_iterable(several), sd])
    scaled_down = [[scaled(gain, -exponent) for gain in by_seed] for by_seed in several] if exponent else several
    seeds = statistics.fmean(variance(by_seed) / len(by_seed) for by_seed in scaled_down)
    left = math.sqrt(max(0.0, scaled(sd, -exponent) ** 2 - seeds))
    return scaled(math.sqrt(seeds), exponent), scaled(left, exponent)


def _p_against_all(strongest: Estimate, every: Sequence[float]) -> float:
    """Return the p value of a row that is held against several baselines.

    That all of them are beaten is shown when each is: an intersection-union test, whose level needs no correction. That
    the method is behind one of them may be one of several chances, so the smallest is corrected for their number.

    Source: Berger 1982, "Multiparameter hypothesis testing and acceptance sampling"; Bonferroni 1936.
    """
    if any(map(math.isnan, every)):
        return math.nan
    return max(every) if strongest.mean >= 0 else min(1.0, strongest.p * len(every))


def judge(family: Sequence[Effect], delta: float | Mapping[str, float], alpha: float) -> tuple[Effect, ...]:
    """Give every effect of one family its Holm-adjusted p value and its verdict.

    Args:
        family: All comparisons that are made together: of one method over all cells, one metric, one budget.
        delta: δ, the region of practical equivalence, in the metric's unit; or δ by task.
        alpha: Level of the family.
    """
    level, judged = alpha / max(1, len(family)), []
    for effect, p, joint in zip(family, holm([effect.p for effect in family]), _jointly(family), strict=True):
        threshold = delta if isinstance(delta, int | float) else delta[effect.task]
        known = replace(
            effect,
            p_holm=None if math.isnan(p) else p,
            p_max_t=joint,
            minimum_detectable=detectable(effect.error, effect.freedom, level),
        )
        decided = verdict(known, threshold, alpha)
        low, high = effect.ci95
        clear = (decided == "helps" and low > threshold) or (decided == "hurts" and high < -threshold)
        judged.append(replace(known, verdict=decided, clear=clear))
    return tuple(judged)


def _jointly(family: Sequence[Effect]) -> list[float | None]:
    """Return the joint sign-flip p values of a family, over the units that all of its comparisons have.

    There are none where some of them have no pairs.
    """
    if any(effect.apart for effect in family):
        return [None] * len(family)
    some = [effect for effect in family if effect.n >= 2]
    units = sorted(set.intersection(*(set(effect.units) for effect in some))) if some else []
    if len(units) < 2:
        return [None] * len(family)
    rows = [[gains[unit] for unit in units] for gains in (effect.gains for effect in some)]
    found = iter(max_t_p(rows))
    return [next(found) if effect.n >= 2 else None for effect in family]


def verdict(effect: Effect, delta: float, alpha: float) -> Verdict:
    """Return the verdict that an effect supports at δ: the first of `RULES`, in their order, that applies.

    Source: of "no material effect", the two one-sided tests procedure at level .05: Schuirmann 1987, Lakens 2017.
    """
    if effect.insufficient or not effect.informative:
        return "insufficient data"
    if effect.p_holm is not None and effect.p_holm < alpha and abs(effect.mean) >= delta:
        return "helps" if effect.mean > 0 else "hurts"
    if effect.always_off or (-delta < effect.ci90[0] and effect.ci90[1] < delta):
        return "no material effect"
    return "inconclusive"


def insufficient(n: int, planned: int) -> bool:
    """Tell whether complete units are too few for any verdict: fewer than 5, or more than 20 % incomplete."""
    return n < MIN_UNITS or MAX_INCOMPLETE * (planned - n) > planned
