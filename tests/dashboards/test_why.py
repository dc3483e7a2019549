"""The descriptive charts: probes and lines, and what is absent without them."""

import math

import pytest
from synthetic import synthetic_lines, synthetic_study

from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.figures import dots, lines, sharpness
from dashboards.report import build_report
from study.findings import find
from study.records import Probe, frame_of


@pytest.fixture(scope="module")
def probed():
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    measured = synthetic_lines(records, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    return find(spec, records, len(records), measured), frame_of(records), records, measured


def test_sharpness_is_that_of_the_weights_that_stand_for_a_method(probed) -> None:
    findings, frame, records, _ = probed
    data = sharpness.sharpness_of(records, findings.selections, cells_of(findings, frame))
    assert {s.method for s in data} == {"SGD", "SWA", "SAM", "WASAM"}
    assert all((s.weights == "last") == (s.method in ("SGD", "SAM")) for s in data)
    for s in data:
        assert s.ci95[0] < s.mean < s.ci95[1]
        assert s.mean == pytest.approx(math.exp(sum(map(math.log, s.values)) / len(s.values)))
    ratios = sharpness.against_baseline(data, "top_eigenvalue")
    assert {method: round(times, 1) for method, (times, _) in ratios.items()} == {"SWA": 0.5, "SAM": 0.5, "WASAM": 0.2}


def test_a_probe_that_is_not_above_zero_takes_the_mean_with_it(probed) -> None:
    findings, frame, records, _ = probed
    flat = [
        record.model_copy(update={"probes": (*record.probes, Probe(weights="last", name="average_case_rise", value=v))})
        for record, v in zip(records, [0.1, -0.1, 0.0] * len(records), strict=False)
    ]
    data = sharpness.sharpness_of(flat, findings.selections, cells_of(findings, frame))
    rises = [s for s in data if s.measure == "average_case_rise"]
    assert all(math.isnan(s.mean) == (min(s.values) <= 0) for s in rises)
    assert any(math.isnan(s.mean) for s in rises)
    figure, narrow = sharpness.figure_of(data)
    assert figure.layout.xaxis2.type == "log"
    assert narrow["height"] > figure.layout.height


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(7, 60, [10, 20, 50]), (0.9, 1.1, [1]), (1e-5, 1, [1e-5, 1e-3, 1e-1]), (1.2, 1.8, [])],
)
def test_log_axes_have_few_round_ticks(low: float, high: float, wanted: list[float]) -> None:
    found = dots.ticks(low, high)
    assert len(found) <= 5
    assert found == pytest.approx(wanted) or len(found) > 1


def test_lines_are_grouped_with_their_barrier(probed) -> None:
    findings, frame, _, measured = probed
    ways = lines.ways_of(measured, cells_of(findings, frame))
    assert [(way.start, way.end) for way in ways[:2]] == [("SGD", "SWA"), ("SGD", "SAM")]
    assert {way.barrier.n for way in ways} == {6}
    for way in ways:
        assert way.barrier.mean == pytest.approx(0.6 if way.end == "SAM" else 0.0, abs=0.03)
        assert len(lines.mean_of(way.train)) == len(way.alphas) == 11


def test_why_is_there_with_data_and_absent_without(probed) -> None:
    findings, frame, records, measured = probed
    cells = cells_of(findings, frame)
    assert {"sharpness", "lines"} <= set(charts_of(findings, frame, cells, records, measured))
    page = build_report(findings, frame, records=records, lines=measured)
    assert 'id="why"' in page
    assert page == build_report(findings, frame, records=list(records), lines=list(measured))
    bare = build_report(findings, frame)
    assert 'id="why"' not in bare
    assert 'href="#why"' not in bare
    for id_ in ("sharpness", "lines"):
        chart = charts_of(findings, frame, cells, records, measured)[id_]
        assert "n = 6" in chart.caption
        assert "interval" in chart.caption
        assert "Descriptive" in chart.caption
