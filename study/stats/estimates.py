"""Estimates: what a handful of paired differences says, as plain numbers. NaN stands for "can't be known".

Metrics come in all sizes. Where squares of the numbers would leave the range of floats, they are divided by a power of
two first and the results are multiplied by it, which changes no other bit: see `binary_scale`.
"""

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, WithJsonSchema
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit
from scipy.stats import nct

POWER = 0.8
NORMAL_975 = statistics.NormalDist().inv_cdf(0.975)
EXACT_MAX_T_TO = 12  # 4,096 patterns
DECIMALS = 12  # of differences of numbers from .1 to 1,000


def _null_is_nan(value: object) -> object:
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_null_is_nan), WithJsonSchema({"type": ["number", "null"]})]
"""A float that may be NaN. JSON has no NaN: it is written as null and read back as NaN."""


OF_FRACTIONS = 14  # binary exponents of what methods with bounds of their own, meant for fractions, take as it is
_ORDINARY = 330  # binary exponents up to which squares and their sums are safe: 2 to that power is 1e99


def binary_scale(values: Iterable[float], ordinary: int = _ORDINARY) -> int:
    """Return the power of two to divide values by before they are squared.

    Args:
        values: Those that are finite count.
        ordinary: Powers up to which, in either direction, numbers stay as they are: 0 is returned.
    """
    exponent = math.frexp(max((abs(value) for value in values if math.isfinite(value)), default=0.0))[1]
    return exponent if abs(exponent) > ordinary else 0


def scaled(value: float, exponent: int) -> float:
    """Return a number times a power of two; infinite where it is too large for one."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _ordinary(values: Sequence[float]) -> tuple[Sequence[float], int]:
    """Return values divided by a power of two, and that power; nearly always they are as they were, and it is 0."""
    exponent = binary_scale(values)
    return ([scaled(value, -exponent) for value in values] if exponent else values), exponent


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of at least one number, of whatever size."""
    try:
        return statistics.fmean(values)
    except OverflowError:
        return scaled(statistics.fmean(scaled(value, -10) for value in values), 10)


def rounded(value: float, size: float) -> float:
    """Return a difference without what the rounding of the numbers that it was made of has left in it.

    Twelve decimals are kept, more of smaller numbers and fewer of larger ones: far below any metric's resolution, so
    that equal differences are equal.

    Args:
        value: The difference.
        size: The largest of those numbers.
    """
    magnitude = math.ceil(math.log10(size)) if 0 < size < math.inf else 0
    return round(value, DECIMALS - (magnitude if magnitude < 0 else max(0, magnitude - 3)))


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its Student-t intervals and two-sided p value; estimates of something derive from it.

    ``sd`` has n − 1 in the denominator, ``error`` is the standard error of ``mean``, ``freedom`` its degrees of
    freedom: n − 1 of n paired differences, what Welch and Satterthwaite give for two samples. Below n = 2 all but
    ``mean`` is NaN, below n = 1 ``mean`` too.
    """

    n: int
    mean: Number
    sd: Number
    ci95: tuple[Number, Number]
    ci90: tuple[Number, Number]
    p: Number
    error: Number = math.nan
    freedom: Number = math.nan


def estimate(differences: Sequence[float]) -> Estimate:
    """Estimate the mean of paired differences.

    When all differences are equal (zero included) no spread was seen: the intervals have zero width, and
    since t is then infinite or undefined, ``p`` is that of the sign-flip test (Fisher 1935, §21), 2^(1 − n), or 1 when
    they are zero. A spread of zero is often rounding (accuracies are multiples of 1 / test size), never a proof.

    Args:
        differences: Gains, one a pair, finite.

    Source: Student 1908; as ``scipy.stats.ttest_rel``.
    """
    n = len(differences)
    if n < 2:
        mean = differences[0] if n else math.nan
        return Estimate(n, mean, math.nan, (math.nan, math.nan), (math.nan, math.nan), math.nan)
    if min(differences) == max(differences):
        mean = differences[0]
        return Estimate(n, mean, 0.0, (mean, mean), (mean, mean), 2.0 ** (1 - n) if mean else 1.0, 0.0, n - 1.0)
    differences, exponent = _ordinary(differences)
    mean = statistics.fmean(differences)
    sd = math.sqrt(variance(differences))
    return _student(n, mean, sd, sd / math.sqrt(n), float(n - 1), exponent)


def combined(parts: Sequence[tuple[float, Mapping[int, float]]]) -> Estimate:
    """Estimate the weighted sum of numbers by unit, over the units that all of them have.

    Args:
        parts: Pairs of a weight and the numbers by unit.
    """
    units = sorted(set.intersection(*(set(numbers) for _, numbers in parts))) if parts else []
    size = max((abs(numbers[unit]) for _, numbers in parts for unit in units), default=0.0)
    return estimate([rounded(math.fsum(weight * numbers[unit] for weight, numbers in parts), size) for unit in units])


def estimate_apart(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Estimate the difference of the means of two samples whose values belong to nobody on the other side.

    The two may differ in size and spread. ``n`` is the size of the smaller one; ``sd`` is that of the difference of one
    value of each. Where neither sample has a spread, intervals have zero width, as in `estimate`, and ``p`` is that of
    the permutation test: the share of the ways to deal all values out that part them so well, or 1 where all are equal.

    Args:
        ours, theirs: Values, finite. The estimate is NaN below two on either side, but for ``mean`` with one on each.

    Source: Welch 1947, with the degrees of freedom of Satterthwaite 1946; as ``scipy.stats.ttest_ind`` with
        ``equal_var=False``.
    """
    n, unknown = min(len(ours), len(theirs)), (math.nan, math.nan)
    size = max(map(abs, (*ours, *theirs)), default=0.0)
    mean = rounded(mean_of(ours) - mean_of(theirs), size) if n else math.nan
    if n < 2:
        return Estimate(n, mean, math.nan, unknown, unknown, math.nan)
    if min(ours) == max(ours) and min(theirs) == max(theirs):
        ways = 2 if len(ours) == len(theirs) else 1
        p = ways / math.comb(len(ours) + len(theirs), n) if mean else 1.0
        return Estimate(n, mean, 0.0, (mean, mean), (mean, mean), p, 0.0, float(len(ours) + len(theirs) - 2))
    both, exponent = _ordinary((*ours, *theirs))
    samples = both[: len(ours)], both[len(ours) :]
    variances = [0.0 if min(sample) == max(sample) else variance(sample) for sample in samples]
    of_ours, of_theirs = (found / len(sample) for found, sample in zip(variances, samples, strict=True))
    share = of_ours / (of_ours + of_theirs)
    freedom = 1 / (share**2 / (len(ours) - 1) + (1 - share) ** 2 / (len(theirs) - 1))
    error = math.sqrt(of_ours + of_theirs)
    return _student(n, scaled(mean, -exponent), math.sqrt(sum(variances)), error, freedom, exponent)


def _student(n: int, mean: float, sd: float, error: float, freedom: float, exponent: int) -> Estimate:
    """Return the estimate of a mean from its standard error; all of it times a power of two."""
    p = 2 * float(stdtr(freedom, -abs(mean) / error))  # what t.sf comes to, without its ceremony
    wide, narrow = (_t_quantile(freedom, level) * error for level in (0.95, 0.90))
    numbers = mean, sd, error, mean - wide, mean + wide, mean - narrow, mean + narrow
    mean, sd, error, *ends = (scaled(number, exponent) for number in numbers)
    return Estimate(n, mean, sd, (ends[0], ends[1]), (ends[2], ends[3]), p, error, freedom)


def variance(values: Sequence[float]) -> float:
    """Return the variance of at least two numbers of ordinary size, with n − 1 in the denominator.

    Differs from: ``statistics.variance``, which counts in fractions, and ``numpy.var``, whose ceremony takes longer
        than all else here, by rounding alone.
    """
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def interval_for_new_data(mean: float, sd: float, n: int, test_share: float) -> tuple[float, float]:
    """Return the 95 % interval of a mean over splits of one data set, widened to speak of new data of that kind.

    Splits share examples, so their results move together, and more splits of the same data don't make up for that:
    1/n becomes 1/n + n_test/n_train. NaN below n = 2.

    Args:
        mean, sd: Of the gains over n splits.
        n: Splits.
        test_share: n_test/n_train: the test examples of a split, in those that are trained on.

    Source: Nadeau & Bengio 2003, "Inference for the generalization error", section 4.2.
    """
    if n < 2 or math.isnan(sd):
        return math.nan, math.nan
    half = _t_quantile(n - 1, 0.95) * sd * math.sqrt(1 / n + test_share)
    return mean - half, mean + half


@functools.lru_cache(maxsize=1024)
def _t_quantile(freedom: float, level: float) -> float:
    return -float(stdtrit(freedom, (1 - level) / 2))  # as `stdtr` above


def max_t_p(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the p value of every row's mean, corrected for all rows by the joint sign-flip test of the largest t.

    A pattern of signs is drawn once for the columns of all rows: replicates are independent, and what one replicate
    brings in several cells is not. p is the share of patterns whose largest abs(t) over the rows is at least the row's
    own. It needs no normal gains and spends nothing on rows that move together. Exact up to n = 12; beyond it 4,095
    patterns are drawn with a fixed seed and the observed one is counted among them.

    Args:
        rows: One row a comparison, equally long: differences, by unit.

    Returns:
        One p value a row; NaN where there are fewer than two columns.

    Source: Westfall & Young 1993, "Resampling-based multiple testing", single-step max T, with Fisher's sign flips.
    """
    values = np.asarray([_ordinary(row)[0] for row in rows], dtype=np.float64).reshape(len(rows), -1)
    n = values.shape[1]
    if n < 2:
        return [math.nan] * len(rows)
    if n <= EXACT_MAX_T_TO:
        flips = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng(0).integers(0, 2, (2**EXACT_MAX_T_TO - 1, n))
        flips = np.vstack([np.ones(n), 1.0 - 2.0 * drawn])
    means = np.abs(flips @ values.T) / n  # (patterns, rows)
    squares = (values**2).sum(axis=1)
    spread = np.maximum(squares - n * means**2, 1e-12 * squares)  # equal differences: a large t, not an infinite one
    with np.errstate(invalid="ignore", divide="ignore"):
        t_values = np.where(squares > 0, means / np.sqrt(spread), 0.0)
    largest = t_values.max(axis=1)
    return [float((largest >= own * (1 - 1e-9)).mean()) for own in t_values[0]]


def share_better(differences: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the share of positive differences, ties counting half, and its 95 % Wilson interval.

    NaN without differences.

    Source: Wilson 1927, as ``statsmodels.stats.proportion.proportion_confint``.
    """
    n = len(differences)
    if n == 0:
        return math.nan, (math.nan, math.nan)
    better = sum(1.0 if gain > 0 else 0.5 if gain == 0 else 0.0 for gain in differences)
    share, z2 = better / n, NORMAL_975**2
    centre = share + z2 / (2 * n)
    half = NORMAL_975 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return share, (max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n)))


def share_better_apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the share of the pairs of one value of each sample in which ours is better, ties counting half.

    Source: Mann & Whitney 1947: U over the number of pairs.
    """
    won = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one in ours for other in theirs)
    return won / (len(ours) * len(theirs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values after Holm's step-down correction, in the order given.

    A NaN (a comparison without enough data) stays NaN but counts towards the size of the family, so that
    missing data never makes the others look better.

    Source: Holm 1979.
    Differs from: ``statsmodels.stats.multitest.multipletests`` in no number, but in that the garbage collector
        is left alone, which takes longer than all else here.
    """
    known = np.asarray([1.0 if math.isnan(p) else p for p in p_values])
    order = np.argsort(known, kind="stable")
    adjusted = np.empty_like(known)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)))
    return [math.nan if math.isnan(p) else float(q) for p, q in zip(p_values, adjusted, strict=True)]


def detectable(error: float, freedom: float, alpha: float) -> float:
    """Return the smallest true mean that a two-sided t test with such a standard error finds with 80 % power.

    Before any correction for several comparisons. NaN where no spread was seen, and below one degree of freedom.

    Args:
        error: Standard error of the mean.
        freedom: Degrees of freedom; they count to a tenth.
        alpha: Level of the test, in (0, 1).

    Source: power of the t test by the noncentral t distribution, Cohen 1988.
    Differs from: ``statsmodels.stats.power.TTestPower.solve_power``, which at small n and alpha returns a
        wrong number without a word.
    """
    return error * _detectable_in_errors(round(freedom, 1), alpha) if error > 0 and freedom >= 1 else math.nan


@functools.lru_cache(maxsize=1024)
def _detectable_in_errors(freedom: float, alpha: float) -> float:
    critical = -float(stdtrit(freedom, alpha / 2))

    def excess_power(noncentrality: float) -> float:
        far = float(nct.cdf(-critical, freedom, noncentrality))
        far = 0.0 if math.isnan(far) else far  # SciPy gives NaN where this tail is below 1e-20
        return float(nct.sf(critical, freedom, noncentrality)) + far - POWER

    if excess_power(0.0) >= 0:  # alpha alone reaches the power
        return 0.0
    return float(brentq(excess_power, 0.0, 20 * critical + 20))
