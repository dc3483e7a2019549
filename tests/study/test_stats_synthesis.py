"""Synthesis across cells, against statsmodels and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from study.stats import random_effects, synthesize

gains = st.integers(-200, 200).map(lambda k: k / 1000)
variances = st.integers(10, 500).map(lambda k: k * 1e-6)  # above the floor
problems = st.lists(st.tuples(gains, variances), min_size=3, max_size=12)
several_tasks = st.lists(st.tuples(gains, variances), min_size=5, max_size=12)  # enough to predict a new one


def split(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [gain for gain, _ in pairs], [variance for _, variance in pairs]


@settings(max_examples=60, deadline=None)
@given(problems)
def test_random_effects_agree_with_statsmodels(pairs: list[tuple[float, float]]) -> None:
    y, v = split(pairs)
    assume(np.ptp(y) > 0)
    found = random_effects(y, v)
    # In thousandths: its iteration stops at an absolute tolerance, which squared fractions fall below at once.
    reference = combine_effects(1e3 * np.array(y), 1e6 * np.array(v), method_re="iterated", use_t=True)
    assert_allclose(1e6 * found.tau**2, max(0.0, reference.tau2), rtol=1e-3, atol=1e-3)
    if found.tau**2 > 1e-9:
        expected = [reference.mean_effect_re, reference.sd_eff_w_re]
        assert_allclose([1e3 * found.mean, 1e3 * found.error], expected, rtol=1e-3, atol=1e-6)
    q = reference.q
    assert_allclose(found.i2, max(0.0, (q - (len(y) - 1)) / q) if q > 0 else 0.0, atol=1e-9)


@given(problems)
def test_the_correction_of_hartung_and_knapp_is_one(pairs: list[tuple[float, float]]) -> None:
    """Where the cells differ; the interval of the mean is then theirs."""
    y, v = split(pairs)
    found = random_effects(y, v)
    if found.tau > 0:
        weights = 1 / (np.array(v) + found.tau**2)
        correction = weights @ (np.array(y) - found.mean) ** 2 / (len(y) - 1)
        assert_allclose(correction, 1, rtol=1e-6)


def test_equal_spreads_give_students_interval_of_the_cell_means() -> None:
    y = np.random.default_rng(0).normal(0.01, 0.02, 7)
    found = random_effects(y.tolist(), [1e-6] * 7)
    assert_allclose(found.ci95, stats.ttest_1samp(y, 0).confidence_interval(0.95), rtol=1e-9)
    assert_allclose(found.tau**2 + 1e-6, y.var(ddof=1), rtol=1e-6)
    reach = stats.t.isf(0.025, 5) * math.hypot(found.tau, found.error)
    assert_allclose(found.prediction95, (found.mean - reach, found.mean + reach))


def test_cells_that_agree_have_no_spread_between_them() -> None:
    found = random_effects([0.01, 0.0101, 0.0099, 0.01], [1e-4] * 4)
    assert (found.tau, found.i2) == (0.0, 0.0)
    assert_allclose(found.error, math.sqrt(1e-4 / 4))


@given(problems, st.floats(-0.1, 0.1))
def test_moving_all_gains_moves_the_mean_and_nothing_else(pairs: list[tuple[float, float]], by: float) -> None:
    y, v = split(pairs)
    one, other = random_effects(y, v), random_effects([gain + by for gain in y], v)
    assert_allclose(other.mean, one.mean + by, atol=1e-6)
    assert_allclose([other.tau**2, other.error], [one.tau**2, one.error], atol=1e-6)


@given(several_tasks)
def test_a_new_problem_is_less_certain_than_the_mean(pairs: list[tuple[float, float]]) -> None:
    found = random_effects(*split(pairs))
    assert found.prediction95[0] <= found.ci95[0] <= found.mean <= found.ci95[1] <= found.prediction95[1]
    assert 0 <= found.i2 <= 1


def test_few_cells() -> None:
    assert math.isnan(random_effects([], []).mean)
    one = random_effects([0.02], [1e-6])
    assert one.mean == 0.02
    assert np.isnan([*one.ci95, *one.prediction95, one.tau]).all()
    two = random_effects([0.02, 0.04], [1e-6, 1e-6])
    assert np.isfinite(two.ci95).all()
    assert np.isnan(two.prediction95).all()
    four, five = (random_effects([0.02, 0.04, 0.03, 0.01, 0.02][:k], [1e-6] * k) for k in (4, 5))
    assert np.isfinite(four.ci95).all()
    assert np.isnan(four.prediction95).all()
    assert np.isfinite(five.prediction95).all()


def test_cells_without_spread_do_not_take_all_the_weight() -> None:
    found = random_effects([0.00, 0.02, 0.02], [0.0, 1e-4, 1e-4])
    assert found.mean > 0.001
    assert random_effects([0.01, 0.01, 0.01], [0.0, 0.0, 0.0]).mean == pytest.approx(0.01)
    assert random_effects([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]).tau == 0.0


def test_a_synthesis_holds_all_of_it() -> None:
    y, v = [0.01, 0.03, 0.02, 0.05, 0.04], [1e-6, 2e-6, 1e-6, 3e-6, 2e-6]
    found, pooled = synthesize("SAM", "G", y, [math.sqrt(one) for one in v]), random_effects(y, v)
    assert (found.method, found.budget, found.tasks) == ("SAM", "G", 5)
    assert (found.mean, found.error, *found.ci95, *found.prediction95, found.tau, found.i2) == pytest.approx(
        (pooled.mean, pooled.error, *pooled.ci95, *pooled.prediction95, pooled.tau, pooled.i2)
    )
