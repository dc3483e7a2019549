"""Samples that share no units: Welch's t against SciPy, the laws of a comparison, one verdict for both kinds."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from study.stats import Arm, Contrast, Effect, compare, judge
from study.stats.estimates import detectable, estimate, estimate_apart, share_better_apart

CONTRAST = Contrast("cell", "digits", (), "given", "SAM", "own cost", "test_score")
thousandths = st.integers(0, 1000).map(lambda k: k / 1000)
samples = st.lists(thousandths, min_size=2, max_size=12)


def arm(name: str, values: Sequence[float], first: int = 0, **settings: Any) -> Arm:
    return Arm(name, {first + k: {0: value} for k, value in enumerate(values)}, len(values), **settings)


def apart(ours: Sequence[float], *theirs: Sequence[float], contrast: Contrast = CONTRAST) -> Effect:
    sides = [arm(f"baseline {k}", values) for k, values in enumerate(theirs)]
    return compare(contrast, arm("SAM", ours), sides, planned=0, unit="run", paired=False)


@given(samples, samples)
def test_it_is_welchs_t_test(ours: list[float], theirs: list[float]) -> None:
    assume(len(set(ours)) > 1 and len(set(theirs)) > 1)
    found, reference = estimate_apart(ours, theirs), stats.ttest_ind(ours, theirs, equal_var=False)
    assert_allclose(found.p, reference.pvalue, rtol=1e-8, atol=1e-12)
    assert_allclose(found.freedom, reference.df, rtol=1e-9)
    for ends, level in ((found.ci95, 0.95), (found.ci90, 0.90)):
        interval = reference.confidence_interval(level)
        assert_allclose(ends, (interval.low, interval.high), rtol=1e-9, atol=1e-12)
    assert_allclose(found.mean, np.mean(ours) - np.mean(theirs), atol=1e-12)
    assert_allclose(found.sd, math.hypot(np.std(ours, ddof=1), np.std(theirs, ddof=1)))


def test_one_side_without_spread_lends_the_other_its_freedom() -> None:
    found = estimate_apart([0.9, 0.92, 0.91, 0.95], [0.8] * 6)
    alone = estimate([0.1, 0.12, 0.11, 0.15])
    assert found.freedom == pytest.approx(3)
    assert_allclose((found.mean, found.error, found.p, *found.ci95), (alone.mean, alone.error, alone.p, *alone.ci95))


@pytest.mark.parametrize(("first", "second"), [(5, 5), (3, 7), (7, 3), (2, 2)])
def test_without_any_spread_p_is_that_of_the_permutation_test(first: int, second: int) -> None:
    values = [0.9] * first + [0.8] * second
    gaps = [
        np.mean([values[k] for k in ours]) - np.mean([values[k] for k in range(len(values)) if k not in ours])
        for ours in itertools.combinations(range(len(values)), first)
    ]
    found = estimate_apart(values[:first], values[first:])
    assert found.ci95 == (found.mean, found.mean)
    assert found.p == pytest.approx(np.mean(np.abs(gaps) >= abs(found.mean) - 1e-9))


def test_equal_samples_without_spread_say_nothing() -> None:
    found = estimate_apart([0.9] * 5, [0.9] * 4)
    assert (found.mean, found.p, found.ci95) == (0.0, 1.0, (0.0, 0.0))


@pytest.mark.parametrize(("ours", "theirs"), [([], [0.1]), ([0.1], []), ([0.1], [0.1, 0.2]), ([0.1, 0.2], [0.3])])
def test_too_few_are_unknown(ours: list[float], theirs: list[float]) -> None:
    found = estimate_apart(ours, theirs)
    assert math.isnan(found.p)
    assert math.isnan(found.ci95[0])
    assert math.isnan(found.mean) == (not ours or not theirs)


@given(samples, samples, st.sampled_from([2.0**-400, 2.0**-20, 2.0**20, 2.0**400]))
def test_a_unit_changes_nothing_else(ours: list[float], theirs: list[float], scale: float) -> None:
    assume(len({*ours, *theirs}) > 1)
    one = estimate_apart(ours, theirs)
    other = estimate_apart([scale * value for value in ours], [scale * value for value in theirs])
    assert_allclose(other.p, one.p, rtol=1e-6)
    assert_allclose(other.mean / scale, one.mean, atol=1e-9)


@given(samples, samples)
def test_turned_round_it_is_its_mirror(ours: list[float], theirs: list[float]) -> None:
    one, other = apart(ours, theirs), apart(theirs, ours)
    assert_allclose((one.mean, *one.ci95, one.p), (-other.mean, -other.ci95[1], -other.ci95[0], other.p), atol=1e-12)
    assert one.share_better == pytest.approx(1 - other.share_better)
    lower = Contrast("cell", "digits", (), "given", "SAM", "own cost", "test_loss")
    assert apart(ours, theirs, contrast=lower).mean == pytest.approx(other.mean, abs=1e-12)
    assert apart(ours, theirs, contrast=lower).share_better == pytest.approx(other.share_better)


@given(samples, samples)
def test_the_share_of_better_pairs_is_mann_whitneys(ours: list[float], theirs: list[float]) -> None:
    reference = stats.mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))
    assert share_better_apart(ours, theirs) == pytest.approx(reference)


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five() -> None:
    rng, sizes, sds = np.random.default_rng(0), (6, 12), (0.01, 0.004)
    error = math.sqrt(sum(sd**2 / n for sd, n in zip(sds, sizes, strict=True)))
    parts = [sd**2 / n for sd, n in zip(sds, sizes, strict=True)]
    freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True))
    gain = detectable(error, freedom, 0.05)
    ours, theirs = (rng.normal(mean, sd, (20_000, n)) for mean, sd, n in zip((gain, 0.0), sds, sizes, strict=True))
    found = stats.ttest_ind(ours, theirs, axis=1, equal_var=False).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_a_method_must_beat_every_baseline_also_unpaired() -> None:
    rng = np.random.default_rng(1)
    ours, weak, strong = (rng.normal(mean, 0.004, 8).round(4).tolist() for mean in (0.93, 0.90, 0.925))
    against = [stats.ttest_ind(ours, theirs, equal_var=False).pvalue for theirs in (weak, strong)]
    effect = apart(ours, weak, strong)
    assert (effect.baseline, effect.p) == ("baseline 1", pytest.approx(max(against)))
    loss = apart(strong, ours, weak)
    assert loss.p == pytest.approx(min(1.0, 2 * against[1]))  # Bonferroni, for which of the two it is


@pytest.mark.parametrize(
    ("ours", "theirs", "insufficient"),
    [
        ((5, 5), (5, 5), False),
        ((4, 4), (20, 20), True),
        ((20, 20), (4, 4), True),
        ((5, 5), (8, 10), False),
        ((5, 5), (7, 10), True),
        ((8, 10), (5, 5), False),
        ((7, 10), (5, 5), True),
    ],
)
def test_each_side_needs_enough(ours: tuple[int, int], theirs: tuple[int, int], insufficient: bool) -> None:
    rng = np.random.default_rng(2)
    effect = compare(
        CONTRAST,
        arm("SAM", rng.normal(0.95, 0.001, ours[0]), planned=ours[1]),
        [arm("SGD", rng.normal(0.90, 0.001, theirs[0]), first=100, planned=theirs[1])],
        planned=0,
        unit="run",
        paired=False,
    )
    (judged,) = judge([effect], 0.005, 0.05)
    assert judged.apart == (ours, theirs)
    assert judged.n == min(ours[0], theirs[0])
    assert judged.insufficient is insufficient
    assert judged.verdict == ("insufficient data" if insufficient else "helps")
    assert judged.p_max_t is None
    assert judged.gains == {}


def test_a_baseline_with_one_run_leaves_no_verdict() -> None:
    effect = apart([0.95, 0.951, 0.952, 0.953, 0.954], [0.9, 0.901, 0.902, 0.903, 0.904], [0.5])
    assert math.isnan(effect.p)
    assert judge([effect], 0.005, 0.05)[0].verdict == "insufficient data"


def test_the_same_verdict_rules_hold() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(0.9, 0.002, 10)
    verdicts = {}
    for gain in (0.02, -0.02, 0.0):
        (judged,) = judge([apart((base + gain).tolist(), rng.permutation(base).tolist())], 0.005, 0.05)
        verdicts[gain] = judged.verdict, judged.clear
    assert verdicts == {0.02: ("helps", True), -0.02: ("hurts", True), 0.0: ("no material effect", False)}
