"""The command line: bad input gets one sentence and exit code 2, and nothing is written."""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from synthetic import synthetic_study, write_results

from study.data import load_data
from study.driver.design import detectable, warnings_of
from study.engine.slots import EngineError, Slots, plan_slots
from study.findings import read_findings
from study.listeners.terminal import format_duration
from study.plan.cells import cells, sizes
from study.run import main
from study.specs.methods import METHODS
from study.specs.spec import StudySpec, builtin_specs, load_spec
from study.specs.tasks import TASKS
from study.store.folder import ResultsError, freeze_spec, frozen_spec
from study.store.results import load, write_frame_and_findings


def changed_nothing(folder: Path) -> bool:
    return not any(folder.iterdir())


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "quick, smoke"),
        (["--resume", "nowhere"], r"no spec\.toml"),
        (["quick", "--resume", "results/quick"], "give --resume alone"),
        (["--seed", "1", "--resume", "results/quick"], "give --resume alone"),
        (["smoke", "--replicates", "3"], "--replicates up to 3 was given; the spec plans 2"),
        (["smoke", "--replicates", "1-3", "--dry-run"], "raise replicates in the spec"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], message: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message.replace("\\", "") in captured.err
    assert changed_nothing(empty)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cpus-per-trial", "0"],
        ["--cpus-per-trial", "many"],
        ["--gpus-per-trial", "-1"],
        ["--gpus-per-trial", "1.5"],
        ["--gpus-per-trial", "nan"],
        ["--max-concurrent", "0"],
        ["--seed", "-1"],
        ["--seed", "1.5"],
        ["--seed", "x"],
        ["--seed", str(2**32)],
        ["--replicates", "0"],
        ["--replicates", "4-"],
        ["--replicates", "-4"],
        ["--replicates", "7-4"],
        ["--replicates", "1-2-3"],
        ["--replicates", "1,2"],
        ["--replicates", "1-1001"],
        ["--sd", "0"],
        ["--sd", "nan"],
        ["--unknown"],
    ],
)
def test_a_bad_option_is_usage(arguments: list[str], empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
    assert changed_nothing(empty)


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "exit codes:" in text


def test_list_names_every_builtin_study_and_how_methods_are_brought(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    studies, methods = text.split("\n\n")
    assert all(name in " ".join(methods.split()) for name in (*METHODS, 'optimizer = "lion_pytorch:Lion"'))
    entries = re.split(r"\n(?=\S)", studies)
    assert [entry.partition(":")[0] for entry in entries] == list(builtin_specs())
    for entry in entries:
        name, _, told = entry.partition(":")
        spec = load_spec(name)[0]
        assert " ".join(told.split()).endswith(spec.question)
        ends = [sum(size.runs[end] for size in sizes(spec)) for end in (0, 1)]
        assert " to ".join(f"{count:,}" for count in dict.fromkeys(ends)) in told


@pytest.mark.slow
def test_listing_imports_nothing_that_takes_seconds(empty: Path) -> None:
    heavy = "torch", "ray", "pandas", "scipy", "optuna", "sklearn", "plotly", "dashboards"
    code = f"import sys, study.run; study.run.main(['--list']); print(sorted({{*sys.modules}} & {{*{heavy}}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_dry_run_prints_the_plan_and_starts_nothing(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", "--dry-run"]) == 0
    text = capsys.readouterr().out
    totals, _, by_cell = text.partition("cell digits, each replicate")
    assert "2 of 2 replicates, each with 1 confirm seeds a pick; 1 cells" in totals
    # 2 trials × 16 steps × 100 examples at 1×, for the base and, twice that, for sam; one of the base's trials at 2×.
    assert "tune: 10 runs" in totals
    assert "estimated time" in totals
    assert "2 replicates detect a gain of " in totals
    assert "with power .8" in totals
    assert "tune     base (serves SGD last, SGD best, SWA): 2 runs, 3,200 gradient evaluations" in by_cell
    assert "tune     sam (serves SAM, WASAM): 2 runs, 6,400 gradient evaluations" in by_cell
    assert "tune     base, 2x epochs (serves SGD last, SGD best, SWA): 1 runs, 3,200 gradient evaluations" in by_cell
    assert changed_nothing(empty)


@pytest.mark.parametrize("name", builtin_specs())
def test_every_builtin_study_has_a_dry_run(
    name: str, empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.training.estimate.estimated_seconds", lambda *_: (1.0, 1.0))
    assert main([name, "--dry-run"]) == 0
    text = capsys.readouterr().out
    spec = load_spec(name)[0]
    for stage in ("tune", "confirm"):
        ends = [sum(size.runs[end] for size in sizes(spec) if size.stage == stage) for end in (0, 1)]
        assert f"{stage}: {' to '.join(f'{count:,}' for count in dict.fromkeys(ends))} runs" in text
    assert text.index("gradient evaluations: ") < text.index(" detect ") < text.index("cell ")
    assert changed_nothing(empty)


def test_a_dry_run_of_a_part_is_a_part(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", "--dry-run", "--replicates", "2"]) == 0
    text = capsys.readouterr().out
    assert "1 of 2 replicates" in text
    assert "tune: 5 runs" in text


def test_the_detectable_gain_is_that_of_scipy_at_the_familys_level(tmp_path: Path) -> None:
    """At Holm's first step of one method's family: its cells in the primary budget."""
    spec = load_spec("quick")[0]
    said = detectable(spec, tmp_path, 0.006)
    gain = float(said.partition("a gain of ")[2].partition(" ")[0])
    assert said.startswith(f"{spec.replicates} replicates detect")
    assert f"in {len(cells(spec))} cells, at a deviation of 0.006 (as stated)" in said
    freedom, level = spec.replicates - 1, spec.alpha / len(cells(spec))
    shift = gain / 0.006 * math.sqrt(spec.replicates)
    edge = stats.t.isf(level / 2, freedom)
    power = stats.nct.sf(edge, freedom, shift) + stats.nct.cdf(-edge, freedom, shift)
    assert power == pytest.approx(0.8, abs=0.01)
    assert "state yours with --sd" in detectable(spec, tmp_path, None)
    one = spec.model_copy(update={"replicates": 1, "confirms": 5})
    assert detectable(one, tmp_path, None).startswith("5 seeds of one tuning detect")
    assert "detect no gain" in detectable(one.model_copy(update={"confirms": 1}), tmp_path, None)


def test_the_deviation_is_taken_from_what_a_folder_has_measured(tmp_path: Path) -> None:
    spec, records = synthetic_study(tasks=("digits",), factors={}, trials=2)
    write_frame_and_findings(load(write_results(tmp_path, spec, records)))
    found = read_findings(tmp_path / "findings.json")
    known = sorted(e.sd for e in found.effects if e.budget == "G")
    assert f"at a deviation of {known[len(known) // 2]:.4g} (as measured in {tmp_path})" in detectable(
        spec, tmp_path, None
    )


def warned(task: str, delta: float, replicates: int = 10, **search: Any) -> list[str]:
    text = {
        "name": "mine", "question": "?", "delta": delta, "replicates": replicates, "search": {"trials": 4} | search,
        "problems": [{"task": task}],
    }  # fmt: skip
    return list(warnings_of(StudySpec.model_validate(text)))


def test_a_test_part_too_small_for_delta_is_told_before_the_first_run() -> None:
    assert warned("digits", 0.005) == []  # .015 over ten parts of 397
    (told,) = warned("digits", 0.005, replicates=1)
    assert told.startswith("the test part of digits has 397 examples, too few for δ = 0.005: ")
    assert "less than 0.0025 apart" in told
    assert "about 0.015 at a score of 0.9, of which no interval knows" in told
    (told,) = warned("wine", 0.01)
    assert "less than 0.017 apart" in told
    assert "over the 10 of them" in told
    assert warned("wine", 0.02, replicates=30) == []
    assert warned("cifar10", 0.005) == []
    assert "of which no interval knows" in warned("cifar10", 0.002)[0]  # replicates share an official part
    assert warned("diabetes", 0.001) == []  # R² is no share of examples


@pytest.mark.parametrize("task", [name for name, entry in TASKS.items() if not entry.find])
def test_the_size_of_a_test_part_is_what_the_table_says(task: str) -> None:
    assert len(load_data(task).open_test("confirm", 3)[1]) == TASKS[task].test_size


def test_other_things_that_are_seldom_meant_are_told() -> None:
    (told,) = warned("digits", 0.5)
    assert told == "δ = 0.5 was given for digits, whose accuracy is a fraction: that is 50 points."
    assert warned("diabetes", 0.5) == []
    (told,) = warned("digits", 0.005, sampler="tpe", trials=12)
    assert told == "TPE draws its first 4 trials at random, a third of 12."
    assert warned("digits", 0.005, sampler="tpe", trials=30) == []


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Let a study be opened and nothing be started."""
    asked: list[tuple[object, ...]] = []

    def refuse(*arguments: object) -> object:
        asked.append(arguments)
        raise ResultsError("no engine here.")

    monkeypatch.setattr("study.run.engine", refuse)
    return asked


def test_a_seed_makes_a_study_of_its_own_in_a_folder_of_its_own(empty: Path, no_engine: list[Any]) -> None:
    for arguments in (["smoke"], ["smoke", "--seed", "7"], ["smoke", "--seed", "0"]):
        assert main(arguments) == 2  # where the engine would start
    assert sorted(path.name for path in (empty / "results").iterdir()) == ["smoke", "smoke-seed-7"]
    first, other = (frozen_spec(empty / "results" / name) for name in ("smoke", "smoke-seed-7"))
    assert first
    assert other == first.model_copy(update={"seed": 7})
    assert other.hash != first.hash
    assert main(["smoke", "--seed", "8", "--out", "results/smoke"]) == 2
    assert frozen_spec(empty / "results" / "smoke") == first


def test_the_notes_are_told_before_the_first_run(
    empty: Path, no_engine: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    text = builtin_specs()["smoke"]
    (empty / "mine.toml").write_text(text.replace('task = "digits"', 'task = "wine"').replace("400", "60"))
    assert main(["mine.toml"]) == 2
    assert "note: the test part of wine has 58 examples" in capsys.readouterr().out
    assert main(["mine.toml", "--quiet"]) == 2
    assert capsys.readouterr().out == ""


def test_parts_of_a_study_are_run_in_one_folder(
    empty: Path, no_engine: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    monkeypatch.setattr("study.run.is_complete", lambda study: runs.append(study.agenda.planned[0]))
    for part in ("1", "2", "1-2"):
        assert main(["smoke", "--replicates", part]) == 2
    spec = load_spec("smoke")[0]
    assert frozen_spec(empty / "results" / "smoke") == spec
    assert runs[0] == runs[1] == runs[2] / 2


def test_a_folder_with_other_files_is_left_alone(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty / "thesis").mkdir()
    (empty / "thesis" / "chapter.txt").write_text("precious")
    assert main(["smoke", "--out", "thesis"]) == 2
    assert "no study" in capsys.readouterr().err
    assert [path.name for path in (empty / "thesis").iterdir()] == ["chapter.txt"]


def test_another_spec_in_the_folder_is_refused(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    freeze_spec(empty / "out", *load_spec("smoke"))
    assert main(["quick", "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert "--out" in error
    assert "--fresh" in error
    assert [path.name for path in (empty / "out").iterdir()] == ["spec.toml"]


@pytest.mark.parametrize(
    ("resources", "asked", "slots"),
    [
        ({"CPU": 2}, {}, Slots(1, 0, 2)),
        ({"CPU": 16, "GPU": 4}, {}, Slots(1, 1, 4)),
        ({"CPU": 16, "GPU": 4}, {"gpus_per_trial": 0.5}, Slots(1, 0.5, 8)),
        ({"CPU": 3, "GPU": 4}, {}, Slots(1, 1, 3)),
        ({"CPU": 8, "GPU": 4}, {"gpus_per_trial": 0, "cpus_per_trial": 2}, Slots(2, 0, 4)),
        ({"CPU": 8}, {"max_concurrent": 3}, Slots(1, 0, 3)),
        ({"CPU": 8}, {"max_concurrent": 30}, Slots(1, 0, 8)),
    ],
)
def test_slots_follow_the_cluster(resources: dict[str, float], asked: dict[str, float], slots: Slots) -> None:
    assert plan_slots(resources, **asked) == slots  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resources", "asked", "message"),
    [
        ({"CPU": 2}, {"gpus_per_trial": 1}, "--gpus-per-trial 1 was given; the cluster has 0 GPUs"),
        ({"CPU": 2}, {"cpus_per_trial": 4}, "--cpus-per-trial 4 was given; the cluster has 2 CPUs"),
    ],
)
def test_a_request_that_can_never_be_met_is_refused(
    resources: dict[str, float], asked: dict[str, float], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        plan_slots(resources, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_list_of_built_in_studies_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert all(f"{name}: " in told for name in builtin_specs())
