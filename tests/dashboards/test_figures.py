"""The numbers behind every figure, and what holds of all figures."""

import json
import math
import re
from dataclasses import replace
from importlib import resources

import pytest

from dashboards import theme
from dashboards.cells import LabelledCell
from dashboards.charts import charts_of
from dashboards.comparisons import distinct
from dashboards.figures.kit import dots, panels
from dashboards.figures.kit.chart import Sources
from dashboards.figures.kit.confirmed import confirmed_runs
from dashboards.figures.training import curves
from dashboards.figures.tuning import rho
from dashboards.figures.when import forest, two_by_two
from dashboards.figures.why import averaging
from dashboards.score import Score
from study.records import configuration_of
from study.stats import RhoResponse
from study.stats.typical import MEAN, Typical

ACCURACY = Score("accuracy", share=True)


def curve_of(cell: str, ends: dict[int, tuple[float, float]]) -> curves.Curve:
    """Return a curve of SGD through the middles of intervals, by epoch."""
    return curves.Curve(cell, "SGD", {epoch: Typical(2, sum(pair) / 2, pair) for epoch, pair in ends.items()})


@pytest.fixture(scope="module")
def clean(make):
    return make()


@pytest.fixture(scope="module")
def charts(study):
    return charts_of(Sources(study.findings, study.frame, study.cells))


def test_every_question_has_its_chart(charts) -> None:
    assert list(charts) == [
        *("two-by-two", "forest", "curves", "averaging", "rho", "best-of-trials"),
        *("calibration-error", "importance"),
    ]


def test_every_chart_has_a_place_on_the_page(charts) -> None:
    template = (resources.files("dashboards") / "template.html").read_text(encoding="utf-8")
    missing = [chart for chart in charts if f'"{chart}"' not in template]
    assert not missing, "a chart without its {{ chart(id) }} in dashboards/template.html is nowhere on the page"


def test_budgets_that_coincide_make_one_comparison(clean, make) -> None:
    merged = distinct(clean.findings.effects, "G")
    assert len(merged) == len(clean.findings.effects)  # a ceiling of 2× brings longer baselines: nothing coincides
    made = make(tasks=["digits"], trials=3, methods=["SGD", "SWA"], gradient_ceiling=1.0)
    merged = distinct(made.findings.effects, "G")
    assert {found.budgets for found in merged} == {("G", "E")}
    assert sum(len(found.budgets) for found in merged) == len(made.findings.effects) == 2 * len(merged)


def test_forest_holds_every_effect_with_its_replicates(clean) -> None:
    data = forest.forest_of(clean.findings, clean.cells)
    assert data.methods == ["SWA", "SAM", "WASAM"]
    assert len(data.cells) == 8
    assert {id(mark.effect) for mark in data.marks} == {id(effect) for effect in clean.findings.effects}
    assert data.deltas == [clean.findings.delta] * 8
    low, high = forest.range_of(data)
    assert all(low <= mark.effect.ci95[0] and mark.effect.ci95[1] <= high for mark in data.marks)
    figure = forest.figure_of(data, ACCURACY)
    effect = next(e for e in clean.findings.effects if (e.method, e.budget) == ("SAM", "G"))
    seeds, means = (
        next(
            t for t in figure.data if t["xaxis"] == "x2" and t["mode"] == "markers" and (t["hoverinfo"] == "text") == on
        )
        for on in (False, True)
    )
    assert means["x"][0] == pytest.approx(100 * effect.mean, rel=1e-4)
    assert seeds["x"][:6] == pytest.approx([100 * gain for gain in effect.differences], rel=1e-4)


def test_an_interval_with_a_diverged_run_does_not_flatten_the_others(clean) -> None:
    data = forest.forest_of(clean.findings, clean.cells)
    wild = replace(data.marks[0], effect=replace(data.marks[0].effect, diverged_method=1, ci95=(-5.0, 5.0)))
    spoiled = replace(data, marks=(wild, *data.marks[1:]))
    assert forest.range_of(spoiled)[1] < 1
    figure = forest.figure_of(spoiled, ACCURACY)
    arrows = [trace for trace in figure.data if trace.get("name") == "the interval goes on"]
    assert [trace["marker"]["symbol"] for trace in arrows] == [["triangle-left", "triangle-right"]]


def test_averaging_is_told_within_the_same_runs(clean) -> None:
    effects = clean.findings.averaging
    marks = averaging.dots_of(clean.findings, effects, clean.cells)
    assert {mark.method for mark in marks} == {"SWA", "WASAM"}
    assert len(marks) == 16
    for mark, effect in zip(marks, effects, strict=True):
        assert mark.mean == pytest.approx(100 * effect.mean)
        assert mark.values == pytest.approx([100 * gain for gain in effect.differences])
    for row, effect in zip(
        averaging.table_of(clean.findings, effects, clean.cells, ACCURACY).rows, effects, strict=True
    ):
        assert row[4].value - row[3].value == pytest.approx(row[5].value) == pytest.approx(effect.mean)
    heading = averaging.heading_of(clean.findings, effects, clean.cells)
    assert heading.startswith("Within the same runs, averaging changes the score by ")
    assert "with a constant rate" in heading


def test_rho_lines_join_the_best_run_of_every_fifth() -> None:
    best = rho.best_of_bins((0.0, 0.01, 0.011, 0.1, 1.0), (0.99, 0.5, 0.6, 0.8, math.nan))
    assert best == [(0.011, 0.6), (0.1, 0.8)]
    assert rho.best_of_bins((0.0,), (0.9,)) == []
    assert rho.best_of_bins((0.1, 0.1), (0.7, 0.9)) == [(0.1, 0.9)]


def test_rho_panel_is_not_flattened_by_a_run_at_chance(clean) -> None:
    response = RhoResponse("c", (0.1, 0.2, 0.3), (0.1,) * 3, (0.9, 0.91, 0.1), (math.nan,) * 3, math.nan, (0.2, 0.0))
    (found,) = rho.responses_of(replace(clean.findings, rho_responses=(response,)), clean.cells)
    assert found.floor > 0.8
    figure = rho.figure_of((found,), ACCURACY)
    assert min(y for trace in figure.data if trace["mode"] == "markers" for y in trace["y"]) > 80


def test_foot_keeps_runs_that_are_not_far_off() -> None:
    assert panels.foot([0.90, 0.92, 0.95]) == 0.90
    assert panels.foot([0.10, 0.90, 0.92]) == pytest.approx(0.90 - 0.06 - 0.02)


def test_curves_average_the_confirm_runs(clean) -> None:
    runs = confirmed_runs(clean.frame, clean.findings.selections)
    data = curves.curves_of(runs, clean.cells, MEAN)
    assert {curve.method for curve in data} == {"SGD", "SAM"}
    assert len(data) == 24  # SGD at both lengths, and SAM
    assert {(c.name, c.length) for c in data} >= {("SGD", 1.0), ("SAM", 1.0)}
    assert all(
        max(curve.scores) == 2 * max(data[0].scores)
        for curve in data
        if (curve.cell, curve.length) == (data[0].cell, 2)
    )
    curve = data[0]
    end = curve.scores[max(curve.scores)]
    chosen = [s for s in clean.findings.selections if (s.contender, s.lengths) == ("SGD last", (1,))]
    cell = next(name for name, cell in clean.cells.items() if cell.label == curve.cell)
    frame = clean.frame
    picked = {configuration_of(s).id for s in chosen if s.cell == cell}
    assert len(picked) == 6
    rows = frame[
        (frame["stage"] == "confirm") & frame["configuration"].isin(picked)
        & (frame["weights"] == "last") & (frame["epoch"] == max(curve.scores))
    ]  # fmt: skip
    assert end.middle == pytest.approx(rows.groupby("replicate")["val_score"].mean().mean())
    assert end.ends[0] < end.middle < end.ends[1]
    assert {found.n for found in curve.scores.values()} == {6}


def test_averages_end_where_their_runs_do(clean) -> None:
    runs = confirmed_runs(clean.frame, clean.findings.selections)
    averages = curves.averages_of(runs, clean.cells, MEAN)
    assert {average.method for average in averages} == {"SWA", "WASAM"}
    assert len(averages) == 16
    first = averages[0]
    cell = next(name for name, cell in clean.cells.items() if cell.label == first.cell)
    chosen = [s for s in clean.findings.selections if (s.cell, s.method, s.lengths) == (cell, first.method, (1,))]
    frame = clean.frame
    rows = frame[
        (frame["stage"] == "confirm") & frame["configuration"].isin([configuration_of(s).id for s in chosen])
        & frame["weights"].str.startswith("swa@") & frame["final"]
    ]  # fmt: skip
    preferred = rows.loc[rows.groupby("run_id")["val_score"].idxmax()]
    assert len(preferred) == first.score.n == 6
    assert first.score.middle == pytest.approx(preferred["val_score"].mean())
    starts = preferred["weights"].str.removeprefix("swa@").astype(float)
    assert first.start == pytest.approx(starts.median() * first.epoch, rel=0.15)  # ties go by the loss
    figure = curves.figure_of(curves.curves_of(runs, clean.cells, MEAN), averages, ACCURACY)
    shades = [shape for shape in figure.layout["shapes"] if shape["type"] == "rect"]
    assert len(shades) == 8
    assert all(0 < shade["x0"] < shade["x1"] for shade in shades)


def test_the_two_by_two_has_a_field_for_every_effect_at_the_primary_budget(clean) -> None:
    data = two_by_two.gain_map_of(clean.findings, clean.cells)
    assert data.factor == "label_noise"
    assert data.columns == ("clean labels", "30 % noisy labels")
    assert data.rows == tuple(f"{t}, {s} rate" for t in ("digits", "mnist1d") for s in ("decaying", "constant"))
    primary = [e for e in clean.findings.effects if e.budget == clean.findings.primary_budget]
    assert sorted(map(id, data.effects)) == sorted(map(id, primary))
    assert len(set(data.places.values())) == len(data.places) == len(data.rows) * len(data.columns)


def test_one_factor_makes_no_two_by_two(make) -> None:
    made = make(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=2)
    assert two_by_two.gain_map_of(made.findings, made.cells) is None


def test_the_two_by_two_tells_what_both_factors_do_together(clean) -> None:
    found = clean.findings.factor_interactions
    said = two_by_two.contrasts_of(clean.findings)
    with ACCURACY.written():
        for one in found[: two_by_two._MOST_TOLD]:
            assert (
                f"{one.method} {theme.gain_within(one.mean, one.ci95)} (p {theme.p_value(one.p)}) in {one.task}" in said
            )
    sure = [one for one in found if one.ci95[0] > 0 or one.ci95[1] < 0]
    gains = two_by_two.gain_map_of(clean.findings, clean.cells).effects
    assert two_by_two.heading_of(clean.findings, clean.cells, gains).startswith(
        "Together, " if sure else "Label noise and schedule are not"
    )
    nothing = replace(clean.findings, factor_interactions=())
    assert two_by_two.contrasts_of(nothing) == ""
    assert two_by_two.heading_of(nothing, clean.cells, gains).startswith("The gain is largest in ")


def test_one_outlier_sets_no_scale() -> None:
    """Neither of a forest, nor of marks, nor of colours: what lies beyond is an arrow, and counted."""
    assert panels.inliers([0.01, 0.02, 0.015, 0.012, 0.9]) == (0.01, 0.02)
    assert panels.inliers([0.0, 0.0, 0.0, 0.0, 5.0], least=0.1) == (0.0, 0.0)
    assert panels.inliers([1.0, 2.0, 3.0]) == (1.0, 3.0)
    assert panels.inliers([0.0] * 5 + [1.0]) == (0.0, 1.0)  # no spread, no outlier
    assert panels.inliers([math.nan]) == (0.0, 1.0)
    nowhere = (math.nan, math.nan)
    near = [dots.Dot("p", f"row {i}", "SGD", 0.1 * i, nowhere, (0.1 * i,), "") for i in range(8)]
    far = dots.Dot("p", "far", "SGD", 1000.0, nowhere, (1000.0,), "")
    span = dots.span_of([*near, far], dots.Scale())
    assert span[1] < 2
    figure = dots.figure_of([*near, far], {"p": dots.Scale()})
    marks = next(trace for trace in figure.data if trace.get("hoverinfo") == "text")
    assert marks["marker"]["symbol"] == ["circle"] * 8 + ["triangle-right"]
    assert max(marks["x"]) < figure.layout["xaxis"]["range"][1]
    log = dots.span_of([*(replace(d, mean=d.mean + 1) for d in near), replace(far, mean=1e9)], dots.Scale(log=True))
    assert log[1] < 100


def test_a_factor_that_tasks_merely_differ_in_makes_no_map() -> None:
    def cell(task: str, size: int, noise: float) -> LabelledCell:
        return LabelledCell(
            f"{task} {size} {noise}", f"{task} {size} {noise}", task, {"train_size": size, "label_noise": noise}
        )

    apart = [cell("a", 80, 0.0), cell("b", 300, 0.0), cell("c", 900, 0.0)]
    assert two_by_two.factor_across(apart) == ""
    assert two_by_two.factor_across(
        [cell("a", 80, 0.0), cell("a", 80, 0.3), cell("b", 300, 0.0), cell("b", 300, 0.3)]
    ) == ("label_noise")
    assert two_by_two.factor_across([]) == ""


def test_titles_of_three_lines_get_room(clean) -> None:
    made = curve_of("a problem whose name goes on and on over three lines", {1: (0.1, 0.1), 2: (0.2, 0.2)})
    long = curves.figure_of((made,), (), ACCURACY)
    short = curves.figure_of((replace(made, cell="a problem"),), (), ACCURACY)
    assert long.layout["margin"]["t"] == short.layout["margin"]["t"] + 17
    assert long.layout["height"] > short.layout["height"]


def test_a_metric_of_a_long_name_gets_room_beside_its_panel(clean) -> None:
    made = curve_of("a problem", {1: (0.1, 0.1), 2: (0.2, 0.2)})
    long = replace(ACCURACY, name="negative evidence lower bound", share=False, unit="nats", higher_is_better=False)
    short, wide = (curves.figure_of((made,), (), score) for score in (ACCURACY, long))
    assert wide.layout["yaxis"]["title"]["text"] == "validation negative evidence lower<br>bound, nats, lower is better"
    assert wide.layout["margin"]["l"] == short.layout["margin"]["l"] + 15
    assert wide.narrow["margin.l"] == short.narrow["margin.l"] + 15


@pytest.mark.parametrize("value", [-0.02, -1e-4, 0.0, 1e-4, 0.02])
def test_the_diverging_colours_are_centred_at_zero(value: float) -> None:
    color = theme.diverging(value, 0.02)
    opacity = int(color[7:], 16)
    assert (opacity == 0) == (value == 0)
    assert opacity <= 0.62 * 255 + 1
    assert color[:7] == (theme.GAIN if value > 0 else theme.LOSS)


def test_curves_keep_at_most_300_points(clean, monkeypatch) -> None:
    monkeypatch.setattr(curves, "MOST_POINTS", 3)
    runs = confirmed_runs(clean.frame, clean.findings.selections)
    thinned = curves.curves_of(runs, clean.cells, MEAN)
    assert max(len(curve.scores) for curve in thinned) <= 3
    last = clean.frame.loc[clean.frame["epochs_factor"] == 1].groupby("cell")["epoch"].max()
    assert {max(curve.scores) for curve in thinned if curve.length == 1} == set(last)


def test_an_axis_of_shares_ends_at_0_and_1_and_others_do_not() -> None:
    assert panels.shares_stay_shares(-0.1, 1.1, [0.1, 0.9]) == (0.0, 1.0)
    assert panels.shares_stay_shares(-0.6, 1.1, [-0.5, 0.9]) == (-0.6, 1.1)
    below = curve_of("R² below 0", {1: (-0.5, -0.3), 2: (-0.3, -0.1)})
    low, high = curves.shown([below])
    assert low <= -0.4 < -0.2 <= high


@pytest.mark.parametrize("count", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("narrow", [False, True])
def test_panels_fill_the_area_without_overlap(count: int, narrow: bool) -> None:
    patch = panels.arrange(count, panels.grid_of_cells(count), narrow=narrow)
    boxes = [(*patch[f"{panels.axis('x', i)}.domain"], *patch[f"{panels.axis('y', i)}.domain"]) for i in range(count)]
    for x0, x1, y0, y1 in boxes:
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
    for i, (ax0, ax1, ay0, ay1) in enumerate(boxes):
        for bx0, bx1, by0, by1 in boxes[i + 1 :]:
            assert ax1 <= bx0 or bx1 <= ax0 or ay1 <= by0 or by1 <= ay0


def test_figures_use_the_colours_of_the_theme_alone(charts) -> None:
    known = {theme.INK, theme.MUTED, theme.GRID, theme.PAPER, theme.ACCENT, theme.BAND, theme.UNKNOWN}
    known |= {theme.GAIN, theme.LOSS}
    known |= {style.color for style in theme.STYLE.values()}
    for chart in charts.values():
        text = json.dumps([chart.figure.data, chart.figure.layout])
        assert {color[:7] for color in re.findall(r'"(#[0-9A-Fa-f]{6,8})"', text)} <= known


def test_plotly_accepts_every_property_of_every_figure(charts) -> None:
    """The figures are made without it, as it takes long."""
    for chart in charts.values():
        looked_through = chart.figure.as_plotly().to_plotly_json()
        assert looked_through["data"] == chart.figure.data
        assert looked_through["layout"].items() >= chart.figure.layout.items()


def test_every_chart_tells_how_to_read_it_with_n_and_interval(charts) -> None:
    for chart in charts.values():
        assert chart.heading
        assert chart.reading.endswith(".")
        assert "n = " in chart.caption
        assert "interval" in chart.caption
        assert chart.keys
        assert chart.table.rows
        assert all(len(row) == len(chart.table.columns) for row in chart.table.rows)
        assert chart.heights[0] > 150
        assert chart.heights[1] > 150
