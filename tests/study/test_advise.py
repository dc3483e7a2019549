"""Advice is as good as it says: skill where features tell, none where they don't, and intervals that hold."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_atlas import TASKS, simulated

from study.advise import main, measured, measured_features, probe_spec
from study.atlas.advice import COVERAGE, predict, validate
from study.atlas.cell_means import cell_means
from study.atlas.features import FEATURES
from study.atlas.verdicts import DELTA
from study.plan.cells import cells
from study.specs.spec import load_spec, parse_spec

MANY = (*TASKS, "fashion", "shuttle", "satellite", "characters")
SPEC = """
name = "mine"
question = "?"
methods = ["SGD", "SWA", "EMA", "SAM", "WASAM"]
[search]
trials = 6
[[problems]]
task = "digits"
factors.label_noise = 0.3
factors.train_size = 60
factors.epochs = 4
factors.batch_size = 20
factors.width = 0.25
"""


def atlas(**settings: Any) -> pd.DataFrame:
    """Make a simulated atlas of ten tasks with gains of SAM alone."""
    return simulated(**({"tasks": MANY, "methods": ["SAM"]} | settings))


def test_where_features_tell_the_advice_has_skill_and_its_intervals_hold() -> None:
    found = validate(cell_means(atlas(by_feature=0.02, by_task=0.002), "SAM"))
    assert found is not None
    assert (found.tasks, found.cells) == (10, 80)
    assert found.skilled
    assert found.error < found.error_of_mean / 2
    assert 0.7 <= found.coverage <= 0.95


def test_where_they_do_not_it_says_the_mean() -> None:
    for seed in range(3):
        found = validate(cell_means(atlas(seed=seed, by_task=0.01), "SAM"))
        assert found is not None
        assert found.error == pytest.approx(found.error_of_mean, rel=0.1)


def test_validation_is_advice_from_an_atlas_without_the_task() -> None:
    cells = cell_means(atlas(by_feature=0.01, by_task=0.005), "SAM")
    found = validate(cells)
    assert found is not None
    squares, inside = [], []
    for task, own in cells.groupby("task"):
        others = cells[cells["task"] != task]
        for row in own.to_dict("records"):
            asked = predict(others, {name: row[name] for name in FEATURES})
            assert asked is not None
            squares.append((asked.gain - row["crossed_even"]) ** 2)
            inside.append(asked.low <= row["crossed_even"] <= asked.high)
    assert found.error == pytest.approx(math.sqrt(np.mean(squares)))
    assert found.coverage == pytest.approx(np.mean(inside))


def test_skill_is_seldom_shown_where_there_is_none() -> None:
    found = [validate(cell_means(atlas(seed=seed, by_task=0.01), "SAM")) for seed in range(12)]
    assert sum(one.skilled for one in found if one) <= 2  # of 12 at 5 %


def test_intervals_hold_four_in_five_on_average() -> None:
    found = [validate(cell_means(atlas(seed=seed, by_feature=0.01), "SAM")) for seed in range(6)]
    coverage = float(np.mean([one.coverage for one in found if one]))
    assert 0.7 <= coverage <= 0.9
    assert COVERAGE == 0.8


def test_a_prediction_is_near_the_truth_and_names_what_it_resembles() -> None:
    known = cell_means(atlas(by_feature=0.02, by_task=0.001, mean=0.01), "SAM")
    found = predict(known, {"score_gap": 1.5})
    assert found is not None
    assert found.gain == pytest.approx(0.04, abs=0.006)
    assert found.low < 0.04 < found.high
    assert found.of_mean == pytest.approx(known["gain"].mean(), abs=0.004)
    assert len(found.neighbours) == len({one.task for one in found.neighbours}) == 3
    for one in found.neighbours:
        (gap,) = known.loc[known["cell"] == one.cell, "score_gap"]
        assert abs(gap - 1.5) < 1
        assert one.alike == (FEATURES["score_gap"],)
    gaps = [abs(known.loc[known["cell"] == one.cell, "score_gap"].iloc[0] - 1.5) for one in found.neighbours]
    assert gaps == sorted(gaps)


def test_nothing_known_is_the_mean_and_few_tasks_are_nothing() -> None:
    known = cell_means(atlas(by_feature=0.02), "SAM")
    found = predict(known, {})
    assert found is not None
    assert found.gain == pytest.approx(found.of_mean)
    assert found.neighbours == ()
    few = cell_means(atlas(tasks=MANY[:4]), "SAM")
    assert predict(few, {"score_gap": 0.0}) is None
    assert validate(few) is None
    assert validate(cell_means(atlas(tasks=MANY[:5]), "SAM")) is None
    assert predict(few.iloc[:0], {}) is None


def test_every_task_counts_alike_however_many_cells_it_has() -> None:
    frame = atlas(by_task=0.02, tasks=MANY[:6])
    once = predict(cell_means(frame, "SAM"), {})
    twin = frame[frame["task"] == MANY[0]].assign(cell=lambda rows: rows["cell"] + " again")
    twice = predict(cell_means(pd.concat([frame, twin], ignore_index=True), "SAM"), {})
    assert once is not None
    assert twice is not None
    assert twice.of_mean == pytest.approx(once.of_mean)


def test_the_probe_runs_the_baseline_alone_and_measures_the_features_of_the_atlas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("study.advise._TRIALS", 2)
    small = probe_spec(parse_spec(SPEC, "mine"))
    evidence = measured(small)
    assert {family for _, _, family, _ in evidence.tuned} == {"base"}
    assert {length for *_, length in evidence.tuned} == {1.0}
    (cell,) = cells(small)
    features = measured_features(evidence, cell)
    assert {*FEATURES} - {*features} <= {"rise", "sharpness"}  # of which a short run may have none above 0
    assert all(map(math.isfinite, features.values()))
    assert 0 <= features["memorized"] <= 1
    assert measured_features(measured(small), cell) == features


@pytest.mark.parametrize("name", ["quick", "atlas/characters", "domains"])
def test_a_probe_is_a_valid_study_of_few_runs(name: str) -> None:
    small = probe_spec(load_spec(name)[0])
    again = type(small).model_validate(small.model_dump(mode="json"))
    assert again.hash == small.hash
    assert (small.replicates, small.search.trials, small.features) == (2, 4, True)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text(SPEC)
    return path


@pytest.mark.parametrize(
    ("mean", "advice"), [(0.04, "use it"), (-0.02, "don't"), (DELTA, "run the study")]
)  # fmt: skip
def test_the_command_says_what_to_do_and_never_that_it_helps(
    mine: Path, mean: float, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("study.advise.load_gains", lambda _: atlas(mean=mean, by_task=0.004))
    monkeypatch.setattr("study.advise._TRIALS", 1)
    assert main([str(mine)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith("This advice has no skill")
    assert f"| {advice} |" in said
    assert "It resembles " in said
    assert f"python -m study.run {mine}" in said
    assert "helps" not in said.replace("What helps on yours", "")


def test_skill_is_said_in_the_first_line(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("study.advise.load_gains", lambda _: atlas(by_feature=0.02, by_task=0.002))
    monkeypatch.setattr("study.advise._TRIALS", 1)
    assert main([str(mine)]) == 0
    assert capsys.readouterr().out.startswith('For tasks that were left out, this advice beats "always the mean"')


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "no task was given"),
        (["nothing.py"], "there is no nothing.py: give the spec of a study, or begin with `python -m study.new"),
        (["nothing.toml"], "it must be a TOML file or one of"),
        (["mine.toml", "--parts", "none"], "has 0 tasks; advice needs at least 5"),
    ],
)
def test_what_can_not_be_advised_is_a_sentence(
    given: list[str], reason: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine.is_file()
    assert main(given) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def test_a_score_in_another_unit_gets_none(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("study.advise.load_gains", lambda _: atlas())
    monkeypatch.setattr("study.advise._TRIALS", 1)
    text = SPEC.replace('"digits"', '"diabetes"').replace("factors.label_noise = 0.3\n", "")
    mine.write_text(text)
    assert main([str(mine)]) == 2
    assert "whose score is R²" in capsys.readouterr().err


def test_the_help_says_how_good_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert main(["--validation"]) == 0
    assert capsys.readouterr().out.strip() in said


def test_advice_that_could_not_be_tried_says_so_in_the_first_line(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("study.advise.load_gains", lambda _: atlas(tasks=MANY[:5]))
    monkeypatch.setattr("study.advise._TRIALS", 1)
    assert main([str(mine)]) == 0
    assert capsys.readouterr().out.startswith("This advice could not be tried: that takes at least 6 tasks")
