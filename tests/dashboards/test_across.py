"""Across problems: the forest's summary rows, the slopes, the rule in words, and the loss beside the accuracy."""

import math
from dataclasses import replace

import pytest

from dashboards.figures.training import curves
from dashboards.figures.when import forest, pooled
from dashboards.score import Score
from dashboards.tables import losses, moderators
from study.stats import ModeratorRule
from study.stats.typical import Typical

ACCURACY = Score("accuracy", share=True)


def test_every_method_and_budget_of_five_tasks_has_its_summary_row(study, wide) -> None:
    assert forest.forest_of(study.findings, study.cells).pooled == ()
    data = forest.forest_of(wide.findings, wide.cells)
    assert {one.synthesis.method for one in data.pooled} == {"SAM"}
    synthesis = next(s for s in wide.findings.syntheses if (s.method, s.budget) == ("SAM", "G"))
    assert synthesis in [one.synthesis for one in data.pooled if "G" in one.budgets]
    rows = forest.table_of(data, ACCURACY).rows
    assert len(rows) == len(data.marks) + len(data.pooled)
    assert rows[-1][0].text == "all tasks"


def test_a_summary_without_an_interval_is_left_out(wide) -> None:
    nothing = (math.nan, math.nan)
    unknown = tuple(replace(s, ci95=nothing, prediction95=nothing) for s in wide.findings.syntheses)
    data = forest.forest_of(replace(wide.findings, syntheses=unknown), wide.cells)
    assert data.pooled == ()
    assert pooled.caption_of(()) == ""


def test_a_wide_prediction_does_not_flatten_the_forest(wide) -> None:
    data = forest.forest_of(wide.findings, wide.cells)
    far = [replace(one, synthesis=replace(one.synthesis, prediction95=(-9.0, 9.0))) for one in data.pooled]
    assert pooled.widened(far, -0.02, 0.02) == (-0.04, 0.04)
    figure = forest.figure_of(replace(data, pooled=tuple(far)), ACCURACY)
    arrows = [trace for trace in figure.data if trace.get("name") == "the interval goes on"]
    assert {symbol for trace in arrows for symbol in trace["marker"]["symbol"]} == {"triangle-left", "triangle-right"}
    assert figure.layout["yaxis"]["ticktext"][0] == "all tasks"


@pytest.fixture(scope="module")
def wide(make):
    """Cells of one data set are no sample of problems: moderators and predictions start at five tasks."""
    tasks = ["digits", "mnist1d", "breast_cancer", "wine", "communities"]
    factors = {"label_noise": [0.0, 0.3], "schedule": ["cosine", "constant"]}
    return make(tasks=tasks, factors=factors, trials=2, replicates=5, methods=["SGD", "SAM"])


def test_slopes_and_predictions_wait_for_five_tasks(study, wide) -> None:
    assert moderators.slopes_of(study.findings) == ()
    assert not any(math.isfinite(s.prediction95[0]) for s in study.findings.syntheses)
    assert all(math.isfinite(s.prediction95[0]) for s in wide.findings.syntheses)
    assert {s.tasks for s in wide.findings.syntheses} == {5}


def test_slopes_span_the_values_of_the_problems(wide) -> None:
    study = wide
    found = {(s.moderator.method, s.words): s for s in moderators.slopes_of(study.findings)}
    assert found["SAM", "label noise"].span == 0.3
    assert found["SAM", "schedule: constant"].span == 1
    assert found["SAM", "label noise"].across == pytest.approx(0.3 * found["SAM", "label noise"].moderator.slope)
    table = moderators.slope_table(study.findings)
    at = {column.csv: i for i, column in enumerate(table.columns)}
    assert len(table.rows) == len(found)
    for row, slope in zip(table.rows, moderators.slopes_of(study.findings), strict=True):
        where = "between" if slope.moderator.kind == "measured" else "within"
        assert row[at["tasks"]].text == f"{where} 5 tasks, 20 cells"
    assert "SAM with label noise (up)" in moderators.slope_heading(study.findings)


@pytest.mark.parametrize(
    ("r2", "p", "reason"),
    [(math.nan, math.nan, "2 tasks with 4 cells; 5 tasks and"), (0.2, 0.25, "better than their mean; p .250")],
)
def test_an_unreliable_rule_says_so(study, r2: float, p: float, reason: str) -> None:
    rule = ModeratorRule("SAM", "E", 4, 2, r2, p, ())
    (sentence,) = moderators.rule_sentences(replace(study.findings, rules=(rule,)))
    assert sentence.startswith("SAM: no reliable rule found")
    assert reason in sentence


def test_losses_stand_beside_accuracies(study) -> None:
    table = losses.loss_table(study.findings, study.cells)
    effect = next(e for e in study.findings.descriptive if e.n)
    assert effect.mean in [row[3].value for row in table.rows]
    assert all(row[4].text != "–" for row in table.rows)
    assert "comparisons" in losses.loss_heading(study.findings)
    titles = [column.csv for column in table.columns]
    gains = {e.mean for e in study.findings.descriptive if e.metric == "test_calibration_error" and e.n}
    assert {row[titles.index("calibration_gain")].value for row in table.rows} <= gains
    without = tuple(e for e in study.findings.descriptive if e.metric == "test_loss")
    bare = losses.loss_table(replace(study.findings, descriptive=without), study.cells)
    assert "calibration_gain" not in [column.csv for column in bare.columns]
    assert losses.loss_table(replace(study.findings, descriptive=()), study.cells).rows == ()


def test_a_band_of_two_seeds_does_not_blow_up_the_axis() -> None:
    wide = {1: (0.8, (-3.0, 4.6)), 2: (0.9, (-2.0, 3.8))}
    curve = curves.Curve("c", "SGD", {k: Typical(2, mean, ends) for k, (mean, ends) in wide.items()})
    assert curves.shown([curve]) == pytest.approx((0.7, 1.0))
    figure = curves.figure_of((curve,), (), ACCURACY)
    assert min(figure.data[0]["y"]) >= 0
    assert max(figure.data[0]["y"]) <= 100
