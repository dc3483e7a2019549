"""Estimates against SciPy, statsmodels, closed forms and slow, obvious twins."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from study.stats.estimates import (
    combined,
    detectable,
    estimate,
    holm,
    interval_for_new_data,
    max_t_p,
    share_better,
)

thousandths = st.integers(-1000, 1000).map(lambda k: k / 1000)
gains = st.lists(thousandths, min_size=2, max_size=12)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(gains, gains)
def test_estimate_is_the_paired_t_test_of_scipy(method: list[float], baseline: list[float]) -> None:
    n = min(len(method), len(baseline))
    differences = [a - b for a, b in zip(method[:n], baseline[:n], strict=True)]
    assume(np.ptp(differences) > 1e-9)
    found = estimate(differences)
    reference = stats.ttest_rel(method[:n], baseline[:n])
    assert_allclose(found.p, reference.pvalue, rtol=1e-9)
    assert_allclose(found.mean, np.mean(differences), atol=1e-15)
    assert_allclose(found.sd, np.std(differences, ddof=1))
    assert_allclose(found.ci95, reference.confidence_interval(0.95), atol=1e-12)
    assert_allclose(found.ci90, reference.confidence_interval(0.90), atol=1e-12)


@pytest.mark.parametrize(
    ("differences", "mean", "sd", "interval", "p"),
    [
        ([], math.nan, math.nan, (math.nan, math.nan), math.nan),
        ([0.01], 0.01, math.nan, (math.nan, math.nan), math.nan),
        ([0.0, 0.0], 0.0, 0.0, (0.0, 0.0), 1.0),
        ([0.0] * 6, 0.0, 0.0, (0.0, 0.0), 1.0),
        ([0.01, 0.01], 0.01, 0.0, (0.01, 0.01), 0.5),
        ([0.01] * 6, 0.01, 0.0, (0.01, 0.01), 2**-5),
        ([-0.1] * 10, -0.1, 0.0, (-0.1, -0.1), 2**-9),
    ],
)
def test_few_or_equal_differences(
    differences: list[float], mean: float, sd: float, interval: tuple[float, float], p: float
) -> None:
    found = estimate(differences)
    assert found.n == len(differences)
    assert_allclose([found.mean, found.sd, *found.ci95, *found.ci90, found.p], [mean, sd, *interval, *interval, p])


@pytest.mark.parametrize("n", [5, 12, 40])
def test_the_p_of_equal_differences_is_that_of_the_sign_flip_test(n: int) -> None:
    if n <= 12:
        exact = stats.permutation_test(([0.01] * n,), np.mean, permutation_type="samples", n_resamples=2**n)
        assert_allclose(estimate([0.01] * n).p, exact.pvalue)
    assert estimate([0.01] * n).p == 2.0 ** (1 - n)


@given(st.lists(st.dictionaries(st.integers(0, 6), thousandths), min_size=1, max_size=4))
def test_a_weighted_sum_is_over_the_units_that_all_parts_have(parts: list[dict[int, float]]) -> None:
    weights = [(-1.0) ** k / (k + 1) for k in range(len(parts))]
    units = [unit for unit in range(7) if all(unit in part for part in parts)]
    reference = estimate([sum(w * part[unit] for w, part in zip(weights, parts, strict=True)) for unit in units])
    found = combined(list(zip(weights, parts, strict=True)))
    assert found.n == len(units)
    assert_allclose([found.mean, *found.ci95], [reference.mean, *reference.ci95], atol=1e-9)


@pytest.mark.parametrize(
    ("differences", "share"), [([1, 1, 1], 1.0), ([-1, -1], 0.0), ([1, 0, -1, 0], 0.5), ([0.0], 0.5), ([1, 0], 0.75)]
)
def test_share_better_counts_ties_half(differences: list[float], share: float) -> None:
    assert share_better(differences)[0] == share


@given(gains)
def test_share_better_has_the_wilson_interval(differences: list[float]) -> None:
    share, interval = share_better(differences)
    n, z = len(differences), stats.norm.isf(0.025)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert_allclose(interval, (centre - half, centre + half), atol=1e-12)
    assert_allclose(interval, proportion_confint(share * n, n, method="wilson"), atol=1e-12)


def test_share_better_without_differences() -> None:
    share, interval = share_better([])
    assert np.isnan([share, *interval]).all()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 48])
def test_holm_agrees_with_statsmodels(size: int) -> None:
    given_p = (np.random.default_rng(size).random(size).round(2) ** 3).tolist()
    assert_allclose(holm(given_p), multipletests(given_p, method="holm")[1], atol=1e-15)


@given(p_values)
def test_holm_never_lowers_a_p_and_keeps_their_order(given_p: list[float]) -> None:
    adjusted = holm(given_p)
    assert all(p <= q <= 1 for p, q in zip(given_p, adjusted, strict=True))
    in_order = [q for _, q in sorted(zip(given_p, adjusted, strict=True))]
    assert in_order == sorted(in_order)


@given(p_values, st.floats(0, 1))
def test_another_comparison_never_helps_the_others(given_p: list[float], another: float) -> None:
    assert all(q <= r for q, r in zip(holm(given_p), holm([*given_p, another]), strict=False))


def test_holm_counts_comparisons_without_data() -> None:
    assert_allclose(holm([0.01, math.nan, 0.02]), [0.03, math.nan, 0.04])
    assert holm([]) == []
    assert np.isnan(holm([math.nan])).all()


@pytest.mark.parametrize("n", [4, 5, 6, 10, 20, 100])
def test_minimum_detectable_effect_agrees_with_statsmodels(n: int) -> None:
    reference = TTestPower().solve_power(None, nobs=n, alpha=0.05, power=0.8, alternative="two-sided")
    assert_allclose(detectable(0.0028 / math.sqrt(n), n - 1, 0.05), 0.0028 * reference, rtol=1e-5)


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.05), (2, 0.001), (3, 0.01), (6, 0.05), (6, 0.4), (10, 0.001)])
def test_an_effect_of_the_minimum_size_is_found_four_times_in_five(n: int, alpha: float) -> None:
    effect = detectable(1 / math.sqrt(n), n - 1, alpha)
    samples = np.random.default_rng(n).normal(effect, 1, (40_000, n))
    t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * math.sqrt(n)
    assert_allclose((np.abs(t) > stats.t.isf(alpha / 2, n - 1)).mean(), 0.8, atol=0.01)


@pytest.mark.parametrize(("error", "freedom"), [(0.01, 0), (0.0, 5), (math.nan, 5), (math.nan, math.nan)])
def test_minimum_detectable_effect_is_unknown(error: float, freedom: float) -> None:
    assert math.isnan(detectable(error, freedom, 0.05))


def test_minimum_detectable_effect_of_a_lax_test() -> None:
    assert detectable(1.0, 5, 0.85) == 0.0


def _slow_max_t(rows: list[list[float]]) -> list[float]:
    """Every pattern of signs, one by one, with t as `scipy.stats.ttest_1samp` gives it."""

    def t_of(values: np.ndarray) -> float:
        return abs(float(stats.ttest_1samp(values, 0.0).statistic)) if np.any(values) else 0.0

    own = [t_of(np.array(row)) for row in rows]
    hits = [0] * len(rows)
    patterns = list(itertools.product((1, -1), repeat=len(rows[0])))
    for signs in patterns:
        largest = max(t_of(np.array(row) * signs) for row in rows)
        hits = [hit + (largest >= one * (1 - 1e-9)) for hit, one in zip(hits, own, strict=True)]
    return [hit / len(patterns) for hit in hits]


def test_the_joint_sign_flips_are_those_that_are_made_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows = [(rng.normal(shift, 1, 6)).tolist() for shift in (0.0, 0.5, 2.0)]
    assert max_t_p(rows) == pytest.approx(_slow_max_t(rows))


def test_of_one_row_the_joint_test_is_the_sign_flip_test() -> None:
    """With the sum of squares fixed, t grows with the mean."""
    rng = np.random.default_rng(1)
    for n in (5, 8, 12):
        row = rng.normal(0.3, 1, n).tolist()
        exact = stats.permutation_test((row,), np.mean, permutation_type="samples", n_resamples=2**n)
        assert max_t_p([row]) == pytest.approx([exact.pvalue])


def test_a_row_that_stands_twice_costs_the_joint_test_nothing() -> None:
    row, other = np.random.default_rng(2).normal(0.8, 1, (2, 8)).tolist()
    assert max_t_p([row, row]) == pytest.approx(max_t_p([row]) * 2)
    assert all(joint >= alone for joint, alone in zip(max_t_p([row, other]), max_t_p([row]), strict=False))


def test_the_joint_test_holds_its_level_where_rows_move_together() -> None:
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(400):
        shared = rng.normal(0, 1, 8)
        false += min(max_t_p([(shared + 0.3 * rng.normal(0, 1, 8)).tolist() for _ in range(4)])) <= 0.05
    assert stats.binomtest(false, 400, 0.05, alternative="greater").pvalue > 1e-4


@pytest.mark.parametrize("rows", [[[0.1]], [[], []]])
def test_too_few_units_have_no_joint_test(rows: list[list[float]]) -> None:
    assert all(map(math.isnan, max_t_p(rows)))


def test_an_interval_for_new_data_is_the_plain_one_where_test_parts_are_their_own() -> None:
    values = np.random.default_rng(4).normal(0, 1, 10).tolist()
    plain = estimate(values)
    assert interval_for_new_data(plain.mean, plain.sd, 10, 0.0) == pytest.approx(plain.ci95)
    low, high = interval_for_new_data(plain.mean, plain.sd, 10, 0.4)
    assert (high - low) / (plain.ci95[1] - plain.ci95[0]) == pytest.approx(math.sqrt(1 + 10 * 0.4))
