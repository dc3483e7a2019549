"""Tuning: closed forms, brute force, opda and Optuna as oracles; then the same out of the records of a study."""

import itertools
import math
import statistics

import numpy as np
import opda.nonparametric
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from synthetic import failed_run, planned_runs, synthetic_study

from study.findings import Findings, find
from study.records import RunRecord
from study.specs.methods import METHODS
from study.specs.spec import StudySpec
from study.stats.tuning import (
    EVALUATOR,
    best_band,
    curve_points,
    expected_best,
    importance,
    median_best,
)

accuracies = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=1, max_size=9)


@given(accuracies)
def test_expected_best_is_the_mean_over_all_choices(values: list[float]) -> None:
    points = range(1, len(values) + 1)
    brute = [statistics.fmean(max(some) for some in itertools.combinations(values, k)) for k in points]
    assert_allclose(expected_best(values, list(points)), brute, atol=1e-12)


@given(accuracies)
def test_expected_best_runs_from_the_mean_to_the_best(values: list[float]) -> None:
    found = expected_best(values, range(1, len(values) + 1))
    assert found[0] == pytest.approx(statistics.fmean(values))
    assert found[-1] == pytest.approx(max(values))
    assert (np.diff(found) >= -1e-12).all()


@given(accuracies)
def test_median_best_is_the_lower_median_over_all_choices(values: list[float]) -> None:
    points = range(1, len(values) + 1)
    brute = [statistics.median_low([max(some) for some in itertools.combinations(values, k)]) for k in points]
    assert median_best(values, list(points)).tolist() == brute


def test_median_best_does_not_follow_a_trial_that_is_far_out() -> None:
    values = [*np.random.default_rng(0).normal(size=60).tolist(), -1e6, 1e6]
    assert np.abs(median_best(values, range(1, 20))).max() < 4
    low, high = best_band(values, [1, 5], median=True)
    assert (low <= median_best(values, [1, 5])).all()
    assert (high >= median_best(values, [1, 5])).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_the_band_of_the_median_is_that_of_opda(seed: int, n: int) -> None:
    values, points = np.random.default_rng(seed).normal(size=n), list(range(1, n + 1))
    ends = values.min(), values.max()
    low_cdf, _, high_cdf = opda.nonparametric.EmpiricalDistribution.confidence_bands(values, 0.95, *ends, method="ks")
    low, high = best_band(values.tolist(), points, median=True)
    assert_allclose(low, high_cdf.quantile_tuning_curve(points), atol=1e-9)
    assert_allclose(high, low_cdf.quantile_tuning_curve(points), atol=1e-9)


def test_expected_best_is_unbiased() -> None:
    """The expected best of k uniform draws is k / (k + 1)."""
    rng = np.random.default_rng(0)
    found = np.mean([expected_best(rng.random(12), [1, 4, 10]) for _ in range(4000)], axis=0)
    assert_allclose(found, [1 / 2, 4 / 5, 10 / 11], atol=0.005)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_the_band_is_that_of_opda(seed: int, n: int) -> None:
    values, points = np.random.default_rng(seed).random(n), list(range(1, n + 1))
    low_cdf, _, high_cdf = opda.nonparametric.EmpiricalDistribution.confidence_bands(values, 0.95, 0, 1, method="ks")
    low, high = best_band(values.tolist(), points)
    assert_allclose(low, high_cdf.average_tuning_curve(points), atol=1e-4)
    assert_allclose(high, low_cdf.average_tuning_curve(points), atol=1e-4)


def test_the_band_holds_for_all_k_at_once() -> None:
    rng, points = np.random.default_rng(1), np.arange(1, 13)
    bands = [best_band(rng.random(12).tolist(), points.tolist()) for _ in range(500)]
    truth = points / (points + 1)
    held = sum(bool(((low <= truth) & (truth <= high)).all()) for low, high in bands)
    assert held >= 0.95 * 500 - 3 * math.sqrt(500 * 0.05 * 0.95)


@given(accuracies)
def test_the_band_stays_within_accuracies(values: list[float]) -> None:
    low, high = best_band(values, range(1, len(values) + 1))
    assert (low >= -1e-12).all()
    assert (low <= high + 1e-12).all()
    assert (high <= 1 + 1e-12).all()


def test_the_band_reaches_as_far_as_scores_that_leave_the_unit_interval() -> None:
    values, points = [-0.4, 0.1, 0.6, 0.7, 0.8], [1, 2, 5]
    low_cdf, _, high_cdf = opda.nonparametric.EmpiricalDistribution.confidence_bands(values, 0.95, -0.4, 1, method="ks")
    low, high = best_band(values, points)
    assert_allclose(low, high_cdf.average_tuning_curve(points), atol=1e-4)
    assert_allclose(high, low_cdf.average_tuning_curve(points), atol=1e-4)


@pytest.mark.parametrize("values", [[-14.2, -15.0, -30.0], [-0.4, -0.2, -0.3], [80.0, 90.0, 95.0]])
def test_the_band_of_an_error_ends_at_what_was_seen(values: list[float]) -> None:
    low, high = best_band(values, [1, 2, 3])
    assert (low >= min(values) - 1e-9).all()
    assert (high <= max(values) + 1e-9).all()


def test_long_curves_are_thinned() -> None:
    assert curve_points(3) == [1, 2, 3]
    assert curve_points(100) == list(range(1, 101))
    points = curve_points(10_000)
    assert (points[0], points[-1]) == (1, 10_000)
    assert len(points) <= 100
    assert np.isfinite(expected_best(np.random.default_rng(0).random(10_000).tolist(), points)).all()


def design(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 3))


def test_shares_of_a_sum_are_those_of_its_variance() -> None:
    """Of a·x + b·y + c·z with independent uniform inputs the shares are a², b² and c² over their sum."""
    x = design(400)
    values = 0.5 + x @ np.array([0.3, 0.1, 0.0])
    found = importance("SAM", ["a", "b", "c"], [tuple(row) for row in x.tolist()], values.tolist(), ["cell"] * 400)
    assert dict(found.shares) == pytest.approx({"a": 0.9, "b": 0.1, "c": 0.0}, abs=0.03)
    assert found.r2 > 0.97
    assert (found.settings, found.cells, found.evaluator) == (400, 1, EVALUATOR)


def test_the_ranking_is_that_of_fanova_in_log10() -> None:
    rng = np.random.default_rng(2)
    rates, radii = 10 ** rng.uniform(-2, 0, 60), 10 ** rng.uniform(-2, 0, 60)
    values = 0.9 - 0.1 * np.log10(rates / 0.1) ** 2 - 0.03 * np.log10(radii / 0.1) ** 2
    logs = np.log10([rates, radii]).T
    found = importance("SAM", ["rate", "rho"], [tuple(row) for row in logs.tolist()], values.tolist(), ["cell"] * 60)
    ranges = {name: optuna.distributions.FloatDistribution(-2, 0) for name in ("rate", "rho")}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(params={"rate": a, "rho": b}, distributions=ranges, value=v)
            for (a, b), v in zip(logs.tolist(), values.tolist(), strict=True)
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    reference = optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert dict(found.shares)["rate"] > 0.75
    assert dict(found.shares)["rate"] == pytest.approx(reference["rate"], abs=0.15)


def test_a_cliff_of_diverged_trials_and_cells_of_other_levels_do_not_bend_it() -> None:
    x = design(40)
    values = 0.8 + 0.1 * x[:, 0]
    values[x[:, 1] > 0.9] = 0.1
    rows = [tuple(row) for row in x.tolist()]
    found = importance("SAM", ["a", "b", "c"], rows * 2, [*values, *(values / 2)], ["one"] * 40 + ["two"] * 40)
    assert (found.settings, found.cells) == (40, 2)
    assert found.r2 > 0.5
    assert min(found.shares, key=lambda pair: pair[1])[0] == "c"


@pytest.mark.parametrize("n", [0, 1, 15, 40])
def test_nothing_is_said_without_a_reason(n: int) -> None:
    rows = [tuple(row) for row in design(n).tolist()]
    noise = np.random.default_rng(5).random(n).tolist()
    found = importance("SAM", ["a", "b", "c"], rows, noise, ["cell"] * n)
    assert all(math.isnan(share) for _, share in found.shares)
    equal = importance("SAM", ["a", "b", "c"], rows, [0.5] * n, ["cell"] * n)
    assert math.isnan(equal.r2)


@pytest.fixture(scope="module")
def study() -> tuple[StudySpec, list[RunRecord]]:
    return synthetic_study(tasks=("digits",), trials=24, noise=0.0005)


@pytest.fixture(scope="module")
def found(study: tuple[StudySpec, list[RunRecord]]) -> Findings:
    return find(*study, planned_runs(*study))


def tuned_values(records: list[RunRecord], cell: str, role: str, factor: float) -> list[list[float]]:
    """Return what a role reads as the validation accuracy of every trial, replicate by replicate, by position."""
    method = role.partition(" ")[0]
    reads = [role.partition(" ")[2]] if method == "SGD" else ["last", "best", METHODS[method].weights]
    runs = [r for r in records if (r.job.stage, r.job.cell, r.job.epochs_factor) == ("tune", cell, factor)]
    runs = sorted((r for r in runs if r.job.family == METHODS[method].family), key=lambda r: r.job.trial or 0)
    return [
        [
            max(m.val_score or 0 for m in r.measurements
                if m.epoch == r.job.epochs and m.weights.partition("@")[0] in reads)
            for r in runs if r.job.replicate == number
        ]
        for number in range(1, 7)
    ]  # fmt: skip


def test_curves_are_those_of_the_tune_stage(study: tuple[StudySpec, list[RunRecord]], found: Findings) -> None:
    """One curve a role, cell and length, over the trials of all replicates, each with its own best."""
    roles = [(role, factor) for role in ("SGD last", "SGD best", "SWA") for factor in (1.0, 2.0)]
    roles += [("SAM", 1.0), ("WASAM", 1.0)]
    cells = {r.job.cell for r in study[1]}
    assert sorted((c.cell, c.method, c.epochs_factor) for c in found.tuning_curves) == sorted(
        (cell, *role) for cell in cells for role in roles
    )
    for curve in found.tuning_curves:
        by_replicate = tuned_values(study[1], curve.cell, curve.method, curve.epochs_factor)
        values = [value for found_values in by_replicate for value in found_values]
        trials = 24 if curve.epochs_factor == 1 else 12  # half of them once more at twice the price
        assert {len(of) for of in by_replicate} == {trials}
        assert curve.trials == tuple(range(1, trials + 1))
        assert curve.expected[0] == pytest.approx(statistics.fmean(values))
        assert statistics.fmean(values) < curve.expected[-1] < max(values)
        assert curve.sampler == "qmc"
    costs = {(c.method, c.epochs_factor): c.gradient_evaluations[11] for c in found.tuning_curves}
    assert costs["SGD last", 2] == 2 * costs["SGD last", 1] == 2 * costs["SWA", 1] == costs["SWA", 2]
    assert costs["SGD last", 1] < costs["SAM", 1] <= 2 * costs["SGD last", 1]


def test_a_selection_holds_the_best_validation_score_of_all_lengths_that_it_may_use(
    study: tuple[StudySpec, list[RunRecord]], found: Findings
) -> None:
    for chosen in found.selections:
        role = f"{chosen.method} {chosen.reads[0]}" if chosen.method == "SGD" else chosen.method
        values = [
            value
            for length in chosen.lengths
            for value in tuned_values(study[1], chosen.cell, role, length)[chosen.replicate - 1]
        ]
        assert chosen.val_score == max(values)
        assert chosen.trials == len(values)


def test_failed_trials_are_no_trials(study: tuple[StudySpec, list[RunRecord]]) -> None:
    spoiled = [failed_run(r) if r.job.search == "sam" and r.job.trial == 3 else r for r in study[1]]
    curves = find(study[0], spoiled, len(spoiled)).tuning_curves
    assert {len(curve.trials) for curve in curves if curve.method == "SAM"} == {23}


def test_importance_names_its_evaluator_and_knows_its_limits(found: Findings) -> None:
    shares = {entry.method: dict(entry.shares) for entry in found.importances}
    assert {method: tuple(names) for method, names in shares.items()} == {
        "SGD": ("learning_rate",),
        "SWA": ("learning_rate", "average_start"),
        "SAM": ("learning_rate", "rho"),
        "WASAM": ("learning_rate", "rho", "average_start"),
    }
    assert {entry.evaluator for entry in found.importances} == {EVALUATOR}
    assert shares["SAM"]["rho"] > 0.2
    small = synthetic_study(tasks=("digits",), trials=2, replicates=6)  # 12 settings a cell
    assert all(math.isnan(entry.r2) for entry in find(*small, planned_runs(*small)).importances)


def test_a_search_that_is_not_over_says_nothing() -> None:
    unfinished = synthetic_study(tasks=("digits",), factors={}, trials=4, runs=3)
    empty = find(*unfinished, planned_runs(*unfinished))
    assert (empty.tuning_curves, empty.importances) == ((), ())
