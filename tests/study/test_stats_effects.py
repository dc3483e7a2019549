"""Comparisons obey their laws; verdicts follow the protocol's list, edge by edge."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from study.stats import Contrast, Effect, Verdict, compare, interaction, judge, verdict

ACCURACY = Contrast("cell", "digits", (), "tuned", "SAM", "SGD", "E", "test_score")
DELTA, ALPHA = 0.005, 0.05
accuracies = st.integers(0, 1000).map(lambda k: k / 1000)
arms = st.dictionaries(st.integers(0, 12), accuracies, max_size=10)


def held_against(method: dict[int, float], baseline: dict[int, float], contrast: Contrast = ACCURACY) -> Effect:
    return compare(contrast, method, baseline, planned=6, alpha=ALPHA)


def assert_same_numbers(first: Effect, second: Effect) -> None:
    for name in ("mean", "sd", "ci95", "ci90", "p", "p_sign_flip", "share_better", "minimum_detectable"):
        assert_allclose(getattr(first, name), getattr(second, name), atol=1e-9, err_msg=name)


def test_pairs_are_made_by_seed() -> None:
    effect = held_against({64: 0.9, 1: 0.8, 7: 0.5, 40: 0.6}, {40: 0.6, 1: 0.7, 2: 0.1, 64: 0.85})
    assert effect.seeds == (1, 40, 64)
    assert (effect.method_values, effect.baseline_values) == ((0.8, 0.6, 0.9), (0.7, 0.6, 0.85))
    assert effect.differences == (0.1, 0.0, 0.05)
    assert effect.n == 3


@given(arms, arms)
def test_numbers_are_those_of_scipy(method: dict[int, float], baseline: dict[int, float]) -> None:
    effect = held_against(method, baseline)
    if effect.n >= 2 and len(set(effect.differences)) > 1:
        reference = stats.ttest_rel(effect.method_values, effect.baseline_values)
        assert_allclose(effect.p, reference.pvalue, rtol=1e-6)
        assert_allclose(effect.ci95, reference.confidence_interval(0.95), atol=1e-9)


@given(arms, arms)
def test_swapping_the_arms_mirrors_everything(method: dict[int, float], baseline: dict[int, float]) -> None:
    one, other = held_against(method, baseline), held_against(baseline, method)
    assert_allclose(one.mean, -other.mean)
    assert_allclose(one.ci95, (-other.ci95[1], -other.ci95[0]))
    assert_allclose(one.ci90, (-other.ci90[1], -other.ci90[0]))
    assert_allclose(one.share_better, 1 - other.share_better)
    assert_allclose(
        [one.sd, one.p, one.p_sign_flip, one.minimum_detectable, one.correlation],
        [other.sd, other.p, other.p_sign_flip, other.minimum_detectable, other.correlation],
    )


@given(arms, arms, accuracies)
def test_what_both_arms_share_cancels(method: dict[int, float], baseline: dict[int, float], shift: float) -> None:
    moved, moved_baseline = ({seed: value + shift for seed, value in arm.items()} for arm in (method, baseline))
    assert_same_numbers(held_against(method, baseline), held_against(moved, moved_baseline))


@pytest.mark.parametrize("metric", ["test_loss", "test_calibration_error"])
@given(method=arms, baseline=arms)
def test_of_a_loss_and_an_error_lower_is_a_gain(
    metric: str, method: dict[int, float], baseline: dict[int, float]
) -> None:
    contrast = replace(ACCURACY, metric=metric)
    assert_same_numbers(held_against(method, baseline, contrast), held_against(baseline, method))
    assert not any(math.copysign(1, gain) < 0 for gain in held_against(method, method, contrast).differences)


def test_equal_gains_are_equal_in_spite_of_rounding() -> None:
    method = {seed: 0.7 + 0.01 * seed + 0.02 for seed in range(6)}
    baseline = {seed: 0.7 + 0.01 * seed for seed in range(6)}
    effect = held_against(method, baseline)
    assert (effect.mean, effect.sd, effect.p) == (0.02, 0.0, 2**-5)


def test_identical_runs_have_no_material_effect() -> None:
    same = dict.fromkeys(range(6), 0.9)
    (effect,) = judge([held_against(same, same)], DELTA, ALPHA)
    assert (effect.mean, effect.ci95, effect.p, effect.p_holm, effect.p_sign_flip) == (0, (0, 0), 1, 1, 1)
    assert effect.verdict == "no material effect"
    assert math.isnan(effect.correlation)
    assert math.isnan(effect.minimum_detectable)


def test_an_effect_is_descriptive_until_it_is_judged() -> None:
    method, baseline = {s: 0.9 + s / 1000 for s in range(6)}, {s: 0.8 + s / 900 for s in range(6)}
    effect = held_against(method, baseline)
    assert (effect.p_holm, effect.verdict) == (None, "inconclusive")
    assert held_against({0: 0.9}, {0: 0.8}).verdict == "insufficient data"
    assert judge([effect], DELTA, ALPHA)[0].verdict == "helps"


def stated(
    mean: float,
    ci95: tuple[float, float],
    ci90: tuple[float, float] = (-1, 1),
    p_holm: float | None = 0.01,
    n: int = 6,
    planned: int = 6,
) -> Effect:
    """Return an effect with these numbers, whether or not data could give them."""
    empty = compare(ACCURACY, {}, {}, planned=planned, alpha=ALPHA)
    return replace(empty, differences=(mean,) * n, mean=mean, ci95=ci95, ci90=ci90, p_holm=p_holm)


HELPS: dict[str, Any] = {"mean": 0.01, "ci95": (0.002, 0.018)}
NULL: dict[str, Any] = {"mean": 0.001, "ci95": (-0.0055, 0.0065), "ci90": (-0.003, 0.004), "p_holm": 0.7}


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        # insufficient data: fewer than five pairs, or more than a fifth incomplete
        (stated(**HELPS, n=4, planned=4), "insufficient data"),
        (stated(**HELPS, n=5, planned=5), "helps"),
        (stated(**HELPS, n=5, planned=6), "helps"),
        (stated(**HELPS, n=8, planned=10), "helps"),
        (stated(**HELPS, n=7, planned=10), "insufficient data"),
        (stated(**HELPS, n=79, planned=100), "insufficient data"),
        (stated(**HELPS, n=80, planned=100), "helps"),
        (stated(**NULL, n=0, planned=6), "insufficient data"),
        # helps and hurts: three conditions
        (stated(**HELPS), "helps"),
        (stated(-0.01, (-0.018, -0.002)), "hurts"),
        (stated(**HELPS, p_holm=0.0499), "helps"),
        (stated(**HELPS, p_holm=0.05), "inconclusive"),
        (stated(**HELPS, p_holm=None), "inconclusive"),
        (stated(0.005, (0.002, 0.008)), "helps"),
        (stated(0.0049, (0.002, 0.008)), "inconclusive"),
        (stated(-0.005, (-0.008, -0.002)), "hurts"),
        (stated(0.01, (0.0, 0.02)), "inconclusive"),
        (stated(-0.01, (-0.02, 0.0)), "inconclusive"),
        # no material effect: the 90 % interval inside the borders
        (stated(**NULL), "no material effect"),
        (stated(0.003, (0.001, 0.0051), (0.0015, 0.0045), p_holm=0.001), "no material effect"),
        (stated(0.001, (-0.006, 0.007), (-0.003, 0.005)), "inconclusive"),
        (stated(-0.001, (-0.007, 0.006), (-0.005, 0.003)), "inconclusive"),
        (stated(0.001, (-0.007, 0.006), (-0.006, 0.003)), "inconclusive"),
        # all else, NaN too
        (stated(0.004, (-0.006, 0.014), (-0.004, 0.012), p_holm=0.4), "inconclusive"),
        (stated(math.nan, (math.nan, math.nan), (math.nan, math.nan), p_holm=None), "inconclusive"),
    ],
)
def test_verdicts(effect: Effect, expected: Verdict) -> None:
    assert verdict(effect, DELTA, ALPHA) == expected


@given(arms, arms, st.floats(1e-4, 0.2), st.floats(1e-3, 0.4))
def test_a_verdict_turns_around_with_its_arms(
    method: dict[int, float], baseline: dict[int, float], delta: float, alpha: float
) -> None:
    turned = {"helps": "hurts", "hurts": "helps"}
    (one,) = judge([held_against(method, baseline)], delta, alpha)
    (other,) = judge([held_against(baseline, method)], delta, alpha)
    assert one.verdict == turned.get(other.verdict, other.verdict)
    assert one.clear == other.clear


@pytest.mark.parametrize(
    ("gain", "wobble", "expected", "clear"),
    [
        (0.02, 0.001, "helps", True),
        (0.006, 0.001, "helps", False),
        (-0.02, 0.001, "hurts", True),
        (-0.006, 0.001, "hurts", False),
        (0.001, 0.001, "no material effect", False),
        (0.02, 0.05, "inconclusive", False),
    ],
)
def test_clear_means_beyond_delta(gain: float, wobble: float, expected: Verdict, clear: bool) -> None:
    wobbles = (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
    method = {seed: 0.5 + gain + wobble * share for seed, share in enumerate(wobbles)}
    (effect,) = judge([held_against(method, dict.fromkeys(range(6), 0.5))], DELTA, ALPHA)
    assert (effect.verdict, effect.clear) == (expected, clear)


def test_judging_adjusts_over_the_whole_family() -> None:
    p_values = [0.01, math.nan, 0.04, 0.03]
    family = [replace(stated(**HELPS), p=p) for p in p_values]
    judged = judge(family, DELTA, ALPHA)
    assert [effect.p_holm for effect in judged] == pytest.approx([0.04, None, 0.09, 0.09])
    assert [effect.verdict for effect in judged] == ["helps", "inconclusive", "inconclusive", "inconclusive"]
    assert judge([], DELTA, ALPHA) == ()


def test_interaction_is_the_difference_of_differences() -> None:
    sgd, swa = {1: 0.70, 2: 0.72, 3: 0.71}, {1: 0.80, 2: 0.81, 3: 0.80, 4: 0.9}
    sam, wasam = {1: 0.85, 2: 0.84, 3: 0.86}, {1: 0.90, 2: 0.88, 3: 0.91}
    found = interaction("cell", {"SGD": sgd, "SWA": swa, "SAM": sam, "WASAM": wasam})
    per_seed = [(wasam[s] - sam[s]) - (swa[s] - sgd[s]) for s in (1, 2, 3)]
    reference = stats.ttest_1samp(per_seed, 0)
    assert found.n == 3
    assert (found.mean, found.p) == pytest.approx((sum(per_seed) / 3, reference.pvalue))
    assert found.ci95 == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert dict(found.means) == pytest.approx({"SGD": 0.71, "SWA": 2.41 / 3, "SAM": 0.85, "WASAM": 2.69 / 3})


def test_interaction_without_runs() -> None:
    found = interaction("cell", {"SGD": {}, "SWA": {}, "SAM": {}, "WASAM": {1: 0.9}})
    assert found.n == 0
    assert all(math.isnan(value) for _, value in found.means)
    assert math.isnan(found.mean)
