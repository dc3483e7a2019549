"""A study of an error in k$, of which lower is better: no figure, no table and no sentence shows its negative.

All errors lie between 100 and 140 k$ and all gains within a few, so that a negated error is told from a gain by size.
"""

import json
import re
from dataclasses import replace

import pytest
from markup import Page
from synthetic import synthetic_lines, synthetic_plane, synthetic_study

from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.closing import closing
from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.training import curves
from dashboards.figures.tuning import rho
from dashboards.report import build_report
from dashboards.score import Score
from dashboards.tables import moderators
from study.findings import Findings, find
from study.records import RunRecord
from study.stats import Moderator
from study.stats.typical import MEDIAN
from study.store.frame import frame_of

LEAST = -60.0  # no gain is as low, and no negated error as high
NEGATED = re.compile(r"[-−]1[0-4]\d(?:\.\d+)?\b")
OF_SCORES = ("curves", "rho", "best-of-trials")
SINGLE = ("importance", "rho", "parallel", "selections", "runs", "plane")  # tables of what has no interval
WITHOUT_UNIT = ("deltas", "importance")  # verdicts, and shares


def in_errors(record: RunRecord) -> RunRecord:
    """Return a record whose accuracies are errors instead."""

    def error(score: float | None) -> float | None:
        return None if score is None else -(140 - 30 * score)

    told = [
        replace(m, train_score=error(m.train_score), val_score=error(m.val_score), test_score=error(m.test_score))
        for m in record.measurements
    ]
    metric = {"metric": "MAE", "unit": "k$", "higher_is_better": False}
    return record.model_copy(update={**metric, "measurements": tuple(told)})


@pytest.fixture(scope="module")
def sources() -> Sources:
    spec, records = synthetic_study(tasks=["mnist1d"], replicates=5, trials=20, delta=0.05)
    told = list(map(in_errors, records))
    lines = synthetic_lines(told, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    findings, frame = find(spec, told, len(told), lines), frame_of(told)
    cells = cells_of(findings, frame)
    return Sources(findings, frame, cells, tuple(told), tuple(lines), (synthetic_plane(next(iter(cells))),))


@pytest.fixture(scope="module")
def charts(sources: Sources) -> dict[str, Chart]:
    return charts_of(sources)


@pytest.fixture(scope="module")
def page(sources: Sources) -> Page:
    return Page(
        build_report(
            sources.findings, sources.frame, records=sources.records, lines=sources.lines, planes=sources.planes
        )
    )


def numbers_in(value: object) -> list[float]:
    """Return every number in plain data, however deep."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_in(part)]
    if isinstance(value, list | tuple):
        return [number for part in value for number in numbers_in(part)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_no_figure_draws_a_negative_error(charts) -> None:
    assert charts.keys() >= {
        *("two-by-two", "forest", "curves", "averaging", "relation", "rho", "parallel", "best-of-trials"),
        *("sharpness", "lines", "plane", "calibration-error", "importance"),
    }
    for name, chart in charts.items():
        drawn = [chart.figure.data, chart.figure.layout]
        assert min(numbers_in([trace.get("y") for trace in chart.figure.data])) > LEAST, name
        assert min(numbers_in(drawn)) > LEAST, name
        words = json.dumps([drawn, chart.heading, chart.reading, chart.caption], ensure_ascii=False)
        assert not NEGATED.search(words), name


def test_an_axis_of_errors_says_its_unit_and_which_side_is_better(charts) -> None:
    for name in OF_SCORES:
        assert charts[name].figure.layout["yaxis"]["title"]["text"] == "validation MAE, k$, lower is better"
        low, high = charts[name].figure.layout["yaxis"]["range"]
        assert 100 < low < high < 145, name
    for name in ("lines", "calibration-error"):
        assert "lower is better" in json.dumps(charts[name].figure.layout), name
    captions = {name: charts[name].table.caption for name in (*OF_SCORES, "parallel")}
    assert all("lower is better" in caption for caption in captions.values()), captions


def test_what_is_drawn_and_exported_is_what_the_metric_measured(sources: Sources, charts) -> None:
    chart = charts["curves"]
    at = {column.csv: i for i, column in enumerate(chart.table.columns)}
    exported = [row[at["val_score"]].value for row in chart.table.rows]
    means = [v for curve in curves.curves_of(sources.confirmed, sources.cells, MEDIAN) for v in curve.line]
    assert exported[: len(means)] == [-mean for mean in means]
    drawn = [trace["y"] for trace in chart.figure.data if trace["mode"].startswith("lines") and "fill" not in trace]
    assert [y for ys in drawn for y in ys] == pytest.approx([-mean for mean in means], rel=1e-5)
    for name, around in {
        "curves": ("quartile_low", "val_score", "quartile_high"),
        "best-of-trials": ("band95_low", "median_best", "band95_high"),
    }.items():
        at = {column.csv: i for i, column in enumerate(charts[name].table.columns)}
        for row in charts[name].table.rows:
            low, middle, high = (row[at[one]].value for one in around)
            assert low - 1e-9 <= middle <= high + 1e-9


def test_a_run_that_is_far_worse_stands_at_the_upper_edge(sources: Sources) -> None:
    (first, *_) = sources.findings.rho_responses
    wild = replace(first, last=(-500.0, *first.last[1:]))
    found = rho.responses_of(replace(sources.findings, rho_responses=(wild,)), sources.cells)
    figure = rho.figure_of(found, sources.score)
    markers = next(trace for trace in figure.data if trace["mode"] == "markers")
    edge = markers["marker"]["symbol"].index("triangle-up-open")
    assert markers["y"][edge] == max(markers["y"]) < figure.layout["yaxis"]["range"][1] < 200


def test_no_table_holds_a_negative_error(page: Page) -> None:
    for name, table in page.packed["tables"].items():
        for row in table["rows"]:
            for entry in row:
                for text in [entry] if isinstance(entry, str) else entry:
                    assert not NEGATED.search(str(text)), (name, row)


def test_nothing_on_the_page_or_in_the_terminal_is_a_negative_error(sources: Sources, page: Page) -> None:
    assert not NEGATED.search(page.words)
    assert not NEGATED.search(json.dumps(page.packed["details"], ensure_ascii=False))
    assert not NEGATED.search(closing(sources.findings, sources.frame))


def test_every_table_has_its_n_and_its_units(page: Page) -> None:
    for name, table in page.packed["tables"].items():
        names = {column[1] for column in table["columns"]}
        if table["rows"] and name not in SINGLE:
            assert names & {"n", "trials", "n_gain"} or name == "deltas", name
        if table["rows"] and name not in WITHOUT_UNIT:
            assert any(csv == "unit" or csv.endswith("_unit") for csv in names), name
    held = page.packed["tables"].keys()
    assert held >= {"verdicts", "baselines", "direct", "losses", "interactions", "selections", "runs", "accuracies"}


def test_neither_does_the_page_of_a_study_of_accuracies_and_errors() -> None:
    spec, records = synthetic_study(tasks=["digits", "mnist1d"], factors={}, replicates=5, trials=2)
    told = [in_errors(record) if record.job.task == "mnist1d" else record for record in records]
    mixed = Page(build_report(find(spec, told, len(told)), frame_of(told), records=told))
    assert not NEGATED.search(json.dumps([mixed.words, mixed.packed], ensure_ascii=False))
    for name in ("runs", "selections", "interactions"):
        table = mixed.packed["tables"][name]
        place = [column[1] for column in table["columns"]].index("unit")
        assert {row[place][1] for row in table["rows"]} == {"fraction", "k$"}, name


def test_a_slope_over_the_baselines_error_has_the_errors_direction(sources: Sources) -> None:
    primary = sources.findings.primary_budget
    found = Moderator("SAM", primary, "measured", "baseline score", "", False, 5, 5, 0.2, (0.1, 0.3), 0.01, ())
    findings: Findings = replace(sources.findings, moderators=(found,))
    (slope,) = moderators.slopes_of(findings)
    assert slope.words == "baseline MAE"
    assert (slope.moderator.slope, slope.moderator.ci95) == (-0.2, (-0.3, -0.1))


def test_the_unit_of_a_loss_is_that_of_a_cross_entropy_alone(charts) -> None:
    assert Score("accuracy", share=True).loss_head("Train loss") == "Train loss, nats"
    assert Score("MAE", share=False, unit="k$").loss_head("Train loss") == "Train loss"
    assert "nats" not in json.dumps([charts["lines"].figure.layout, charts["lines"].caption])
