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
    correlation,
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
    sign_flip_p,
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
    "inconclusive": "whatever else",
}
MIN_UNITS = 5
FEW_REPLICATES = 8  # below, a verdict carries the caveat that replicates are few
MAX_INCOMPLETE = 5  # one in five, 20 %


@dataclass(frozen=True, slots=True)
class Contrast:
    """What is held against what: the fields of `Effect` that are known before anything is measured."""

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


@dataclass(frozen=True, slots=True)
class Effect:
    """One comparison in one cell, against the strongest of its baselines: that with the smallest mean gain.

    Attributes:
        cell: The cell's name.
        task: The cell's task.
        factors: The factors that vary between the study's cells, as (name, value) pairs.
        kind: ``tuned`` (tuned method against tuned baselines: the verdict), ``direct`` (two methods against each
            other), ``within-run`` (averaged against last weights of the same trajectories: the mechanism), or ``given``
            (runs that were made elsewhere, as they are).
        method: Name of the method (or, within-run, of the averaging method: SWA or WASAM).
        baseline: What it is held against: the strongest baseline.
        budget: The budget; within-run comparisons are ``E``, those of results made elsewhere ``own cost``.
        metric: Column of the frame, e.g. ``test_score``.
        unit: What the interval is over: replicates, the seeds of one tuning, or runs that were made elsewhere.
        units: The complete ones, ascending; none where sides are not paired.
        method_values, baseline_values: Means of the metric by unit, as measured (not sign-corrected).
        differences: Gains by unit, sign-corrected; none where sides are not paired.
        planned: Units that the plan wanted.
        apart: Of sides that are not paired: the complete and the planned units of the method, then of each baseline;
            None where they are paired.
        diverged_method, diverged_baseline: Diverged runs among them (they enter at chance level).
        mean, sd: Of the gains. ``sd`` has n − 1 in the denominator; NaN below n = 2. Of sides that are not paired:
            the difference of the means, and the sd of the difference of one unit of each.
        error, freedom: Standard error of the mean, and the degrees of freedom of its t.
        sd_seed, sd_tuning: What of ``sd`` the confirm seeds explain, and what is left to tuning and split; NaN where
            there is one seed a unit.
        ci95, ci90: Student-t intervals of the mean gain, unadjusted. NaN below n = 2.
        p: Two-sided t test, paired or Welch's: of a gain the largest over all baselines, since all have to be beaten;
            of a loss that against the strongest, times the number of baselines. p_holm: the same after Holm over its
            family, None outside a family and where ``p`` is NaN.
        p_sign_flip: Exact two-sided sign-flip test of the mean against the strongest baseline. p_max_t: the same for
            its family, jointly, by the largest t: a check of ``p_holm``; None outside a family. Both need pairs.
        ci95_new_data: Of small data sets, which are split anew: the interval for new data of that kind. NaN elsewhere.
        share_better: Share of units with gain > 0 (ties count half); share_better_ci95: its Wilson interval. Of sides
            that are not paired: the share among all pairs of one unit of each, without an interval.
        minimum_detectable: Smallest true mean gain found with 80 % power at the family's level with this sd and n.
        correlation: Pearson correlation of the paired values: what pairing achieved. NaN if undefined.
        cost_ratio: Gradient evaluations of the method ÷ those of the strongest baseline, per completed run.
        against: All baselines, in their order.
        off: Units in which the method was switched off: its gain over some baseline is exactly 0 at every seed.
        candidates: Sets of weights that validation chose from for the method; 0 where that is not asked.
        clear: A helps/hurts whose 95 % interval lies wholly beyond δ.
        verdict: From the closed list. A descriptive effect (``p_holm`` is None) is at most ``inconclusive``.
    """

    cell: str
    task: str
    factors: tuple[tuple[str, bool | int | float | str], ...]
    kind: Literal["tuned", "within-run", "direct", "given"]
    method: str
    baseline: str
    budget: Spending
    metric: str
    unit: Unit
    units: tuple[int, ...]
    method_values: tuple[float, ...]
    baseline_values: tuple[float, ...]
    differences: tuple[float, ...]
    planned: int
    diverged_method: int
    diverged_baseline: int
    mean: Number
    sd: Number
    sd_seed: Number
    sd_tuning: Number
    ci95: tuple[Number, Number]
    ci90: tuple[Number, Number]
    p: Number
    p_holm: float | None
    p_sign_flip: Number
    share_better: Number
    share_better_ci95: tuple[Number, Number]
    minimum_detectable: Number
    correlation: Number
    cost_ratio: Number
    against: tuple[Against, ...]
    off: int
    candidates: int
    informative: bool
    clear: bool
    verdict: Verdict
    p_max_t: float | None = None
    ci95_new_data: tuple[Number, Number] = (math.nan, math.nan)
    error: Number = math.nan
    freedom: Number = math.nan
    apart: tuple[tuple[int, int], ...] | None = None

    @property
    def n(self) -> int:
        """Complete units; of sides that are not paired, those of the smaller one."""
        return len(self.differences) if self.apart is None else min(self.apart)[0]

    @property
    def insufficient(self) -> bool:
        """Tell whether complete units are too few for any verdict, on either side where they are not paired."""
        return any(insufficient(n, planned) for n, planned in self.apart or ((self.n, self.planned),))

    @property
    def always_off(self) -> bool:
        """Tell whether the method was its strongest baseline in every replicate: no gain, no interval."""
        return self.n > 0 and not any(self.differences) and self.off == self.n


@dataclass(frozen=True, slots=True)
class Interaction:
    """Do perturbing and averaging add up in a cell? Per unit (WASAM − SAM) − (SWA − SGD), at equal epochs.

    Positive: averaging gains more on top of SAM than on the base; negative: the two overlap.
    Intervals as in `Effect`. ``means`` holds the four mean accuracies by method name.
    """

    cell: str
    means: tuple[tuple[str, Number], ...]
    n: int
    mean: Number
    ci95: tuple[Number, Number]
    p: Number


@dataclass(frozen=True, slots=True)
class FactorInteraction:
    """Do two factors change a method's gain together by more than each alone? Per unit, of the four cells they cross.

    gain(second, second) − gain(first, second) − gain(second, first) + gain(first, first), levels in their order, at
    the primary budget; intervals as in `Effect`. Units draw the same streams in all cells, so the four are paired.
    """

    task: str
    method: str
    factors: tuple[str, str]
    levels: tuple[tuple[bool | int | float | str, ...], tuple[bool | int | float | str, ...]]
    n: int
    mean: Number
    ci95: tuple[Number, Number]
    p: Number


@dataclass(frozen=True, slots=True)
class RhoResponse:
    """Validation accuracy of the sam family against rho in one cell, from the tune stage; one point a run.

    ``last`` and ``averaged`` (best average of the run on validation, NaN without averages) are fractions, in
    the order of ``rho``. ``base_best`` is the validation accuracy of the tuned baseline, on average over replicates,
    NaN before its tune stage is over. ``selected_rho`` is what validation froze for SAM, by replicate.
    """

    cell: str
    rho: tuple[float, ...]
    learning_rate: tuple[float, ...]
    last: tuple[float, ...]
    averaged: tuple[Number, ...]
    base_best: Number
    selected_rho: tuple[float, ...]


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
    lower_is_better = contrast.metric.endswith(("_loss", "_error"))
    units = _shared_units(sides, confirms) if paired else ()
    own = {side.name: units if paired else sorted(side.scores) for side in sides}
    scores = [score for side in sides for unit in own[side.name] for score in side.scores[unit].values()]
    size = max(map(abs, scores), default=0.0)
    held = {side.name: _held(method, side, units if paired else None, lower_is_better, size) for side in baselines}
    strongest = min(baselines, key=lambda side: held[side.name].found.mean if scores else 0.0)
    chosen, gains = held[strongest.name].found, held[strongest.name].gains
    better, better_ci95 = held[strongest.name].better
    ours, theirs = (_means(side.scores, own[side.name]) for side in (method, strongest))
    sd_seed, sd_tuning = _parts_of_sd(held[strongest.name].by_seed, chosen.sd)
    apart = None if paired else tuple((len(side.scores), side.planned or len(side.scores)) for side in sides)
    effect = Effect(
        cell=contrast.cell,
        task=contrast.task,
        factors=contrast.factors,
        kind=contrast.kind,
        method=contrast.method,
        baseline=strongest.name,
        budget=contrast.budget,
        metric=contrast.metric,
        unit=unit,
        units=units,
        method_values=ours,
        baseline_values=theirs,
        differences=gains,
        planned=min(apart)[1] if apart else planned,
        diverged_method=method.diverged,
        diverged_baseline=strongest.diverged,
        mean=chosen.mean,
        sd=chosen.sd,
        sd_seed=sd_seed,
        sd_tuning=sd_tuning,
        ci95=chosen.ci95,
        ci90=chosen.ci90,
        p=_p_against_all(chosen.mean, chosen.p, [one.found.p for one in held.values()]),
        p_holm=None,
        p_sign_flip=sign_flip_p(gains),
        p_max_t=None,
        ci95_new_data=(
            interval_for_new_data(chosen.mean, chosen.sd, chosen.n, test_share) if test_share else _UNKNOWN
        ),
        share_better=better,
        share_better_ci95=better_ci95,
        minimum_detectable=detectable(chosen.error, chosen.freedom, alpha),
        correlation=correlation(ours, theirs) if paired else math.nan,
        cost_ratio=method.cost / strongest.cost if strongest.cost > 0 else math.nan,
        against=tuple(
            Against(
                side.name, held[side.name].found.mean, held[side.name].found.ci95, held[side.name].found.p,
                _mean(_means(side.scores, own[side.name])),
            )
            for side in baselines
        ),
        off=off,
        candidates=candidates,
        informative=len({*scores}) > 1 and not all(side.runs and side.diverged == side.runs for side in sides),
        clear=False,
        verdict="inconclusive",
        error=chosen.error,
        freedom=chosen.freedom,
        apart=apart,
    )  # fmt: skip
    return replace(effect, verdict="insufficient data") if effect.insufficient else effect


_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class _Held:
    """A method against one baseline: its gains by unit, and within it by seed; none where sides are not paired."""

    by_seed: Sequence[Sequence[float]]
    gains: tuple[float, ...]
    found: Estimate
    better: tuple[float, tuple[float, float]]


def _held(method: Arm, baseline: Arm, units: Sequence[int] | None, lower_is_better: bool, size: float) -> _Held:
    """Hold a method against one baseline over the units that they share, or over all of either side.

    Args:
        method, baseline: The sides.
        units: The units that are paired; None where none are.
        lower_is_better: Of the metric.
        size: The largest score, in absolute value.
    """
    if units is None:
        sign = -1.0 if lower_is_better else 1.0
        ours, theirs = (
            [sign * value for value in _means(side.scores, sorted(side.scores))] for side in (method, baseline)
        )
        return _Held((), (), estimate_apart(ours, theirs), (share_better_apart(ours, theirs), _UNKNOWN))
    by_seed = _gains(method.scores, baseline.scores, units, lower_is_better)
    gains = tuple(rounded(mean_of(seeds), size) for seeds in by_seed)
    return _Held(by_seed, gains, estimate(gains), share_better(gains))


def _shared_units(sides: Sequence[Arm], confirms: int) -> tuple[int, ...]:
    """Return the units of which all sides have all seeds, ascending."""
    shared = set.intersection(*(set(side.scores) for side in sides))
    return tuple(
        sorted(u for u in shared if len(set.intersection(*(set(side.scores[u]) for side in sides))) >= confirms)
    )


def _gains(method: Scores, baseline: Scores, units: Sequence[int], lower_is_better: bool) -> list[list[float]]:
    """Return the sign-corrected gains of every unit, seed by seed."""
    sign = -1.0 if lower_is_better else 1.0
    return [
        [sign * (method[u][seed] - baseline[u][seed]) for seed in sorted(method[u].keys() & baseline[u].keys())]
        for u in units
    ]


def _means(scores: Scores, units: Sequence[int]) -> tuple[float, ...]:
    return tuple(mean_of(tuple(scores[u].values())) for u in units)


def _mean(values: Sequence[float]) -> float:
    return mean_of(values) if values else math.nan


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


def _p_against_all(mean: float, p: float, every: Sequence[float]) -> float:
    """Return the p value of a row that is held against several baselines; ``mean`` and ``p`` are the strongest's.

    That all of them are beaten is shown when each is: an intersection-union test, whose level needs no correction. That
    the method is behind one of them may be one of several chances, so the smallest is corrected for their number.

    Source: Berger 1982, "Multiparameter hypothesis testing and acceptance sampling"; Bonferroni 1936.
    """
    if any(map(math.isnan, every)):
        return math.nan
    return max(every) if mean >= 0 else min(1.0, p * len(every))


def judge(family: Sequence[Effect], delta: float | Mapping[str, float], alpha: float) -> tuple[Effect, ...]:
    """Give every effect of one family its Holm-adjusted p value and its verdict.

    Args:
        family: All comparisons that are made together: of one method over all cells, one metric, one budget.
        delta: δ, the region of practical equivalence, in the metric's unit; or δ by task.
        alpha: Level of the family.
    """
    adjusted = holm([effect.p for effect in family])
    jointly = _jointly(family)
    level = alpha / max(1, len(family))
    return tuple(
        _judged(
            replace(
                effect,
                p_holm=None if math.isnan(p) else p,
                p_max_t=joint,
                minimum_detectable=detectable(effect.error, effect.freedom, level),
            ),
            delta if isinstance(delta, int | float) else delta[effect.task],
            alpha,
        )
        for effect, p, joint in zip(family, adjusted, jointly, strict=True)
    )


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
    rows = [[dict(zip(effect.units, effect.differences, strict=True))[unit] for unit in units] for effect in some]
    found = iter(max_t_p(rows))
    return [next(found) if effect.n >= 2 else None for effect in family]


def _judged(effect: Effect, delta: float, alpha: float) -> Effect:
    decided = verdict(effect, delta, alpha)
    low, high = effect.ci95
    clear = (decided == "helps" and low > delta) or (decided == "hurts" and high < -delta)
    return replace(effect, verdict=decided, clear=clear)


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


def interaction(cell: str, values: Mapping[str, Mapping[int, float]]) -> Interaction:
    """Return the 2×2 interaction of perturbing and averaging over the units that all four methods have.

    Args:
        cell: The cell's name.
        values: Mean score by unit, by the method names SGD, SWA, SAM and WASAM.
    """
    sgd, swa, sam, wasam = (values[name] for name in ("SGD", "SWA", "SAM", "WASAM"))
    units = sorted(sgd.keys() & swa.keys() & sam.keys() & wasam.keys())
    size = max((abs(by_unit[u]) for by_unit in (sgd, swa, sam, wasam) for u in units), default=0.0)
    found = estimate([rounded((wasam[u] - sam[u]) - (swa[u] - sgd[u]), size) for u in units])
    means = tuple((name, estimate([values[name][u] for u in units]).mean) for name in values)
    return Interaction(cell, means, found.n, found.mean, found.ci95, found.p)
