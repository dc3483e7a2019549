"""Calibration: what the frame holds, and nothing of what is no classification."""

import pytest
from synthetic import synthetic_study

from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.figures.kit.chart import Sources
from dashboards.figures.kit.confirmed import confirmed_runs
from dashboards.figures.training import calibration
from study.findings import find
from study.store.frame import frame_of


@pytest.fixture(scope="module")
def made():
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    findings, frame = find(spec, records, len(records)), frame_of(records)
    return findings, frame, cells_of(findings, frame)


def test_calibration_is_that_of_the_frame(made) -> None:
    findings, frame, cells = made
    data = calibration.calibrations_of(confirmed_runs(frame, findings.selections), cells)
    assert len(data) == 4 * 4
    for one in data:
        assert one.error.n == 6
        assert (one.weights == "last") == (one.method in ("SGD", "SAM"))
        assert one.error.middle == pytest.approx(sum(one.errors) / 6)
    assert calibration.lower_than(data, "SGD")["SWA"] == (4, 4)


def test_a_task_that_is_no_classification_has_no_calibration(made) -> None:
    findings, frame, cells = made
    bare = frame.assign(val_calibration_error=float("nan"), test_calibration_error=float("nan"))
    assert "calibration-error" not in charts_of(Sources(findings, bare, cells))
    assert "calibration-error" in charts_of(Sources(findings, frame, cells))
