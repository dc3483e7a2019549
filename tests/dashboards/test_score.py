"""What scores are called: accuracies are shares in percent, every other metric goes by its own name."""

import json
import math
import re
from dataclasses import replace

import pytest
from markup import Page
from synthetic import synthetic_study

from dashboards.charts import charts_of
from dashboards.closing import closing
from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.kit.tried import start_words, tried_of
from dashboards.report import build_report
from dashboards.score import Score, metric_words, score_in, score_of
from dashboards.words import GLOSSARY, glossary_of
from study.findings import find
from study.findings.content import ScoreUnit
from study.records import RunRecord
from study.store.frame import frame_of

OF_CLASSIFICATION = ("calibration-error",)  # an accuracy is meant there, whatever the study's score is
OF_RUNS_IDS = ("sharpness", "relation", "lines", "plane", "calibration-error", "importance")
PERCENTAGE = re.compile(r"\d+\.\d+\s?%")  # as accuracies are written; "95 % CI" is none
SCHEDULES = {"schedule": ["cosine", "constant"]}


@pytest.fixture(scope="module")
def regression(make):
    return make(tasks=["diabetes"], factors=SCHEDULES, trials=3)


@pytest.fixture(scope="module")
def charts(regression):
    return charts_of(Sources(regression.findings, regression.frame, regression.cells))


@pytest.fixture(scope="module")
def page(regression):
    return build_report(regression.findings, regression.frame)


def words_of(chart: Chart) -> str:
    """Return all that a reader sees of a chart: its sentences, the titles in its figure, and its table's heads."""
    heads = [chart.table.caption, *(column.title for column in chart.table.columns)]
    return " ".join([chart.heading, chart.reading, chart.caption, drawn_words(chart), *heads])


def drawn_words(chart: Chart) -> str:
    """Return all that is written in a chart's figure, and under the pointer there."""
    return json.dumps([chart.figure.data, chart.figure.layout, chart.figure.narrow], ensure_ascii=False)


@pytest.mark.parametrize(
    ("names", "name", "share"),
    [
        ({}, "accuracy", True),
        ({"digits": "accuracy", "mnist1d": "accuracy"}, "accuracy", True),
        ({"characters": "token accuracy"}, "token accuracy", True),
        ({"digits": "accuracy", "characters": "token accuracy"}, "score", True),
        ({"diabetes": "R²"}, "R²", False),
        ({"digits": "accuracy", "diabetes": "R²"}, "score", False),
        ({"mine:task": "score"}, "score", False),
    ],
)
def test_tasks_that_agree_lend_the_score_its_name(study, names: dict[str, str], name: str, share: bool) -> None:
    scores = {task: ScoreUnit(name, "fraction" if name.endswith("accuracy") else "") for task, name in names.items()}
    findings = replace(study.findings, scores=scores)
    assert (score_of(findings).name, score_of(findings).share) == (name, share)
    assert metric_words(findings) == f"test {name}"
    assert metric_words(replace(findings, metric="test_loss")) == "test_loss"


def test_only_shares_are_percentages() -> None:
    accuracy, r2 = Score("accuracy", share=True), Score("R²", share=False)
    assert (accuracy.axis("test"), accuracy.points) == ("test accuracy, %", "points")
    assert (r2.axis("test"), r2.points) == ("test R²", "R²")
    assert (accuracy.percentage_points, r2.percentage_points) == ("percentage points", r2.points)
    assert (accuracy.head("Validation"), r2.head("Validation")) == ("Validation", "Validation, R²")


@pytest.mark.parametrize(
    ("value", "accuracy", "r2"),
    [(0.9452, "94.52\u202f%", "0.9452"), (-0.031, None, "−0.0310"), (None, "–", "–"), (math.nan, "–", "–")],
)
def test_a_score_is_written_as_its_axis_counts(value: float | None, accuracy: str | None, r2: str) -> None:
    assert Score("R²", share=False).text(value) == r2
    if accuracy:
        assert Score("accuracy", share=True).text(value) == accuracy


def test_no_percent_sign_stands_behind_a_score_that_is_no_share(regression, charts, page) -> None:
    starts = set(map(start_words, tried_of(regression.frame)["start"]))  # of the epochs
    for id_ in charts.keys() - set(OF_CLASSIFICATION):
        entries = " ".join(entry.text for row in charts[id_].table.rows for entry in row)
        assert set(PERCENTAGE.findall(drawn_words(charts[id_]) + entries)) <= starts, id_
    text = " ".join("".join(Page(page).text).split())
    assert set(PERCENTAGE.findall(text)) <= starts
    text = Page(page).words
    best = regression.findings.selections[0].val_score
    assert f"{best:.4f}" in text
    for head in ("Validation, R²", "Test, R²", "SGD, R²", "test R²"):
        assert head in text


def test_a_regression_is_never_said_to_have_an_accuracy(charts, page) -> None:
    assert {"forest", "averaging", "curves", "rho", "best-of-trials"} <= charts.keys()
    for id_ in charts.keys() - set(OF_CLASSIFICATION):
        said = words_of(charts[id_]).lower()
        assert "accuracy" not in said, id_
        assert "percentage point" not in said, id_
    text = Page(page).words
    assert "A gain is test R² of the tuned method" in text
    assert "Gain over the strongest baseline in R²" in text
    assert not re.search(r"\d points", text)
    where = [text[max(0, m.start() - 60) : m.end()] for m in re.finditer("accuracy", text, re.IGNORECASE)]
    assert all("confidence" in words for words in where)  # of a calibration error, which the made-up runs all have


def test_a_study_of_several_metrics_speaks_of_scores(make) -> None:
    mixed = make(tasks=["digits", "diabetes"], factors=SCHEDULES, trials=3)
    charts = charts_of(Sources(mixed.findings, mixed.frame, mixed.cells))
    for id_, title in (("forest", "gain, percentage points"), ("forest-2", "gain, R²"), ("curves-2", "validation R²")):
        assert title in words_of(charts[id_])
    assert "decaying rate (R²)" in words_of(charts["forest-2"]).replace("<br>", " ")
    for id_, chart in charts.items():  # no scale, no range, no mean over two metrics
        assert not ("diabetes" in words_of(chart) and "digits" in words_of(chart)) or id_ in OF_RUNS_IDS, id_
    own = {task: score_in(mixed.findings, task) for task in mixed.findings.scores}
    terms = {term.name: term.meaning for term in glossary_of(score_of(mixed.findings), own)}
    assert terms["Score"].endswith("accuracy in digits, R² in diabetes.")


UNITS = [
    ("MAE", "k$", False, r"[+−]\d"),
    ("nll", "nats", False, "nats"),
    ("<b>F1</b>", "", True, "‹b›F1‹/b›"),
]


@pytest.mark.parametrize(("name", "unit", "higher", "said"), UNITS)
def test_page_terminal_and_findings_speak_in_the_metrics_unit(name: str, unit: str, higher: bool, said: str) -> None:
    """Whoever's metric it is: its values are written as they are, and points are of fractions alone."""
    spec, records = synthetic_study(tasks=["mnist1d"], replicates=5, trials=2)
    told = {"metric": name, "unit": unit, "higher_is_better": higher}
    findings = find(spec, [record.model_copy(update=told) for record in records])
    assert findings.scores == {"mnist1d": ScoreUnit(name, unit, higher)}
    page = build_report(findings, frame_of(records))
    text = Page(page).words
    assert not re.search(r"\d points", text)
    assert f"Gain over the strongest baseline in {unit or '‹b›F1‹/b›'}, by problem" in text
    assert ("lower is better" in metric_words(findings)) != higher
    assert metric_words(findings)[1:] in text
    assert re.search(said, text)
    gain = next(effect.mean for effect in findings.effects if abs(effect.mean) > 0.001)
    assert f"{abs(gain):.4f}" in text
    end = " ".join(closing(findings, frame_of(records)).split())
    assert f"gains in {unit or '‹b›F1‹/b›'} over SGD" in end


def test_an_accuracy_in_percent_is_no_fraction() -> None:
    spec, records = synthetic_study(tasks=["mnist1d"], replicates=5, trials=1)

    def percent(record: RunRecord) -> RunRecord:
        found = [replace(m, val_score=100 * m.val_score) for m in record.measurements if m.val_score is not None]
        return record.model_copy(update={"metric": "accuracy", "measurements": tuple(found)})

    assert find(spec, list(map(percent, records))).scores == {"mnist1d": ScoreUnit("accuracy", "", True)}
    assert find(spec, records).scores == {"mnist1d": ScoreUnit("accuracy", "fraction", True)}


@pytest.mark.parametrize("others", [["diabetes"], ["diabetes", "mnist1d"]])
def test_problems_of_other_units_are_not_put_together(others: list[str]) -> None:
    spec, records = synthetic_study(tasks=["digits", *others], factors=SCHEDULES, replicates=5, trials=2)
    mixed = find(spec, records)
    alone = find(spec, [r.model_copy(update={"metric": "accuracy"}) for r in records])
    assert mixed.pooled == tuple(task for task in ("digits", *others) if task != "diabetes")
    assert {one.tasks for one in mixed.syntheses} == {len(mixed.pooled)}
    assert {one.tasks for one in alone.syntheses} == {len(alone.pooled)} == {1 + len(others)}
    (caveat,) = (one for one in mixed.caveats if one.kind == "scores of several kinds")
    assert f"is over {', '.join(mixed.pooled)} alone" in caveat.detail
    assert all("alone" in one.note for one in mixed.literature if one.kind != "sharpness")


def test_a_classification_is_measured_by_its_accuracy(study) -> None:
    charts = charts_of(Sources(study.findings, study.frame, study.cells))
    for id_, title in {
        "forest": "gain, percentage points",
        "two-by-two": "the mean gain in points.",
        "averaging": "gain, percentage points",
        "curves": "validation accuracy, %",
        "rho": "validation accuracy, %",
        "best-of-trials": "validation accuracy, %",
    }.items():
        assert title in words_of(charts[id_]), id_
        assert "× 100" not in words_of(charts[id_]), id_
    own = {task: score_in(study.findings, task) for task in study.findings.scores}
    terms = {term.name: term.meaning for term in glossary_of(score_of(study.findings), own)}
    assert terms["Gain"].startswith("Accuracy of the method minus accuracy of the baseline")
    assert terms["Point"] == "Percentage point: 80.0 % to 80.5 % is a gain of 0.50 points."
    assert terms.keys() == {term.name for term in GLOSSARY} - {"Score"}
