"""The command line: bad input gets one sentence and exit code 2, and nothing is written."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from study.engine.slots import EngineError, Slots, plan_slots, plan_threads
from study.listeners.terminal import format_duration
from study.run import main
from study.specs.spec import load_spec
from study.store.folder import freeze_spec
from study.training.estimate import step_times_by_threads


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


def test_list_names_every_builtin_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert "quick" in text
    assert "smoke" in text


def test_a_dry_run_prints_the_plan_and_starts_nothing(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "cell digits" in text
    # 2 trials × 16 steps × 100 examples, once for the base, twice for sam and the longer baseline.
    assert "2 runs, 3,200 gradient evaluations" in text
    assert "2 runs, 6,400 gradient evaluations" in text
    assert "estimated time" in text
    assert changed_nothing(empty)


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
    ("cpus", "runs", "most", "gain", "chosen"),
    [
        (8, 100, None, 1.0, 1),  # every CPU has a run of its own, whatever threads would gain
        (8, 100, 20, 1.0, 1),
        (8, 2, None, 1.0, 4),  # two runs: threads that gain in full fill the machine
        (8, 100, 3, 1.0, 4),
        (8, 2, None, 0.0, 1),  # a step that threads don't speed up
        (8, 1, None, 1.0, 8),
        (1, 1, None, 1.0, 1),
    ],
)
def test_threads_fill_what_runs_leave_idle(cpus: int, runs: int, most: int | None, gain: float, chosen: int) -> None:
    asked: list[Sequence[int]] = []

    def times(counts: Sequence[int]) -> dict[int, float]:
        asked.append(counts)
        return {count: count**-gain for count in counts}

    found, why = plan_threads(cpus, runs, most, times)
    assert found == chosen
    assert len(asked) == bool(why) == (min(runs, most or runs) < cpus)


@pytest.mark.slow
def test_a_step_is_timed_on_every_number_of_threads() -> None:
    before = torch.get_num_threads()
    found = step_times_by_threads(load_spec("smoke")[0], [1, 2])
    assert found[1] == 1
    assert found[2] > 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
