"""Moderators and designs, against statsmodels, NumPy and a rule that was planted."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import t, ttest_1samp
from statsmodels.api import OLS, add_constant
from synthetic import planned_runs, synthetic_study

from study.findings import Findings, find
from study.stats import moderator_rule, random_effects, robust_slopes
from study.stats.clustered import slope_between, slopes_within
from study.stats.designs import UNKNOWN_SLOPE, columns, isolated
from study.stats.moderators import moderators

FIVE_TASKS = ("digits", "mnist1d", "mnist", "fashion", "svhn")
CELLS: list[dict[str, Any]] = [
    {"label_noise": noise, "schedule": schedule}
    for _ in FIVE_TASKS
    for noise in (0.0, 0.15, 0.3)
    for schedule in ("cosine", "constant")
]
OF = [task for task in FIVE_TASKS for _ in range(6)]


def test_columns_are_numbers_or_levels() -> None:
    noise, schedule = columns(CELLS)
    assert (noise.factor, noise.level, noise.values[:4]) == ("label_noise", "", (0.0, 0.0, 0.15, 0.15))
    assert (schedule.level, schedule.values[:2]) == ("constant", (0.0, 1.0))
    assert columns([{"norm": "batch", "width": 1}, {"norm": "group", "width": 1}, {"norm": "none", "width": 1}]) == [
        *columns([{"norm": "batch"}, {"norm": "group"}, {"norm": "none"}])
    ]
    assert columns([]) == columns(CELLS[:1]) == []


def test_a_factor_that_some_cells_lack_is_looked_at_in_the_others() -> None:
    bare: list[dict[str, Any]] = [{"schedule": schedule} for schedule in ("cosine", "constant")]
    gains, two = np.random.default_rng(0).normal(size=len(CELLS)).tolist(), ["diabetes"] * 2
    alone = {m.factor: m for m in moderators("SAM", "G", CELLS, gains, OF)}
    for mixed, of, tasks in (
        ([*CELLS, *bare], [*gains, 0.1, 0.2], [*OF, *two]),
        ([*bare, *CELLS], [0.1, 0.2, *gains], [*two, *OF]),
    ):
        found = {m.factor: m for m in moderators("SAM", "G", mixed, of, tasks)}
        assert found["label_noise"] == alone["label_noise"]
        assert (found["label_noise"].cells, found["label_noise"].tasks) == (len(CELLS), 5)
        assert (found["schedule"].cells, found["schedule"].tasks) == (len(mixed), 6)
        assert found["schedule"].adjusted_for == ("task",)


@pytest.mark.slow
def test_a_study_of_tasks_with_different_factors_is_read() -> None:
    """Factors are looked at from five tasks on, since cells of one data set are not problems."""
    noise = {"label_noise": [0.0, 0.1, 0.2, 0.3]}
    problems = [{"task": "diabetes"}, *({"task": task, "factors": noise} for task in FIVE_TASKS)]
    claim = {"id": "noise", "claim": "?", "kind": "slope", "method": "SAM", "factor": "label_noise", "expected": "+"}
    alone, mixed, few = (
        find(spec, records, len(records))
        for some in (problems[1:], problems, problems[:5])
        for spec, records in [synthetic_study(problems=some, trials=4, hypotheses=[claim])]
    )
    of_noise = [m for m in mixed.moderators if (m.method, m.budget, m.factor) == ("SAM", "G", "label_noise")]
    assert [m.cells for m in of_noise] == [20]
    assert mixed.hypotheses[0].cells == alone.hypotheses[0].cells == 20
    assert few.hypotheses[0].cells == 16


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_isolated_gives_the_coefficient_of_the_joint_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [
        {"a": float(rng.integers(0, 4)), "b": float(rng.integers(0, 3)), "c": "xy"[rng.integers(0, 2)]}
        for _ in range(9)
    ]
    y = rng.normal(size=9)
    design = columns(cells)
    target = next((column for column in design if column.factor == "a"), None)
    if target is None:
        return
    left = isolated(target.values, [column for column in design if column.factor != "a"])
    matrix = np.column_stack([np.ones(9), *(column.values for column in design)])
    if np.linalg.matrix_rank(matrix) == matrix.shape[1]:
        assert left is not None
        slopes = np.linalg.lstsq(matrix, y)[0][1:]
        assert_allclose(left @ y / (left @ left), slopes[design.index(target)], atol=1e-9)


def test_nothing_is_left_of_a_confounded_or_constant_column() -> None:
    (other,) = columns([{"b": 1}, {"b": 2}, {"b": 3}])
    assert isolated([2.0, 4.0, 6.0], [other]) is None
    assert isolated([1.0, 1.0, 1.0], []) is None
    assert isolated([1.0, 2.0, 4.0], [other]) is not None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 20), st.integers(1, 3))
def test_robust_slopes_agree_with_statsmodels(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, k)), rng.normal(size=n)
    reference = OLS(y, add_constant(x)).fit(cov_type="HC3", use_t=True)
    found = robust_slopes(y.tolist(), x.T.tolist())
    assert_allclose([slope.slope for slope in found], reference.params[1:], rtol=1e-8)
    assert_allclose([slope.p for slope in found], reference.pvalues[1:], rtol=1e-6)
    assert_allclose([slope.ci95 for slope in found], reference.conf_int()[1:], rtol=1e-7, atol=1e-12)


def test_robust_slopes_know_what_they_cannot_know() -> None:
    unknown = [
        robust_slopes([1.0, 2.0], [[0.0, 1.0]]),  # no degree of freedom
        robust_slopes([1.0, 2.0, 4.0, 3.0], [[1.0] * 4]),  # constant
        robust_slopes([1.0, 2.0, 4.0, 3.0], [[0.0, 0.0, 0.0, 1.0]]),  # one cell alone decides
    ]
    assert all(math.isnan(found[0].slope) and math.isnan(found[0].p) for found in unknown)


def test_a_perfect_fit_is_certain() -> None:
    (found,) = robust_slopes([0.0, 1.0, 2.0, 3.0, 4.0], [[0.0, 1.0, 2.0, 3.0, 4.0]])
    assert found.slope == pytest.approx(1)
    assert found.p < 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 9))
def test_a_slope_within_equal_tasks_is_the_t_test_of_their_own_slopes(seed: int, tasks: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.tile(rng.normal(size=4), tasks), rng.normal(size=4 * tasks)
    of = np.repeat([f"task {k}" for k in range(tasks)], 4).tolist()
    own = [float(np.polyfit(x[k : k + 4], y[k : k + 4], 1)[0]) for k in range(0, 4 * tasks, 4)]
    reference = ttest_1samp(own, 0)
    (found,) = slopes_within(y.tolist(), [x.tolist()], of)
    assert found.slope == pytest.approx(np.mean(own))
    assert found.p == pytest.approx(reference.pvalue)
    assert found.ci95 == pytest.approx(tuple(reference.confidence_interval()))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_slope_within_tasks_is_the_coefficient_beside_one_mean_a_task(seed: int) -> None:
    """Tasks of other sizes and designs, against statsmodels and a jackknife that is spelt out."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(6), rng.integers(3, 7, 6))
    x, y = rng.normal(size=(len(of), 2)), rng.normal(size=len(of))

    def fit(kept: Any) -> Any:
        dummies = np.equal.outer(of[kept], np.unique(of[kept])).astype(float)
        return OLS(y[kept], np.column_stack([x[kept], dummies])).fit().params[:2]

    whole = fit(of >= 0)
    error = np.sqrt(5 / 6 * sum((fit(of != task) - whole) ** 2 for task in range(6)))
    found = slopes_within(y.tolist(), x.T.tolist(), of.astype(str).tolist())
    assert_allclose([slope.slope for slope in found], whole, rtol=1e-7, atol=1e-10)
    assert_allclose([(s.ci95[1] - s.ci95[0]) / 2 for s in found], t.isf(0.025, 5) * error, rtol=1e-7)


def test_slopes_within_tasks_know_what_they_cannot_know() -> None:
    y, of = np.random.default_rng(0).normal(size=20).tolist(), np.repeat(list("abcde"), 4).tolist()
    rising = [0.0, 1.0, 2.0, 3.0]
    unknown = [
        slopes_within(y[:16], [rising * 4], of[:16]),  # four tasks
        slopes_within(y, [[*rising * 4, *[1.0] * 4]], of),  # it varies in four
        slopes_within(y, [np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 4).tolist()], of),  # in none
        slopes_within(y, [rising * 5, [2 * value for value in rising] * 5], of),  # confounded
    ]
    assert all(math.isnan(slope.slope) and math.isnan(slope.p) for found in unknown for slope in found)
    assert slope_between(y[:16], y[:16], of[:16]) == UNKNOWN_SLOPE


def test_moderators_are_fitted_together() -> None:
    rng = np.random.default_rng(0)
    gains = [
        0.1 * cell["label_noise"] + 0.02 * (cell["schedule"] == "constant") + 0.001 * rng.normal() for cell in CELLS
    ]
    noise, schedule = moderators("SAM", "G", CELLS, gains, OF)
    assert noise.slope == pytest.approx(0.1, abs=0.01)
    assert schedule.slope == pytest.approx(0.02, abs=0.002)
    assert noise.p < 0.01
    assert noise.adjusted_for == ("task", "schedule")
    assert (noise.cells, noise.tasks, noise.kind, noise.within, schedule.level) == (30, 5, "factor", True, "constant")


def test_a_factor_of_whole_tasks_is_read_over_their_means() -> None:
    y = np.random.default_rng(0).normal(size=len(CELLS)).tolist()
    size = dict(zip(FIVE_TASKS, (100, 200, 400, 800, 1600), strict=True))
    cells = [{**cell, "train_size": size[task]} for cell, task in zip(CELLS, OF, strict=True)]
    found = {m.factor: m for m in moderators("SAM", "G", cells, y, OF)}
    means = [float(np.mean(y[k : k + 6])) for k in range(0, 30, 6)]
    (reference,) = robust_slopes(means, [[float(value) for value in size.values()]])
    assert not found["train_size"].within
    assert (found["train_size"].slope, found["train_size"].p) == pytest.approx((reference.slope, reference.p))
    alone = {m.factor: m for m in moderators("SAM", "G", CELLS, y, OF)}
    assert found["label_noise"] == alone["label_noise"]


def test_a_factor_that_too_few_tasks_vary_has_no_slope() -> None:
    cells = [dict(cell, width=(index % 2 if index < 24 else 1)) for index, cell in enumerate(CELLS)]
    y = np.random.default_rng(0).normal(size=len(CELLS)).tolist()
    found = {m.factor: m for m in moderators("SAM", "G", cells, y, OF)}
    assert math.isnan(found["width"].slope)
    assert math.isfinite(found["label_noise"].slope)
    assert moderators("SAM", "G", [], [], []) == moderators("SAM", "G", CELLS[:1], [0.01], OF[:1]) == []


def test_over_means_of_tasks_a_slope_is_the_robust_one() -> None:
    x, y = [0.9, 0.8, 0.7, 0.6, 0.65], [0.01, 0.02, 0.05, 0.04, 0.05]
    found = slope_between(y, x, FIVE_TASKS)
    reference = OLS(np.array(y), add_constant(np.array(x))).fit(cov_type="HC3", use_t=True)
    assert_allclose([found.slope, found.p], [reference.params[1], reference.pvalues[1]])
    twice = slope_between([*y, *y], [*x, *x], FIVE_TASKS * 2)
    assert (twice.slope, twice.p) == pytest.approx((found.slope, found.p))


def test_a_planted_rule_is_found_and_noise_is_none() -> None:
    rng = np.random.default_rng(1)
    gains = [0.05 * (cell["label_noise"] > 0.1) * (cell["schedule"] == "constant") for cell in CELLS]
    found = moderator_rule("SAM", "G", CELLS, [gain + 0.001 * rng.normal() for gain in gains], OF)
    assert found.reliable
    assert found.r2 > 0.9
    best = max(found.leaves, key=lambda leaf: leaf.gain)
    assert set(best.conditions) == {"label_noise > 0.075", "schedule is constant"}
    assert best.gain == pytest.approx(0.05, abs=0.002)
    assert (best.cells, sum(leaf.cells for leaf in found.leaves)) == (10, 30)
    nothing = moderator_rule("SAM", "G", CELLS, rng.normal(size=30).tolist(), OF)
    assert (nothing.reliable, nothing.leaves) == (False, ())


def test_a_rule_that_holds_in_one_task_alone_is_none() -> None:
    gains = [0.05 * (task == "digits") * (cell["label_noise"] > 0.1) for cell, task in zip(CELLS, OF, strict=True)]
    assert not moderator_rule("SAM", "G", CELLS, gains, OF).reliable


def test_rules_need_five_tasks_and_something_that_varies() -> None:
    assert math.isnan(moderator_rule("SAM", "G", CELLS[:24], [0.0] * 24, OF[:24]).r2)
    assert math.isnan(moderator_rule("SAM", "G", [{"norm": "none"}] * 30, [0.0] * 30, OF).r2)
    assert not moderator_rule("SAM", "G", CELLS, [0.01] * 30, OF).reliable


def test_two_cuts_of_one_factor_are_one_condition() -> None:
    cells = [{"width": width} for _ in FIVE_TASKS for width in (1, 2, 3, 4, 5, 6, 7, 8)]
    tasks = [task for task in FIVE_TASKS for _ in range(8)]
    jitter = 0.01 * np.random.default_rng(0).normal(size=40)  # of equal tasks nothing is left to test with
    found = moderator_rule("SAM", "G", cells, [*(jitter + [0, 0, 1, 1, 9, 9, 30, 30] * 5)], tasks)
    assert [leaf.conditions for leaf in found.leaves] == [
        ("width ≤ 4.5",),
        ("width ≤ 6.5", "width > 4.5"),
        ("width > 6.5", "width ≤ 7.5"),
        ("width > 7.5",),
    ]


@pytest.fixture(scope="module")
def found() -> Findings:
    study = synthetic_study(tasks=FIVE_TASKS, trials=2)
    return find(*study, planned_runs(*study))


def test_findings_look_across_cells(found: Findings) -> None:
    assert [(s.method, s.budget, s.tasks) for s in found.syntheses] == [
        (method, budget, 5) for method in ("SWA", "SAM", "WASAM") for budget in ("E", "G")
    ]
    sam = [effect for effect in found.effects if (effect.method, effect.budget) == ("SAM", "G")]
    (synthesis,) = (s for s in found.syntheses if (s.method, s.budget) == ("SAM", "G"))
    assert min(e.mean for e in sam) < synthesis.mean < max(e.mean for e in sam)
    assert math.isfinite(synthesis.prediction95[0])
    entries = [(m.factor, m.level) for m in found.moderators if (m.method, m.budget) == ("SAM", "G")]
    assert entries == [
        ("label_noise", ""), ("schedule", "constant"), ("baseline score", ""),
    ]  # fmt: skip
    assert [rule.method for rule in found.rules] == ["SWA", "SAM", "WASAM"]


def test_gain_and_baseline_are_read_on_other_seeds(found: Findings) -> None:
    sam = [effect for effect in found.effects if (effect.method, effect.budget) == ("SAM", "G")]
    x, y = (
        [np.mean([np.mean(of(effect)) for effect in sam if effect.task == task]) for task in FIVE_TASKS]
        for of in (lambda effect: effect.baseline_values[::2], lambda effect: effect.differences[1::2])
    )
    (entry,) = (m for m in found.moderators if (m.method, m.budget, m.factor) == ("SAM", "G", "baseline score"))
    assert (entry.kind, entry.cells, entry.tasks, entry.within) == ("measured", len(sam), 5, False)
    assert entry.slope == pytest.approx(np.polyfit(x, y, 1)[0])


def test_a_task_counts_once_however_many_cells_it_has(found: Findings) -> None:
    """The synthesis is over the means of tasks, with the error of a mean of cells that do not share their noise."""
    sam = [effect for effect in found.effects if (effect.method, effect.budget) == ("SAM", "G")]
    by_task = [[effect for effect in sam if effect.task == task] for task in FIVE_TASKS]
    gains = [float(np.mean([effect.mean for effect in of])) for of in by_task]
    variances = [sum(effect.sd**2 / effect.n for effect in of) / len(of) ** 2 for of in by_task]
    (synthesis,) = (s for s in found.syntheses if (s.method, s.budget) == ("SAM", "G"))
    pooled = random_effects(gains, variances)
    assert (synthesis.mean, synthesis.ci95, synthesis.prediction95) == pytest.approx(
        (pooled.mean, pytest.approx(pooled.ci95), pytest.approx(pooled.prediction95))
    )


def test_below_five_tasks_there_is_neither_moderator_nor_rule_nor_prediction() -> None:
    study = synthetic_study(tasks=FIVE_TASKS[:4], trials=2)
    four = find(*study, planned_runs(*study))
    assert (four.moderators, four.rules) == ((), ())
    assert all(math.isnan(end) for synthesis in four.syntheses for end in synthesis.prediction95)
    assert all(math.isfinite(end) for synthesis in four.syntheses for end in synthesis.ci95)


def test_small_studies_have_no_moderators() -> None:
    study = synthetic_study(tasks=("digits",), factors={}, trials=2)
    alone = find(*study, planned_runs(*study))
    assert [m for m in alone.moderators if m.kind == "factor"] == []
    assert all(math.isnan(m.slope) for m in alone.moderators)
    assert {synthesis.tasks for synthesis in alone.syntheses} == {1}
    empty = find(study[0], [], 10)
    assert (empty.syntheses, empty.moderators, empty.rules, empty.hypotheses) == ((), (), (), ())
