"""Comparisons obey their laws; verdicts follow the protocol's list, edge by edge."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from study.stats import RULES, Arm, Contrast, Effect, Verdict, compare, judge
from study.stats.effects import verdict
from study.stats.interactions import interaction

ACCURACY = Contrast("cell", "digits", (), "tuned", "SAM", "E", "test_score")
DELTA, ALPHA = 0.005, 0.05
Scores = Mapping[int, Mapping[int, float]]
accuracies = st.integers(0, 1000).map(lambda k: k / 1000)
seeds = st.sampled_from([(0,), (0, 1), (0, 1, 2)])
units = st.integers(0, 12)


def sides(count: int) -> st.SearchStrategy[list[Scores]]:
    """Return scores of several sides over units of their own, with one to three seeds each."""
    side = seeds.flatmap(lambda of: st.dictionaries(units, st.fixed_dictionaries(dict.fromkeys(of, accuracies))))
    return seeds.flatmap(
        lambda of: st.lists(
            st.dictionaries(units, st.fixed_dictionaries(dict.fromkeys(of, accuracies)), max_size=10),
            min_size=count,
            max_size=count,
        )
    ) | st.lists(side, min_size=count, max_size=count)


def whole_sides(count: int) -> st.SearchStrategy[list[Scores]]:
    """Return scores of several sides that all have the same units and seeds, two units at least."""

    def filled(shape: tuple[int, int]) -> st.SearchStrategy[list[Scores]]:
        rows = st.lists(
            st.lists(accuracies, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
        )
        side = rows.map(lambda values: {unit: dict(enumerate(row)) for unit, row in enumerate(values)})
        return st.lists(side, min_size=count, max_size=count)

    return st.tuples(st.integers(2, 8), st.integers(1, 3)).flatmap(filled)


def held_against(method: Scores, *baselines: Scores, contrast: Contrast = ACCURACY, **settings: Any) -> Effect:
    arms = [Arm(f"baseline {number}", scores, 10, 0, 1.0) for number, scores in enumerate(baselines)]
    return compare(contrast, Arm("SAM", method, 10, 0, 2.0), arms, **({"planned": 6, "alpha": ALPHA} | settings))


def one_seed(scores: Mapping[int, float]) -> Scores:
    return {unit: {0: value} for unit, value in scores.items()}


def listed(values: Sequence[float]) -> Scores:
    return one_seed(dict(enumerate(values)))


def gains_by_hand(method: Scores, baseline: Scores, shared: Sequence[int]) -> list[float]:
    """Return every unit's gain the slow way: seed by seed, over the seeds that both have."""
    return [
        statistics.fmean(method[u][seed] - baseline[u][seed] for seed in method[u] if seed in baseline[u])
        for u in shared
    ]


def assert_same_numbers(first: Effect, second: Effect) -> None:
    for name in ("mean", "sd", "ci95", "ci90", "p", "share_better", "minimum_detectable"):
        assert_allclose(getattr(first, name), getattr(second, name), atol=1e-9, err_msg=name)


def test_pairs_are_made_by_unit_and_seed() -> None:
    method = {64: {1: 0.9, 2: 0.7}, 1: {5: 0.8, 6: 0.6}, 7: {1: 0.5, 2: 0.5}, 40: {3: 0.6, 4: 0.6}}
    baseline = {40: {4: 0.6, 3: 0.5}, 1: {5: 0.7, 6: 0.6}, 2: {1: 0.1, 2: 0.1}, 64: {1: 0.85, 2: 0.6}}
    effect = held_against(method, baseline, confirms=2)
    assert effect.units == (1, 40, 64)
    assert effect.method_values == pytest.approx((0.7, 0.6, 0.8))
    assert effect.baseline_values == pytest.approx((0.65, 0.55, 0.725))
    assert effect.differences == (0.05, 0.05, 0.075)
    assert effect.n == 3


def test_a_unit_counts_where_every_side_has_all_of_its_seeds() -> None:
    whole = {unit: {0: 0.8 + unit / 100, 1: 0.8} for unit in range(6)}
    lacks_a_seed = {**whole, 2: {0: 0.8}}
    lacks_a_unit = {unit: found for unit, found in whole.items() if unit != 4}
    assert held_against(whole, whole, confirms=2).units == (0, 1, 2, 3, 4, 5)
    assert held_against(whole, whole, lacks_a_seed, lacks_a_unit, confirms=2).units == (0, 1, 3, 5)
    assert held_against(lacks_a_seed, whole, confirms=2).units == (0, 1, 3, 4, 5)


@given(sides(2))
def test_against_one_baseline_it_is_the_paired_t_test(found: list[Scores]) -> None:
    method, baseline = found
    shared = sorted(u for u in method.keys() & baseline.keys() if method[u].keys() & baseline[u].keys())
    effect = held_against(method, baseline)
    by_hand = gains_by_hand(method, baseline, shared)
    assert effect.units == tuple(shared)
    assert_allclose(effect.differences, by_hand, atol=1e-12)
    if len(shared) >= 2 and np.ptp(by_hand) > 1e-9:
        reference = stats.ttest_1samp(by_hand, 0)
        assert_allclose(effect.p, reference.pvalue, rtol=1e-6)
        assert_allclose(effect.ci95, reference.confidence_interval(0.95), atol=1e-9)
        assert_allclose(effect.ci90, reference.confidence_interval(0.90), atol=1e-9)
        assert effect.p == effect.against[0].p


@given(sides(2))
def test_swapping_the_arms_mirrors_everything(found: list[Scores]) -> None:
    one, other = held_against(*found), held_against(*reversed(found))
    assert_allclose(one.mean, -other.mean)
    assert_allclose(one.ci95, (-other.ci95[1], -other.ci95[0]))
    assert_allclose(one.ci90, (-other.ci90[1], -other.ci90[0]))
    assert_allclose(one.share_better, 1 - other.share_better)
    names = ("sd", "sd_seed", "sd_tuning", "p", "minimum_detectable")
    assert_allclose([getattr(one, name) for name in names], [getattr(other, name) for name in names], atol=1e-9)


@given(sides(3), accuracies)
def test_what_all_arms_share_cancels(found: list[Scores], shift: float) -> None:
    means = [against.mean for against in held_against(*found).against]
    assume(abs(means[0] - means[1]) > 1e-9 or math.isnan(means[0]))  # else rounding names the strongest
    moved = [{u: {seed: value + shift for seed, value in of.items()} for u, of in side.items()} for side in found]
    assert_same_numbers(held_against(*found), held_against(*moved))


@pytest.mark.parametrize("metric", ["test_loss", "test_calibration_error"])
@given(found=sides(2))
def test_of_a_loss_and_an_error_lower_is_a_gain(metric: str, found: list[Scores]) -> None:
    contrast = replace(ACCURACY, metric=metric)
    assert_same_numbers(held_against(*found, contrast=contrast), held_against(*reversed(found)))
    level = held_against(found[0], found[0], contrast=contrast)
    assert not any(math.copysign(1, gain) < 0 for gain in level.differences)


@given(whole_sides(4))
def test_gain_and_interval_are_those_against_the_strongest_and_all_have_to_be_beaten(found: list[Scores]) -> None:
    effect = held_against(*found)
    alone = [held_against(found[0], other) for other in found[1:]]
    strongest = min(alone, key=lambda one: one.mean)
    assert (effect.mean, effect.ci95, effect.ci90, effect.sd) == (
        strongest.mean, strongest.ci95, strongest.ci90, strongest.sd,
    )  # fmt: skip
    assert [against.mean for against in effect.against] == [one.mean for one in alone]
    assert [against.p for against in effect.against] == [one.p for one in alone]
    if effect.mean >= 0:
        assert effect.p == max(one.p for one in alone)
    else:
        assert effect.p == min(1.0, len(alone) * strongest.p)


@given(whole_sides(4))
def test_one_more_baseline_never_makes_a_gain_surer_and_a_weaker_one_changes_neither_gain_nor_interval(
    found: list[Scores],
) -> None:
    fewer, more = held_against(*found[:3]), held_against(*found)
    assert more.mean <= fewer.mean
    if more.mean >= 0:
        assert more.p >= fewer.p
    if more.against[-1].mean > fewer.mean:
        assert (more.baseline, more.mean, more.ci95, more.ci90) == (fewer.baseline, fewer.mean, fewer.ci95, fewer.ci90)
        assert more.p >= fewer.p
    if more.p < 1 and more.mean < 0:
        assert more.p >= more.against[[a.baseline for a in more.against].index(more.baseline)].p


@given(whole_sides(4), st.permutations(range(3)))
def test_the_order_of_the_baselines_does_not_matter(found: list[Scores], order: Sequence[int]) -> None:
    one, other = held_against(*found), held_against(found[0], *(found[1:][index] for index in order))
    means = sorted(against.mean for against in one.against)
    assume(means[1] - means[0] > 1e-9)  # of level ones the first is named
    assert_same_numbers(one, other)
    assert {against.mean for against in one.against} == {against.mean for against in other.against}


@given(sides(2).filter(lambda found: len(found[0].keys() & found[1].keys()) >= 3))
def test_the_spread_is_split_into_seeds_and_tuning(found: list[Scores]) -> None:
    method, baseline = found
    effect = held_against(method, baseline)
    gains = [
        [method[u][s] - baseline[u][s] for s in method[u] if s in baseline[u]]
        for u in effect.units
        if len(method[u].keys() & baseline[u].keys()) > 1
    ]
    if not gains or effect.n < 2:
        assert math.isnan(effect.sd_seed)
        assert math.isnan(effect.sd_tuning)
        return
    assert_allclose(effect.sd_seed**2, np.mean([np.var(of, ddof=1) / len(of) for of in gains]), atol=1e-12)
    if effect.sd_seed < effect.sd:
        assert_allclose(effect.sd_seed**2 + effect.sd_tuning**2, effect.sd**2, atol=1e-9)
    else:
        assert effect.sd_tuning == pytest.approx(0, abs=1e-6)


def test_the_split_finds_the_spreads_that_were_planted() -> None:
    rng = np.random.default_rng(0)
    tuning, seed = rng.normal(0, 0.004, (4000, 1)), rng.normal(0, 0.012, (4000, 3))
    method = {unit: dict(enumerate(row)) for unit, row in enumerate((0.8 + tuning + seed).tolist())}
    effect = held_against(method, {unit: dict.fromkeys(range(3), 0.8) for unit in range(4000)}, confirms=3)
    assert effect.sd_tuning == pytest.approx(0.004, rel=0.1)
    assert effect.sd_seed == pytest.approx(0.012 / math.sqrt(3), rel=0.05)


def test_equal_gains_are_equal_in_spite_of_rounding() -> None:
    method = {unit: 0.7 + 0.01 * unit + 0.02 for unit in range(6)}
    baseline = {unit: 0.7 + 0.01 * unit for unit in range(6)}
    effect = held_against(one_seed(method), one_seed(baseline))
    assert (effect.mean, effect.sd, effect.p) == (0.02, 0.0, 2**-5)


def test_a_method_that_is_always_off_has_no_material_effect_whatever_delta() -> None:
    same, worse = one_seed(dict.fromkeys(range(6), 0.9)), one_seed({u: 0.8 + u / 100 for u in range(6)})
    (effect,) = judge([held_against(same, same, worse, off=6)], 1e-12, ALPHA)
    assert effect.always_off
    assert (effect.mean, effect.baseline, effect.p) == (0, "baseline 0", 1)
    assert (effect.verdict, effect.clear) == ("no material effect", False)
    assert math.isnan(effect.minimum_detectable)
    # Zeros alone are not "off": another pick may happen to score the same.
    assert not held_against(same, same, off=5).always_off


def test_an_effect_is_descriptive_until_it_is_judged() -> None:
    method, baseline = {s: 0.9 + s / 1000 for s in range(6)}, {s: 0.8 + s / 900 for s in range(6)}
    effect = held_against(one_seed(method), one_seed(baseline))
    assert (effect.p_holm, effect.verdict) == (None, "inconclusive")
    assert held_against(listed([0.9]), listed([0.8])).verdict == "insufficient data"
    assert judge([effect], DELTA, ALPHA)[0].verdict == "helps"


@pytest.mark.parametrize(
    ("diverged", "informative"),
    [((10, 10, 10), False), ((10, 10, 9), True), ((10, 0, 0), True), ((0, 10, 10), True), ((0, 0, 0), True)],
)
def test_where_everything_diverged_there_is_nothing_to_say(diverged: Sequence[int], informative: bool) -> None:
    chance = listed([0.1, 0.1, 0.1, 0.1, 0.1, 0.12])
    arms = [Arm(f"side {number}", chance, 10, of, 1.0) for number, of in enumerate(diverged)]
    (effect,) = judge([compare(ACCURACY, arms[0], arms[1:], planned=6)], DELTA, ALPHA)
    assert effect.informative is informative
    assert effect.verdict == ("no material effect" if informative else "insufficient data")
    assert (effect.diverged_method, effect.diverged_baseline) == (diverged[0], diverged[1])


@pytest.mark.parametrize("score", [0.0, 0.1, 1.0, -4200.0])
def test_where_all_runs_have_one_score_there_is_nothing_to_say(score: float) -> None:
    """Networks that all guess, or a test that all solve: no spread was seen, and nothing can be told apart."""
    same = [listed([score] * 6)] * 3
    assert judge([held_against(*same)], DELTA, ALPHA)[0].verdict == "insufficient data"
    other = listed([score] * 5 + [score + 1e-4])
    assert judge([held_against(other, *same[1:])], DELTA, ALPHA)[0].verdict == "no material effect"


def test_what_the_strongest_baseline_costs_is_what_the_method_is_held_against() -> None:
    method, weak, strong = listed([0.9] * 6), listed([0.7] * 6), listed([0.8] * 6)
    arms = [Arm("SGD last", weak, 6, 0, 10.0), Arm("SGD best, 2× epochs", strong, 6, 2, 20.0)]
    effect = compare(ACCURACY, Arm("SAM", method, 6, 1, 20.0), arms, planned=6)
    assert (effect.baseline, effect.cost_ratio, effect.diverged_baseline) == ("SGD best, 2× epochs", 1.0, 2)
    assert [(a.baseline, a.mean, a.baseline_mean) for a in effect.against] == [
        ("SGD last", 0.2, pytest.approx(0.7)), ("SGD best, 2× epochs", 0.1, pytest.approx(0.8)),
    ]  # fmt: skip


def stated(
    mean: float,
    ci95: tuple[float, float],
    ci90: tuple[float, float] = (-1, 1),
    p_holm: float | None = 0.01,
    n: int = 6,
    planned: int = 6,
    informative: bool = True,
) -> Effect:
    """Return an effect with these numbers, whether or not data could give them."""
    empty = held_against({}, {}, planned=planned)
    known = {"n": n, "differences": (mean,) * n, "mean": mean, "ci95": ci95, "ci90": ci90, "p_holm": p_holm}
    return replace(empty, **known, informative=informative)


HELPS: dict[str, Any] = {"mean": 0.01, "ci95": (0.002, 0.018)}
NULL: dict[str, Any] = {"mean": 0.001, "ci95": (-0.0055, 0.0065), "ci90": (-0.003, 0.004), "p_holm": 0.7}


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        # insufficient data: fewer than five units, more than a fifth incomplete, nothing but diverged runs
        (stated(**HELPS, n=4, planned=4), "insufficient data"),
        (stated(**HELPS, n=5, planned=5), "helps"),
        (stated(**HELPS, n=5, planned=6), "helps"),
        (stated(**HELPS, n=8, planned=10), "helps"),
        (stated(**HELPS, n=7, planned=10), "insufficient data"),
        (stated(**HELPS, n=79, planned=100), "insufficient data"),
        (stated(**HELPS, n=80, planned=100), "helps"),
        (stated(**NULL, n=0, planned=6), "insufficient data"),
        (stated(**HELPS, informative=False), "insufficient data"),
        (stated(**NULL, informative=False), "insufficient data"),
        # helps and hurts: Holm's p and δ; the interval only says how clearly
        (stated(**HELPS), "helps"),
        (stated(-0.01, (-0.018, -0.002)), "hurts"),
        (stated(**HELPS, p_holm=0.0499), "helps"),
        (stated(**HELPS, p_holm=0.05), "inconclusive"),
        (stated(**HELPS, p_holm=None), "inconclusive"),
        (stated(0.005, (0.002, 0.008)), "helps"),
        (stated(0.0049, (0.002, 0.008)), "inconclusive"),
        (stated(-0.005, (-0.008, -0.002)), "hurts"),
        (stated(-0.0049, (-0.008, -0.002)), "inconclusive"),
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


def test_every_verdict_has_its_rule_and_no_other_word_has_one() -> None:
    assert set(RULES) == set(get_args(Verdict))
    assert next(iter(RULES)) == "insufficient data"  # in the order in which `verdict` asks
    assert list(RULES)[-1] == "inconclusive"
    assert all(RULES.values())


@given(sides(2), st.floats(1e-4, 0.2), st.floats(1e-3, 0.4))
def test_a_verdict_against_one_baseline_turns_around_with_its_arms(
    found: list[Scores], delta: float, alpha: float
) -> None:
    turned: dict[str, str] = {"helps": "hurts", "hurts": "helps"}
    (one,) = judge([held_against(*found)], delta, alpha)
    (other,) = judge([held_against(*reversed(found))], delta, alpha)
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
    method = listed([0.5 + gain + wobble * share for share in wobbles])
    (effect,) = judge([held_against(method, listed([0.5] * 6))], DELTA, ALPHA)
    assert (effect.verdict, effect.clear) == (expected, clear)


def test_a_loss_is_corrected_for_the_number_of_baselines_and_a_gain_is_not() -> None:
    wobbles = np.array([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5])
    baseline = listed([0.5] * 6)
    for gain, verdicts in ((0.0125, {"helps"}), (-0.0125, {"hurts", "inconclusive"})):
        method = listed((0.5 + gain + 0.01 * wobbles).tolist())
        found = {judge([held_against(method, *[baseline] * m)], DELTA, ALPHA)[0].verdict for m in (1, 4)}
        assert found == verdicts


def test_judging_adjusts_over_the_whole_family() -> None:
    p_values = [0.01, math.nan, 0.04, 0.03]
    family = [replace(stated(**HELPS), p=p) for p in p_values]
    judged = judge(family, DELTA, ALPHA)
    assert [effect.p_holm for effect in judged] == pytest.approx([0.04, None, 0.09, 0.09])
    assert [effect.verdict for effect in judged] == ["helps", "inconclusive", "inconclusive", "inconclusive"]
    assert judge([], DELTA, ALPHA) == ()


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=8), st.randoms())
def test_the_order_of_a_family_does_not_matter(p_values: list[float], random: Any) -> None:
    family = [replace(stated(**HELPS), p=p, cell=str(number)) for number, p in enumerate(p_values)]
    shuffled = random.sample(family, len(family))
    one, other = ({e.cell: (e.p_holm, e.verdict) for e in judge(of, DELTA, ALPHA)} for of in (family, shuffled))
    assert one == other


def test_delta_may_be_given_by_task() -> None:
    family = [replace(stated(**HELPS), p=0.001, task=task) for task in ("digits", "wine")]
    assert [e.verdict for e in judge(family, {"digits": 0.005, "wine": 0.02}, ALPHA)] == ["helps", "inconclusive"]


def test_interaction_is_the_difference_of_differences() -> None:
    sgd, swa = {1: 0.70, 2: 0.72, 3: 0.71}, {1: 0.80, 2: 0.81, 3: 0.80, 4: 0.9}
    sam, wasam = {1: 0.85, 2: 0.84, 3: 0.86}, {1: 0.90, 2: 0.88, 3: 0.91}
    found = interaction("cell", {"SGD": sgd, "SWA": swa, "SAM": sam, "WASAM": wasam})
    per_unit = [(wasam[s] - sam[s]) - (swa[s] - sgd[s]) for s in (1, 2, 3)]
    reference = stats.ttest_1samp(per_unit, 0)
    assert found.n == 3
    assert (found.mean, found.p) == pytest.approx((sum(per_unit) / 3, reference.pvalue))
    assert found.ci95 == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert dict(found.means) == pytest.approx({"SGD": 0.71, "SWA": 2.41 / 3, "SAM": 0.85, "WASAM": 2.69 / 3})


def test_interaction_without_runs() -> None:
    found = interaction("cell", {"SGD": {}, "SWA": {}, "SAM": {}, "WASAM": {1: 0.9}})
    assert found.n == 0
    assert all(math.isnan(value) for _, value in found.means)
    assert math.isnan(found.mean)
