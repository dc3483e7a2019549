"""Effects: what is held against what, what came out, and the verdict from the closed list."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from study.specs.budgets import Budget
from study.stats.estimates import (
    Number,
    correlation,
    estimate,
    holm,
    minimum_detectable_effect,
    share_better,
    sign_flip_p,
)

Verdict = Literal["helps", "hurts", "no material effect", "inconclusive", "insufficient data"]
MIN_PAIRS = 5
MAX_INCOMPLETE = 5  # one in five, 20 %
DECIMALS = 12  # differences are rounded here, far below any metric's resolution, so that equal ones are equal


@dataclass(frozen=True, slots=True)
class Contrast:
    """What is held against what: the fields of `Effect` that are known before anything is measured."""

    cell: str
    task: str
    factors: tuple[tuple[str, bool | int | float | str], ...]
    kind: Literal["tuned", "within-run"]
    method: str
    baseline: str
    budget: Budget
    metric: str


@dataclass(frozen=True, slots=True)
class Effect:
    """One paired comparison in one cell.

    Attributes:
        cell: The cell's name.
        task: The cell's task.
        factors: The factors that vary between the study's cells, as (name, value) pairs.
        kind: ``tuned`` (tuned method against tuned baseline: the verdict) or ``within-run`` (averaged against
            last weights of the same trajectories: the mechanism).
        method: Name of the method (or, within-run, of the averaging method: SWA or WASAM).
        baseline: Name of what it is held against.
        budget: ``E`` equal epochs, ``G`` equal gradient evaluations; within-run comparisons are ``E``.
        metric: Column of the frame, e.g. ``test_score``.
        seeds: The seeds of the complete pairs, ascending.
        method_values, baseline_values: The metric by seed, as measured (not sign-corrected).
        differences: Gains by seed, sign-corrected.
        planned: Pairs that the plan wanted.
        diverged_method, diverged_baseline: Diverged runs among them (they enter at chance level).
        mean, sd: Of the gains. ``sd`` has n − 1 in the denominator; NaN below n = 2.
        ci95, ci90: Student-t intervals of the mean gain, unadjusted. NaN below n = 2.
        p: Two-sided paired t test (see `estimate` for equal gains). p_holm: the same after Holm over its
            family, None outside a family and where ``p`` is NaN.
        p_sign_flip: Exact two-sided sign-flip test of the mean.
        share_better: Share of seeds with gain > 0 (ties count half); share_better_ci95: its Wilson interval.
        minimum_detectable: Smallest true mean gain found with 80 % power at level alpha with this sd and n.
        correlation: Pearson correlation of the paired values: what pairing achieved. NaN if undefined.
        cost_ratio: Gradient evaluations of the method ÷ those of the baseline, per completed run.
        clear: A helps/hurts whose 95 % interval lies wholly beyond δ.
        verdict: From the closed list. A descriptive effect (``p_holm`` is None) is at most ``inconclusive``.
    """

    cell: str
    task: str
    factors: tuple[tuple[str, bool | int | float | str], ...]
    kind: Literal["tuned", "within-run"]
    method: str
    baseline: str
    budget: Budget
    metric: str
    seeds: tuple[int, ...]
    method_values: tuple[float, ...]
    baseline_values: tuple[float, ...]
    differences: tuple[float, ...]
    planned: int
    diverged_method: int
    diverged_baseline: int
    mean: Number
    sd: Number
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
    clear: bool
    verdict: Verdict

    @property
    def n(self) -> int:
        """Complete pairs."""
        return len(self.differences)


@dataclass(frozen=True, slots=True)
class Interaction:
    """Do perturbing and averaging add up in a cell? Per seed (WASAM − SAM) − (SWA − SGD), at equal epochs.

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
class RhoResponse:
    """Validation accuracy of the sam family against rho in one cell, from the tune stage; one point a run.

    ``last`` and ``averaged`` (best average of the run on validation, NaN without averages) are fractions, in
    the order of ``rho``. ``base_best`` is the validation accuracy of the tuned baseline, NaN before its tune
    stage is over. ``selected_rho`` is what validation froze for SAM; None before its tune stage is over.
    """

    cell: str
    rho: tuple[float, ...]
    learning_rate: tuple[float, ...]
    last: tuple[float, ...]
    averaged: tuple[Number, ...]
    base_best: Number
    selected_rho: float | None


@dataclass(frozen=True, slots=True)
class DecayByAveraging:
    """Mean test accuracy at one setting of the schedule factor, last and averaged weights of the same runs.

    ``group``: the cell's other varied factors in words; ``schedule``: the factor's value; ``averaged`` is the
    average that tuning selected for the family; intervals are 95 % Student-t over seeds, of the paired gain.
    """

    group: str
    schedule: str
    family: str
    n: int
    last: Number
    averaged: Number
    gain: Number
    gain_ci95: tuple[Number, Number]


def compare(
    contrast: Contrast,
    method_values: Mapping[int, float],
    baseline_values: Mapping[int, float],
    *,
    planned: int,
    alpha: float,
    diverged: tuple[int, int] = (0, 0),
    cost_ratio: float = math.nan,
) -> Effect:
    """Hold paired values against each other; the effect is descriptive until `judge` has seen its family.

    Args:
        contrast: What is compared. Of a ``…_loss`` and an ``…_error`` lower is better, of every other metric higher.
        method_values, baseline_values: The metric by seed, as measured. Seeds that either lacks make no pair.
        planned: Pairs that the plan wanted.
        alpha: Level that the minimum detectable effect is computed at.
        diverged: Diverged runs of the method and of the baseline.
        cost_ratio: Gradient evaluations of the method ÷ those of the baseline.
    """
    seeds = tuple(sorted(method_values.keys() & baseline_values.keys()))
    method, baseline = tuple(method_values[s] for s in seeds), tuple(baseline_values[s] for s in seeds)
    higher, lower = (baseline, method) if contrast.metric.endswith(("_loss", "_error")) else (method, baseline)
    gains = tuple(round(a - b, DECIMALS) for a, b in zip(higher, lower, strict=True))
    found = estimate(gains)
    better, better_ci95 = share_better(gains)
    return Effect(
        cell=contrast.cell,
        task=contrast.task,
        factors=contrast.factors,
        kind=contrast.kind,
        method=contrast.method,
        baseline=contrast.baseline,
        budget=contrast.budget,
        metric=contrast.metric,
        seeds=seeds,
        method_values=method,
        baseline_values=baseline,
        differences=gains,
        planned=planned,
        diverged_method=diverged[0],
        diverged_baseline=diverged[1],
        mean=found.mean,
        sd=found.sd,
        ci95=found.ci95,
        ci90=found.ci90,
        p=found.p,
        p_holm=None,
        p_sign_flip=sign_flip_p(gains),
        share_better=better,
        share_better_ci95=better_ci95,
        minimum_detectable=minimum_detectable_effect(found.sd, found.n, alpha),
        correlation=correlation(method, baseline),
        cost_ratio=cost_ratio,
        clear=False,
        verdict="insufficient data" if insufficient(len(seeds), planned) else "inconclusive",
    )


def judge(family: Sequence[Effect], delta: float, alpha: float) -> tuple[Effect, ...]:
    """Give every effect of one family its Holm-adjusted p value and its verdict.

    Args:
        family: All comparisons that are made together: methods × cells, one metric, one budget.
        delta: δ, the region of practical equivalence, in the metric's unit.
        alpha: Level of the family.
    """
    adjusted = holm([effect.p for effect in family])
    return tuple(
        _judged(replace(effect, p_holm=None if math.isnan(p) else p), delta, alpha)
        for effect, p in zip(family, adjusted, strict=True)
    )


def _judged(effect: Effect, delta: float, alpha: float) -> Effect:
    decided = verdict(effect, delta, alpha)
    low, high = effect.ci95
    clear = (decided == "helps" and low > delta) or (decided == "hurts" and high < -delta)
    return replace(effect, verdict=decided, clear=clear)


def verdict(effect: Effect, delta: float, alpha: float) -> Verdict:
    """Return the verdict that an effect supports at δ; the first of these rules that applies.

    1. ``insufficient data``: fewer than 5 complete pairs, or more than 20 % of the planned ones incomplete.
    2. ``helps`` / ``hurts``: Holm p < alpha, abs(mean) ≥ δ, and the 95 % interval excludes 0.
    3. ``no material effect``: the 90 % interval lies inside ±δ, the borders excluded.
    4. ``inconclusive``.

    Source: rule 3 is the two one-sided tests procedure at level .05: Schuirmann 1987, Lakens 2017.
    """
    if insufficient(effect.n, effect.planned):
        return "insufficient data"
    low, high = effect.ci95
    significant = effect.p_holm is not None and effect.p_holm < alpha
    if significant and abs(effect.mean) >= delta and (low > 0 or high < 0):
        return "helps" if effect.mean > 0 else "hurts"
    if -delta < effect.ci90[0] and effect.ci90[1] < delta:
        return "no material effect"
    return "inconclusive"


def insufficient(n: int, planned: int) -> bool:
    """Tell whether complete pairs are too few for any verdict: fewer than 5, or more than 20 % incomplete."""
    return n < MIN_PAIRS or MAX_INCOMPLETE * (planned - n) > planned


def interaction(cell: str, values: Mapping[str, Mapping[int, float]]) -> Interaction:
    """Return the 2×2 interaction of perturbing and averaging over the seeds that all four methods have.

    Args:
        cell: The cell's name.
        values: Accuracy by seed, by the method names SGD, SWA, SAM and WASAM.
    """
    sgd, swa, sam, wasam = (values[name] for name in ("SGD", "SWA", "SAM", "WASAM"))
    seeds = sorted(sgd.keys() & swa.keys() & sam.keys() & wasam.keys())
    found = estimate([round((wasam[s] - sam[s]) - (swa[s] - sgd[s]), DECIMALS) for s in seeds])
    means = tuple((name, estimate([values[name][s] for s in seeds]).mean) for name in values)
    return Interaction(cell, means, found.n, found.mean, found.ci95, found.p)
