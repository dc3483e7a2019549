"""What stands behind a verdict: gains, picks and runs, those of the findings and of the frame."""

import statistics

import pytest

from dashboards.details import MOST_UNITS, details_of
from dashboards.figures.kit.chart import Sources
from dashboards.figures.training import curves
from dashboards.score import shown
from study.store.frame import frame_of


@pytest.fixture(scope="module")
def sources(make) -> Sources:
    made = make(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=3, confirms=2)
    return Sources(made.findings, made.frame, made.cells)


@pytest.fixture(scope="module")
def details(sources) -> dict:
    with shown(sources.findings):
        return details_of(sources, curves.panels_of(sources))


def test_every_verdict_has_its_gains_and_all_of_its_baselines(sources, details) -> None:
    found = {(one["cell"], one["method"], one["budget"]): one for one in details["verdicts"]}
    assert len(found) == len(sources.findings.effects)
    for effect in sources.findings.effects:
        one = found[effect.cell, effect.method, effect.budget]
        assert one["gains"] == pytest.approx([100 * gain for gain in effect.differences], rel=1e-4, abs=1e-5)
        assert (one["units"], one["total"]) == (list(effect.units), effect.n)
        assert len(one["against"]) == len(effect.against)
        low, high, delta, mean, *_ = one["scale"]
        assert low <= min(-delta, mean) < max(delta, mean) <= high
        assert one["curves"][0] == "curves"


def test_the_runs_behind_a_gain_come_to_it(sources, details) -> None:
    """Every run is told once per contender, and the mean of its test scores is the score that the gain is made of."""
    frame = sources.frame
    scores = frame[frame["final"]].set_index(["run_id", "weights"])["test_score"]
    for one in details["verdicts"]:
        effect = next(
            e
            for e in sources.findings.effects
            if (e.cell, e.method, e.budget) == (one["cell"], one["method"], one["budget"])
        )
        for name, values in zip(one["sides"], (effect.method_values, effect.baseline_values), strict=True):
            side = details["contenders"][name]
            for unit, value in zip(effect.units, values, strict=True):
                runs = side["runs"][str(unit)]
                assert len(runs) == 2  # confirms
                assert len({run[0] for run in runs}) == 2
                assert side["picks"][unit].startswith("rate ")
                own = {run[0] for run in runs}
                assert set(frame.loc[frame["run_id"].isin(own), "stage"]) == {"confirm"}
                near = [min(abs(scores[run] - value).min() for run in own)]
                assert near[0] < 0.05
            text = statistics.fmean(
                float(run[5].removesuffix("\u202f%")) for unit in effect.units for run in side["runs"][str(unit)]
            )
            assert text == pytest.approx(100 * statistics.fmean(values), abs=0.01)


def test_gains_alone_are_told_without_runs(sources) -> None:
    with shown(sources.findings):
        bare = details_of(Sources(sources.findings, frame_of([]), sources.cells), {})
    assert bare["contenders"] == {}
    assert all(one["sides"] == ["", ""] and one["gains"] for one in bare["verdicts"])
    assert MOST_UNITS > 100
