"""The descriptive charts: probes and lines, and what is absent without them."""

import math
from dataclasses import replace

import pytest
from synthetic import synthetic_lines, synthetic_plane, synthetic_study

from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Sources
from dashboards.figures.kit.confirmed import records_by_method
from dashboards.figures.why import lines, plane, relation, sharpness
from dashboards.report import build_report
from dashboards.score import score_of
from study.findings import find
from study.records import Probe
from study.stats import robust_slopes
from study.stats.typical import MEAN
from study.store.frame import frame_of


@pytest.fixture(scope="module")
def probed():
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    measured = synthetic_lines(records, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    return find(spec, records, len(records), measured), frame_of(records), records, measured


def test_plotly_accepts_every_property_of_every_figure(probed) -> None:
    findings, frame, records, measured = probed
    charts = charts_of(
        Sources(findings, frame, cells_of(findings, frame), records, measured, [synthetic_plane(records[0].job.cell)])
    )
    assert {"sharpness", "relation", "lines", "plane"} <= charts.keys()
    for chart in charts.values():
        looked_through = chart.figure.as_plotly().to_plotly_json()
        assert looked_through["data"] == chart.figure.data
        assert looked_through["layout"].items() >= chart.figure.layout.items()


def test_sharpness_is_that_of_the_weights_that_stand_for_a_method(probed) -> None:
    findings, frame, records, _ = probed
    data = sharpness.sharpness_of(records_by_method(records, findings.selections), cells_of(findings, frame))
    assert {s.method for s in data} == {"SGD", "SWA", "SAM", "WASAM"}
    assert all((s.weights == "last") == (s.method in ("SGD", "SAM")) for s in data)
    for s in data:
        assert s.ci95[0] < s.mean < s.ci95[1]
        assert s.mean == pytest.approx(math.exp(sum(map(math.log, s.values)) / len(s.values)))
    ratios = sharpness.against_baseline(data, "top_eigenvalue")
    assert {method: round(times, 1) for method, (times, _) in ratios.items()} == {"SWA": 0.5, "SAM": 0.5, "WASAM": 0.3}


def test_a_probe_that_is_not_above_zero_takes_the_mean_with_it(probed) -> None:
    findings, frame, records, _ = probed
    flat = [
        record.model_copy(update={"probes": (*record.probes, Probe(weights="last", name="average_case_rise", value=v))})
        for record, v in zip(records, [0.1, -0.1, 0.0] * len(records), strict=False)
    ]
    data = sharpness.sharpness_of(records_by_method(flat, findings.selections), cells_of(findings, frame))
    rises = [s for s in data if s.measure == "average_case_rise"]
    assert all(math.isnan(s.mean) == (min(s.values) <= 0) for s in rises)
    assert any(math.isnan(s.mean) for s in rises)
    figure = sharpness.figure_of(data, score_of(findings))
    assert figure.layout["xaxis2"]["type"] == "log"
    assert figure.narrow["height"] > figure.layout["height"]


def test_the_trace_stands_beside_the_eigenvalue_with_its_own_error(probed) -> None:
    findings, frame, records, _ = probed
    assert list(sharpness.MEASURES)[:2] == ["top_eigenvalue", "trace"]
    trace = Probe(weights="last", name="trace", value=200.0, low=180.0, high=220.0)
    traced = [r.model_copy(update={"probes": (*r.probes, trace)}) for r in records if r.job.stage == "confirm"]
    assert sharpness.trace_error(traced) == pytest.approx(0.1)
    assert sharpness.trace_error(records) is None
    chart = charts_of(Sources(findings, frame, cells_of(findings, frame), traced))["sharpness"]
    assert "±10\u202f%" in chart.caption


def test_gain_and_sharpness_come_from_different_replicates(probed) -> None:
    findings, frame, records, _ = probed
    cells = cells_of(findings, frame)
    relations = relation.relations_of(findings, records_by_method(records, findings.selections), cells, MEAN)
    assert [r.method for r in relations] == ["SWA", "SAM", "WASAM"]
    effect = next(e for e in findings.effects if (e.method, e.budget) == ("SAM", "E"))
    point = next(p for p in relations[1].points if p.cell == cells[effect.cell].label)
    assert point.units == (3, 3)
    assert point.gain == pytest.approx(sum(effect.differences[1::2]) / 3)
    assert point.ratio == pytest.approx(0.5, abs=0.1)
    # A changed sharpness in the gain's own replicates moves nothing.
    others = set(effect.units[1::2])
    spoiled = [r if r.job.replicate not in others else r.model_copy(update={"probes": ()}) for r in records]
    assert relation.relations_of(findings, records_by_method(spoiled, findings.selections), cells, MEAN) == relations


def test_a_relation_within_a_method_takes_six_problems(probed) -> None:
    findings, frame, records, _ = probed
    few = relation.relations_of(
        findings, records_by_method(records, findings.selections), cells_of(findings, frame), MEAN
    )
    assert all(r.slope is None for r in few)
    chart = charts_of(Sources(findings, frame, cells_of(findings, frame), records))["relation"]
    assert "too few" in chart.heading
    assert "No relation within a method is shown for SWA, SAM and WASAM" in chart.caption
    ratios, rates = [0.5, 0.7, 0.4, 0.9, 0.6, 0.3, 0.8], [1.0, 2.0, 0.5, 1.5, 0.8, 1.2, 3.0]
    points = [
        relation.Point(str(i), "SAM", ratio, -0.01 * math.log2(ratio) + 0.02 * math.log10(rate), rate, (3, 3))
        for i, (ratio, rate) in enumerate(zip(ratios, rates, strict=True))
    ]
    assert relation.adjusted_slope(points[:5]) is None
    found = relation.adjusted_slope(points)
    assert found is not None
    assert found.slope == pytest.approx(-0.01)  # the learning rate's own part is taken out
    alone = robust_slopes([p.gain for p in points], [[math.log2(p.ratio) for p in points]])[0]
    assert alone.slope != pytest.approx(-0.01, abs=1e-4)
    same = [replace(p, rate=1.0) for p in points]
    assert (
        relation.adjusted_slope(same) == robust_slopes([p.gain for p in same], [[math.log2(p.ratio) for p in same]])[0]
    )


def test_a_plane_tells_which_method_lies_nearest_to_its_lowest_test_loss(probed) -> None:
    findings, frame, _, _ = probed
    cells = cells_of(findings, frame)
    names = list(cells)
    records = [synthetic_plane(names[1], (2.0, 0.0)), synthetic_plane(names[0])]
    data = plane.planes_of(records, cells)
    assert [one.cell for one in data] == names[:2]
    assert list(map(plane.nearest_to_lowest_test, data)) == ["SWA", "SAM"]
    assert plane.off_plane(data[0]) == pytest.approx(
        0.25
    )  # half of the points lie further than .5 away; the corners span 2
    chart = charts_of(Sources(findings, frame, cells, planes=records))["plane"]
    assert chart.heading.endswith("lies nearest to SWA in 1 and SAM in 1 of 2 planes")
    assert "40\u202f% of their variance" in chart.caption
    assert len(chart.table.rows) == 2 * (4 * 3 + 3 + 2)
    relief = [trace for trace in chart.figure.data if trace["type"] == "contour"]
    assert len(relief) == 4
    assert relief[0]["z"][2][2] == pytest.approx(-1)  # log10 of .1, at (1, 1)


def test_planes_without_trajectories_or_with_losses_of_zero_are_drawn(probed) -> None:
    findings, frame, _, _ = probed
    cells = cells_of(findings, frame)
    bare = synthetic_plane(
        next(iter(cells)), trajectories={}, off_plane={}, captured=None, train_losses=((0.0,) * 4,) * 3
    )
    chart = charts_of(Sources(findings, frame, cells, planes=[bare]))["plane"]
    assert "variance" not in chart.caption
    assert {v for row in chart.figure.data[0]["z"] for v in row} == {0.0}
    elsewhere = synthetic_plane("another study's cell")
    assert "plane" not in charts_of(Sources(findings, frame, cells, planes=[elsewhere]))


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(7, 60, [10, 20, 50]), (0.9, 1.1, [1]), (1e-5, 1, [1e-5, 1e-3, 1e-1]), (1.2, 1.8, [])],
)
def test_log_axes_have_few_round_ticks(low: float, high: float, wanted: list[float]) -> None:
    found = dots.ticks(low, high)
    assert len(found) <= 5
    assert found == pytest.approx(wanted) or len(found) > 1


def test_small_and_large_ticks_are_powers_of_ten() -> None:
    words = [dots.tick_words(value) for value in (3e-6, 1e-4, 0.001, 50, 2e5)]
    assert words == ["3·10⁻⁶", "10⁻⁴", "0.001", "50", "2·10⁵"]


def test_lines_are_grouped_with_their_barrier(probed) -> None:
    findings, frame, _, measured = probed
    ways = lines.ways_of(measured, cells_of(findings, frame))
    assert [(way.start, way.end) for way in ways[:2]] == [("SGD", "SWA"), ("SGD", "SAM")]
    assert {way.barrier.n for way in ways} == {6}
    for way in ways:
        assert way.barrier.middle == pytest.approx(0.6 if way.end == "SAM" else 0.0, abs=0.03)
        assert len(way.middle_train) == len(way.alphas) == 11


def test_why_is_there_with_data_and_absent_without(probed) -> None:
    findings, frame, records, measured = probed
    cells = cells_of(findings, frame)
    assert {"sharpness", "lines"} <= set(charts_of(Sources(findings, frame, cells, records, measured)))
    page = build_report(findings, frame, records=records, lines=measured)
    assert page == build_report(findings, frame, records=list(records), lines=list(measured))
    bare = build_report(findings, frame)
    assert 'id="sharpness"' in page
    assert 'id="sharpness"' not in bare
    assert 'id="minima"' in page
    for id_ in ("sharpness", "lines"):
        chart = charts_of(Sources(findings, frame, cells, records, measured))[id_]
        assert "n = 6" in chart.caption
        assert ("quartiles" if id_ == "lines" else "interval") in chart.caption
        assert "Descriptive" in chart.caption
