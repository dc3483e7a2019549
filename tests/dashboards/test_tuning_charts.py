"""What was searched and what tuning buys: the numbers behind those figures, and what is absent without data."""

import json
import math
from dataclasses import replace

import pytest
from synthetic import HOSTILE, renamed, synthetic_study

from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.figures.kit.chart import Sources
from dashboards.figures.kit.tried import NO_AVERAGE, runs_in, start_words, tried_of
from dashboards.figures.tuning import best_of, importance, parallel, radii
from dashboards.score import Score
from study.findings import find
from study.stats import TuningCurve
from study.store.frame import frame_of

ACCURACY = Score("accuracy", share=True)


@pytest.fixture(scope="module")
def made(make):
    return make(tasks=["digits"], trials=20)


def test_every_tune_run_is_there_with_the_weights_that_validation_prefers(made) -> None:
    tried = tried_of(made.frame)
    tune = made.frame[(made.frame["stage"] == "tune") & (made.frame["epochs_factor"] == 1)]
    assert len(tried) == tune["run_id"].nunique()
    run, *_ = runs_in(tried)
    number = tried["run"].iloc[0]
    rows = tune[tune["final"] & (tune["run_id"] == sorted(tune["run_id"].unique())[number])]
    assert run.score == rows["val_score"].max()


def test_weights_without_an_average_win_ties(made) -> None:
    level = made.frame.assign(val_score=0.5)
    assert set(tried_of(level)["start"]) == {NO_AVERAGE}
    assert tried_of(frame_of([])).empty


def test_a_start_is_a_share_or_none() -> None:
    assert start_words(NO_AVERAGE) == "none"
    assert start_words(0.75) == "75\u202f%"


def test_rho_zero_stands_apart_on_its_axis() -> None:
    axis = radii.radii_of([0.0, 0.01, 1.0])
    assert axis.at(0.0) < axis.at(0.01) < axis.at(0.1) < axis.at(1.0) == 0.0
    assert axis.share(0.0) == 0
    assert axis.share(1.0) == 1
    assert not radii.radii_of([0.1]).zero
    assert 0 <= radii.radii_of([]).share(0.1) <= 1


def test_the_best_quarter_is_the_best_quarter(made) -> None:
    for bundle in parallel.bundles_of(tried_of(made.frame), made.cells):
        scores = bundle.runs["score"]
        best, rest = scores[scores >= bundle.cut], scores[scores < bundle.cut]
        assert len(best) >= math.ceil(len(scores) / 4)
        assert min(best) > max(rest, default=-1.0)
    tally = parallel.best_families(parallel.bundles_of(tried_of(made.frame), made.cells))
    assert {family: total for family, (_, total) in tally.items()} == {
        "base": 480,
        "sam": 480,
    }  # 4 cells × 20 trials × 6 replicates


def test_lines_across_settings_wait_for_twenty_trials(made, make) -> None:
    assert parallel.chart_of(Sources(made.findings, made.frame, made.cells)) is not None
    few = make(tasks=["digits"], factors={}, trials=19, replicates=2)
    assert parallel.chart_of(Sources(few.findings, few.frame, few.cells)) is None


def test_weight_decay_has_an_axis_where_it_is_searched(make, made) -> None:
    runs = tried_of(made.frame)
    assert [setting.name for setting in parallel.settings_of(runs)] == ["learning rate", "rho"]
    decayed = runs.assign(weight_decay=[10.0 ** -(1 + trial % 3) for trial in runs["trial"]])
    settings = parallel.settings_of(decayed)
    assert [setting.name for setting in settings] == ["learning rate", "rho", "weight decay"]
    assert settings[2].ends == ("0.001", "0.1")
    (bundle, *_) = parallel.bundles_of(decayed, made.cells)
    for run in runs_in(bundle.runs):
        found = parallel.heights(run, bundle, settings)
        assert all(-1e-9 <= height <= 1 + 1e-9 for height in found)
        assert found[2] == pytest.approx((2 - run.trial % 3) / 2)
        assert (found[1] == 0) == (run.rho == 0)


def curve(method: str, expected: tuple[float, ...], cost: float, factor: float = 1) -> TuningCurve:
    ks = tuple(range(1, len(expected) + 1))
    return TuningCurve(
        "a", method, factor, "qmc", ks, expected, (0.0,) * len(ks), (1.0,) * len(ks),
        tuple(k * cost for k in ks),
    )  # fmt: skip


def test_leaders_are_compared_where_all_have_been(made) -> None:
    cells = {"a": replace(next(iter(made.cells.values())), name="a", label="a")}
    findings = replace(
        made.findings,
        tuning_curves=(curve("SGD", (0.5, 0.6, 0.7, 0.71), 10.0), curve("SAM", (0.6, 0.65, 0.8, 0.9), 20.0)),
    )
    data = best_of.curves_of(findings, cells)
    assert [one.cost for one in data] == [(1, 2, 3, 4), (2, 4, 6, 8)]
    assert best_of.leaders(data) == {"SGD": 0, "SAM": 1}
    level = replace(findings, tuning_curves=(curve("SGD", (0.5,), 10.0), curve("SWA", (0.5,), 10.0)))
    assert best_of.leaders(best_of.curves_of(level, cells)) == {"SGD": 1, "SWA": 1}


def test_curves_are_the_findings(made) -> None:
    data = best_of.curves_of(made.findings, made.cells)
    assert len(data) == len(made.findings.tuning_curves)
    one = next(c for c in made.findings.tuning_curves if (c.method, c.epochs_factor) == ("SAM", 1))
    twin = next(c for c in data if (c.cell, c.name) == (made.cells[one.cell].label, "SAM"))
    assert twin.curve is one
    assert twin.cost[0] == pytest.approx(2, abs=0.2)
    figure = best_of.figure_of(data, ACCURACY)
    assert max(len(trace["x"]) for trace in figure.data) <= 300


def test_the_caption_calls_qmc_approximate(made) -> None:
    charts = charts_of(Sources(made.findings, made.frame, made.cells))
    for word in ("Approximate", "QMC", "simultaneous"):
        assert word in charts["best-of-trials"].caption


def test_importance_names_its_evaluator_and_hides_what_can_not_be_said(made, make) -> None:
    chart = charts_of(Sources(made.findings, made.frame, made.cells))["importance"]
    assert made.findings.importances[0].evaluator in chart.caption
    few = make(tasks=["digits"], factors={}, trials=2, replicates=2)
    assert importance.importances_of(few.findings) == ()
    assert importance.unknown_methods(few.findings) == ["SGD", "SWA", "SAM", "WASAM"]
    assert "importance" not in charts_of(Sources(few.findings, few.frame, few.cells))


@pytest.mark.parametrize(
    "settings",
    [{"runs": 0}, {"runs": 3}, {"failed": 1.0}, {"diverged": 1.0}, {"trials": 1}, {"replicates": 1}, {"gains": {}},
     {"methods": ["SGD", "SWA"], "budgets": ["E"], "primary_budget": "E"}, {"sampler": "tpe", "trials": 8},
     {"factors": {}}],
)  # fmt: skip
@pytest.mark.slow
def test_odd_studies_have_sensible_charts_or_none(make, settings: dict) -> None:
    made = make(**{"trials": 2, "tasks": ["digits"], "factors": {"schedule": ["cosine", "constant"]}} | settings)
    for chart in charts_of(Sources(made.findings, made.frame, made.cells)).values():
        assert "nan" not in f"{chart.heading} {chart.reading} {chart.caption}".lower().split()
        assert "n = " in chart.caption
        assert chart.figure.data


@pytest.mark.slow
def test_hostile_names_of_problems_stay_text() -> None:
    spec, records = synthetic_study(tasks=["digits"], trials=16)
    records = renamed(records)
    findings, frame = find(spec, records, len(records)), frame_of(records)
    cells = {
        name: replace(cell, label=f"{HOSTILE} {i}") for i, (name, cell) in enumerate(cells_of(findings, frame).items())
    }
    for chart in charts_of(Sources(findings, frame, cells, records)).values():
        drawn = json.dumps([chart.figure.data, chart.figure.layout])
        assert "<script" not in drawn
        assert "<a " not in drawn
