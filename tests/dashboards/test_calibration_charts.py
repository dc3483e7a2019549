"""Confidence against accuracy: bins are pooled over seeds, intervals are those of a ratio, and regression has none."""

import numpy as np
import pytest
from synthetic import synthetic_study

from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.figures.kit.chart import Sources
from dashboards.figures.kit.confirmed import confirmed_runs
from dashboards.figures.training import calibration, reliability
from dashboards.report import build_report
from study.findings import find
from study.records import Reliability
from study.store.frame import frame_of


@pytest.fixture(scope="module")
def made():
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    findings, frame = find(spec, records, len(records)), frame_of(records)
    return findings, frame, records, cells_of(findings, frame)


def test_bins_pool_the_predictions_of_all_seeds(made) -> None:
    findings, _, records, cells = made
    counts = [(10, 30), (20, 0), (5, 35)]
    seeds = iter(counts * 1000)

    def one(record):
        first, second = next(seeds)
        measured = [
            Reliability(weights=r.weights, counts=(first, second), confidence=(0.4, 0.9), accuracy=(0.5, 0.8))
            for r in record.reliability
        ]
        return record.model_copy(update={"reliability": tuple(measured)})

    confirmed = sorted((r for r in records if r.job.stage == "confirm"), key=lambda r: (r.job.cell, r.job.seed))
    data = reliability.diagrams_of(map(one, confirmed), findings.selections, cells)
    assert {diagram.method for diagram in data} == set(findings.methods)
    for diagram in data:
        assert diagram.units == 6
        for found in diagram.bins:
            # The same accuracy on every seed, however many fall into the bin: a ratio without spread.
            assert found.accuracy == pytest.approx((0.5, 0.8)[found.part])
            assert found.ci95 == pytest.approx((found.accuracy, found.accuracy))
            assert found.confidence == pytest.approx((0.4, 0.9)[found.part])


def test_the_interval_of_a_bin_covers_the_true_accuracy() -> None:
    rng, hits, repeats = np.random.default_rng(0), 0, 400
    for _ in range(repeats):
        seeds = []
        for _ in range(6):
            count = int(rng.integers(20, 80))
            accuracy = rng.binomial(count, 0.8) / count
            seeds.append(Reliability(weights="last", counts=(count,), confidence=(0.9,), accuracy=(accuracy,)))
        (found,) = reliability._bins([*enumerate(seeds)])
        hits += found.ci95[0] <= 0.8 <= found.ci95[1]
    assert 0.91 <= hits / repeats <= 0.99


def test_overconfidence_is_the_gap_that_was_put_in(made) -> None:
    findings, _, records, cells = made
    data = reliability.diagrams_of(records, findings.selections, cells)
    by_method = {(d.cell, d.method): d.overconfidence for d in data}
    assert all(gap > 0 for gap in by_method.values())
    cell = data[0].cell
    assert by_method[cell, "SWA"] < by_method[cell, "SGD"]


def test_bins_with_few_predictions_are_not_drawn() -> None:
    sparse = reliability.Bin(0, 5, 0.1, 0.5, (0.0, 1.0))
    full = reliability.Bin(1, 995, 0.9, 0.9, (0.8, 1.0))
    diagram = reliability.Diagram("a", "SGD", "last", 1, (sparse, full))
    assert diagram.shown == (full,)
    assert diagram.overconfidence == pytest.approx(-0.002)


def test_calibration_is_that_of_the_frame(made) -> None:
    findings, frame, _, cells = made
    runs = confirmed_runs(frame, findings.selections)
    data = calibration.calibrations_of(runs, cells)
    assert len(data) == 4 * 4
    for one in data:
        assert one.error.n == 6
        assert (one.weights == "last") == (one.method in ("SGD", "SAM"))
        assert one.error.mean == pytest.approx(sum(one.errors) / 6)
    assert calibration.lower_than(data, "SGD")["SWA"] == (4, 4)


@pytest.mark.slow
def test_a_task_that_is_no_classification_has_no_calibration(made) -> None:
    findings, frame, records, cells = made
    bare = frame.assign(val_calibration_error=float("nan"), test_calibration_error=float("nan"))
    silent = [record.model_copy(update={"reliability": ()}) for record in records]
    assert not {"reliability", "calibration-error"} & charts_of(Sources(findings, bare, cells, silent)).keys()
    page = build_report(findings, bare, records=silent)
    assert 'href="#calibration"' not in page
    assert 'href="#calibration"' in build_report(findings, frame, records=records)
