"""Moderators and designs, against statsmodels, NumPy and a rule that was planted."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from statsmodels.api import OLS, add_constant
from synthetic import planned_runs, synthetic_study

from study.findings import Findings, find
from study.stats import columns, isolated, measured_moderator, moderator_rule, moderators, random_effects, robust_slopes

FIVE_TASKS = ("digits", "mnist1d", "mnist", "fashion", "svhn")
CELLS: list[dict[str, Any]] = [
    {"task": task, "label_noise": noise, "schedule": schedule}
    for task in ("digits", "mnist1d")
    for noise in (0.0, 0.15, 0.3)
    for schedule in ("cosine", "constant")
]


def test_columns_are_numbers_or_levels() -> None:
    task, noise, schedule = columns(CELLS)
    assert (task.factor, task.level) == ("task", "mnist1d")
    assert task.values == (0.0,) * 6 + (1.0,) * 6
    assert (noise.level, noise.values[:4]) == ("", (0.0, 0.0, 0.15, 0.15))
    assert (schedule.level, schedule.values[:2]) == ("constant", (0.0, 1.0))
    assert columns([{"norm": "batch", "width": 1}, {"norm": "group", "width": 1}, {"norm": "none", "width": 1}]) == [
        *columns([{"norm": "batch"}, {"norm": "group"}, {"norm": "none"}])
    ]
    assert columns([]) == columns(CELLS[:1]) == []


def test_a_factor_that_some_cells_lack_is_looked_at_in_the_others() -> None:
    bare: list[dict[str, Any]] = [{"task": "diabetes", "schedule": schedule} for schedule in ("cosine", "constant")]
    gains = np.random.default_rng(0).normal(size=len(CELLS)).tolist()
    for mixed, of in (([*CELLS, *bare], [*gains, 0.1, 0.2]), ([*bare, *CELLS], [0.1, 0.2, *gains])):
        assert {column.factor for column in columns(mixed)} == {"task", "schedule"}
        found = {(m.factor, m.level): m for m in moderators("SAM", "G", mixed, of)}
        alone = {(m.factor, m.level): m for m in moderators("SAM", "G", CELLS, gains)}
        assert found["label_noise", ""] == alone["label_noise", ""]
        assert found["label_noise", ""].cells == len(CELLS)
        assert found["schedule", "constant"].cells == len(mixed)


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


def test_moderators_are_fitted_together() -> None:
    rng = np.random.default_rng(0)
    gains = [
        0.1 * cell["label_noise"] + 0.02 * (cell["schedule"] == "constant") + 0.001 * rng.normal() for cell in CELLS
    ]
    task, noise, schedule = moderators("SAM", "G", CELLS, gains)
    assert noise.slope == pytest.approx(0.1, abs=0.01)
    assert schedule.slope == pytest.approx(0.02, abs=0.002)
    assert (noise.p < 0.01, task.p > 0.05) == (True, True)
    assert noise.adjusted_for == ("task", "schedule")
    assert (noise.cells, noise.kind, schedule.level) == (12, "factor", "constant")


def test_with_few_cells_each_factor_stands_alone() -> None:
    few = [cell for cell in CELLS if cell["task"] == "digits" and cell["label_noise"] != 0.15]
    found = moderators("SAM", "G", few, [0.0, 0.01, 0.05, 0.07])
    assert [moderator.adjusted_for for moderator in found] == [(), ()]
    assert math.isfinite(found[0].p)
    two = moderators("SAM", "G", few[:2], [0.0, 0.01])
    assert [math.isnan(moderator.slope) for moderator in two] == [True]
    assert moderators("SAM", "G", CELLS[:1], [0.01]) == []


def test_measured_moderator_is_a_slope_alone() -> None:
    x, y = [0.9, 0.8, 0.7, 0.6, 0.65], [0.01, 0.02, 0.05, 0.04, 0.05]
    found = measured_moderator("SAM", "G", "baseline score", x, y)
    reference = OLS(np.array(y), add_constant(np.array(x))).fit(cov_type="HC3", use_t=True)
    assert_allclose([found.slope, found.p], [reference.params[1], reference.pvalues[1]])
    assert (found.kind, found.cells) == ("measured", 5)


def test_a_planted_rule_is_found_and_noise_is_none() -> None:
    rng = np.random.default_rng(1)
    gains = [0.05 * (cell["label_noise"] > 0.1) * (cell["schedule"] == "constant") for cell in CELLS]
    found = moderator_rule("SAM", "G", CELLS, [gain + 0.001 * rng.normal() for gain in gains])
    assert found.reliable
    assert found.r2 > 0.9
    best = max(found.leaves, key=lambda leaf: leaf.gain)
    assert set(best.conditions) == {"label_noise > 0.075", "schedule is constant"}
    assert best.gain == pytest.approx(0.05, abs=0.002)
    assert (best.cells, sum(leaf.cells for leaf in found.leaves)) == (4, 12)
    nothing = moderator_rule("SAM", "G", CELLS, rng.normal(size=12).tolist())
    assert (nothing.reliable, nothing.leaves) == (False, ())
    assert nothing.r2 <= 0


def test_rules_need_six_cells_and_something_that_varies() -> None:
    assert math.isnan(moderator_rule("SAM", "G", CELLS[:5], [0.0] * 5).r2)
    assert math.isnan(moderator_rule("SAM", "G", [{"task": "digits"}] * 6, [0.0] * 6).r2)
    assert not moderator_rule("SAM", "G", CELLS, [0.01] * 12).reliable


def test_two_cuts_of_one_factor_are_one_condition() -> None:
    cells = [{"width": width} for width in (1, 2, 3, 4, 5, 6, 7, 8)]
    found = moderator_rule("SAM", "G", cells, [0, 0, 1, 1, 9, 9, 30, 30])
    assert [leaf.conditions for leaf in found.leaves] == [
        ("width ≤ 4.5",),
        ("width ≤ 6.5", "width > 4.5"),
        ("width > 6.5",),
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
    assert math.isnan(synthesis.p_positive)  # the signed ranks need eight tasks
    assert math.isfinite(synthesis.prediction95[0])
    entries = [(m.factor, m.level) for m in found.moderators if (m.method, m.budget) == ("SAM", "G")]
    assert entries == [
        *(("task", task) for task in FIVE_TASKS[1:]),
        ("label_noise", ""), ("schedule", "constant"), ("baseline score", ""),
        ("log of baseline top_eigenvalue", ""),
    ]  # fmt: skip
    assert [rule.method for rule in found.rules] == ["SWA", "SAM", "WASAM"]


def test_gain_and_baseline_are_read_on_other_seeds(found: Findings) -> None:
    sam = [effect for effect in found.effects if (effect.method, effect.budget) == ("SAM", "G")]
    x = [np.mean(effect.baseline_values[::2]) for effect in sam]
    y = [np.mean(effect.differences[1::2]) for effect in sam]
    (entry,) = (m for m in found.moderators if (m.method, m.budget, m.factor) == ("SAM", "G", "baseline score"))
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
