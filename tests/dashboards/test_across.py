"""Across problems: the forest's summary rows, the slopes, the rule in words, and the loss beside the accuracy."""

import math
from dataclasses import replace

import pytest

from dashboards.figures.training import curves
from dashboards.figures.when import forest, pooled
from dashboards.score import Score
from dashboards.tables import losses, moderators
from study.stats import ModeratorRule

ACCURACY = Score("accuracy", share=True)


def test_every_method_and_budget_of_five_tasks_has_its_summary_row(study, wide) -> None:
    assert forest.forest_of(study.findings, study.cells).summaries == ()
    data = forest.forest_of(wide.findings, wide.cells)
    assert {s.method for s in data.summaries} == {"SAM"}
    synthesis = next(s for s in wide.findings.syntheses if (s.method, s.budget) == ("SAM", "G"))
    row = next(s for s in data.summaries if "G" in s.budgets)
    assert (row.mean, row.ci95, row.prediction95) == (synthesis.mean, synthesis.ci95, synthesis.prediction95)
    assert len(forest.table_of(data, "fraction").rows) == len(data.marks) + len(data.summaries)


def test_a_summary_without_an_interval_is_left_out(wide) -> None:
    nothing = (math.nan, math.nan)
    unknown = tuple(replace(s, ci95=nothing, prediction95=nothing) for s in wide.findings.syntheses)
    data = forest.forest_of(replace(wide.findings, syntheses=unknown), wide.cells)
    assert data.summaries == ()
    assert pooled.caption_of(()) == ""


def test_a_wide_prediction_does_not_flatten_the_forest() -> None:
    summary = pooled.Summary("SAM", ("E",), "equal epochs", 3, 0.01, (-0.5, 0.52), (-9.0, 9.0))
    assert pooled.widened((summary,), -0.02, 0.02) == pytest.approx((-0.04, 0.04))
    traces = pooled.traces(summary, -1.2, (-0.04, 0.04), 0, filled=True)
    assert [trace["marker"]["size"] for trace in traces[:2]] == [[8, 8], [8, 8]]
    assert traces[0]["x"] == [-4.0, 4.0]


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
    assert len(table.rows) == len(found)
    for row, slope in zip(table.rows, moderators.slopes_of(study.findings), strict=True):
        where = "between" if slope.moderator.kind == "measured" else "within"
        assert row[7].text == f"{where} 5 tasks, 20 cells"
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
    curve = curves.Curve("c", "SGD", (1, 2), (0.8, 0.9), (-3.0, -2.0), (4.6, 3.8), (2, 2))
    assert curves.shown([curve]) == pytest.approx((0.7, 1.0))
    figure, _ = curves.figure_of((curve,), (), ACCURACY)
    assert min(figure.data[0]["y"]) >= 0
    assert max(figure.data[0]["y"]) <= 100
