"""The whole command, from a spec to its page, with an engine that trains in this process: what a user meets at the end.

Whatever goes wrong beside the runs costs itself and one line; and what the preflight lets pass can be read again.
"""

import re
import signal
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch
from faults import inline
from markup import Page
from matrices import repeated

from dashboards.__main__ import main as dashboards
from dashboards.report import build_report
from study.driver.own_code import try_own_tasks
from study.driver.rehearsal import conclude_in_miniature
from study.findings import read_findings
from study.listeners.background import BackgroundWriter
from study.listeners.terminal import Display
from study.run import main
from study.specs.spec import builtin_specs, load_spec
from study.specs.tasks import TEST_PARTS
from study.store.folder import frozen_spec
from study.store.record_files import read_records
from study.store.results import Study
from study.tasks.source import source_of
from study.training.brought import source_or_version
from study.training.stand_ins import rehearsed, stand_in

HERE = Path(__file__).parent
SMALL = "train_size = 40, epochs = 1, batch_size = 20, ascent_batch = 5"
BUILTIN = 'task = "wine"\nfactors = { train_size = 40, epochs = 1, batch_size = 20 }'


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(tmp_path)
    pretended: dict[str, dict[str, Any]] = {
        "study.engine.cluster": {"cluster": inline.cluster},
        "study.engine.drive": {"run_agenda": inline.run_agenda, "HANG_AFTER_S": 1.0},
        "study.engine.gauges": {"Gauges": inline.Gauges},
        "study.engine.landscapes": {"measure_landscapes": lambda folder, data, landscapes: None},
    }
    for name, content in pretended.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def written(problem: str, search: str = "trials = 2", budgets: str = '["E"]') -> str:
    """Write a spec of three methods, and return its path."""
    Path("own.toml").write_text(
        f'name = "own"\nquestion = "?"\nmethods = ["SGD", "SWA", "SAM"]\nbudgets = {budgets}\nprimary_budget = "E"\n'
        f"replicates = 2\nconfirms = 1\n[search]\n{search}\n[[problems]]\n{problem}\n"
    )
    return "own.toml"


def plain(task: str = "reads_everything", more: str = "") -> str:
    return f'task = "own_tasks:{task}"\nfactors = {{ {SMALL}{more} }}'


def ended_well(capsys: pytest.CaptureFixture[str]) -> Path:
    """Make sure that a folder is whole, and is read again by both commands."""
    folder = Path("results/own")
    capsys.readouterr()
    assert {path.name for path in folder.iterdir()} >= {"runs.parquet", "findings.json", "report.html", "spec.toml"}
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    of_a_killed_start = folder / "ray" / "own-20260101-000000-1" / "0a1b2c3d" / "checkpoint_000000" / "run.pt"
    of_a_killed_start.parent.mkdir(parents=True)
    of_a_killed_start.touch()
    assert main(["--resume", str(folder)]) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert not of_a_killed_start.parent.exists()
    (folder / "report.html").unlink()
    assert dashboards([str(folder)]) == 0
    assert (folder / "report.html").read_bytes() == page
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "search"),
    [
        (
            ', label_noise = ["pairs", "none"], kind = "x=1 k=2", flag = true, width = -1.5, depth = 9007199254740992',
            "trials = 3\naverage_start = 0.75\nrho = 0.05",
        ),
        ("", "trials = 2\naverage_start = { low = 0.66666, high = 0.66667 }\nlearning_rate = 0.1"),
    ],
)
def test_what_a_spec_may_hold_ends_in_a_page(more: str, search: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(plain(more=more), search, '["E", "G", "T"]')]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("in miniature") == 1
    folder = ended_well(capsys)
    runs = len(list((folder / "tensorboard").iterdir()))
    assert runs == len(read_records(folder)) == pd.read_parquet(folder / "runs.parquet")["run_id"].nunique()
    assert (folder / "optuna.db").stat().st_size > 0


@pytest.mark.slow
def test_a_loop_beside_a_task_ends_in_a_page_that_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    factors = "factors = { train_size = 40, epochs = 2, batch_size = 20 }"
    spec = written(f'task = "own_loops:run"\n{factors}\n[[problems]]\ntask = "own_loops:twin_task"\n{factors}')
    assert main([spec]) == 0
    said = capsys.readouterr()
    assert "own_loops:run speak of what the loop's own code tests on" in " ".join(said.out.split())
    assert "OWN LOOP: own_loops:run is a loop of its own" in " ".join(said.out.split())
    folder = ended_well(capsys)
    held = frozen_spec(folder)
    assert held
    assert held.loops == {"own_loops:run": ("last", "best", "swa")}
    assert held.test_parts == {"own_loops:run": "loop", "own_loops:twin_task": "anew"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "its weights are neither probed nor compared along lines" in page
    frame = pd.read_parquet(folder / "runs.parquet")
    of_loop = frame[frame["task"] == "own_loops:run"]
    assert (
        of_loop.groupby("run_id")["test_score"].count() == (of_loop.groupby("run_id")["stage"].first() == "confirm")
    ).all()


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (plain(more=", seed = 7"), "factors.seed was given"),
        (plain(more=', depth = [2, "deep"]'), "numbers and texts"),
        (plain(more=", depth = [1, true]"), "numbers and truth values"),
        (plain(more=", depth = 9007199254740993"), "9007199254740993"),
        (plain(more=", depth = [inf]"), "inf is none of the values"),
        (plain(more=", depth = [[1, 2], [3]]"), "[1, 2] is none of the values"),
        (plain(more=", depth = 1979-05-27"), "give it as a text"),
        (plain(more=", depth = 1") + "\n[[problems]]\n" + plain("pairs", ', depth = "1"'), "numbers in"),
    ],
)
def test_what_no_file_can_hold_is_refused_before_anything(
    problem: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([written(problem)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["own.toml"]


@pytest.mark.slow
def test_the_findings_say_what_the_preflight_found() -> None:
    assert main([written(plain("drawn")), "--no-report"]) == 0
    folder = Path("results/own")
    spec = frozen_spec(folder)
    assert spec
    assert spec.test_parts == {"own_tasks:drawn": "anew"}
    assert read_findings(folder / "findings.json").scopes == {"own_tasks:drawn": TEST_PARTS["anew"]}
    text = (folder / "spec.toml").read_text()
    Path("again.toml").write_text(text.replace('"anew"', '"same"'))  # one that was copied from a folder is tried anew
    assert main(["again.toml", "--no-report", "--out", "other"]) == 0
    assert (Path("other") / "spec.toml").read_text() == text


@pytest.mark.parametrize(
    ("where", "told"),
    [("cell", "kind=bad"), ("stage", "the confirm stage of SGD, SWA"), ("family", "the tune stage of SAM")],
)
def test_what_is_wrong_in_one_place_alone_is_found_before_the_first_run(
    where: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import own_tasks  # noqa: PLC0415  # on the path inside a test alone

    def build(seed: int, factors: dict[str, Any]) -> Any:
        if where == "cell" and factors["kind"] == "bad":
            raise KeyError("bad")
        return {
            "cell": own_tasks.tensors, "stage": own_tasks.raises_in_test, "family": own_tasks.allows_one_pass
        }[where](seed, factors)  # fmt: skip

    monkeypatch.setattr(own_tasks, "fussy", build, raising=False)
    assert main([written(plain("fussy", ', kind = ["good", "bad"]'))]) == 2
    said = capsys.readouterr().err
    assert told in said.splitlines()[-1]
    assert "own_tasks.py" in said or "test_without_ray.py" in said
    assert not Path("results").exists()


def test_wherever_a_task_goes_the_study_stays() -> None:
    here = Path.cwd()
    try_own_tasks(load_spec(written(plain("walks_away")))[0], lambda text: None, None)
    assert Path.cwd() == here


def broken(*_: Any, **__: Any) -> None:
    """Stand for anything that fails."""
    raise RuntimeError("no such thing\nand more")


@pytest.mark.parametrize("moment", ["__init__", "started", "finished", "tick", "close"])
def test_listeners_that_fail_at_any_moment_cost_a_line_each(
    moment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opens_nothing = {BackgroundWriter} if moment == "__init__" else set()
    listeners = {Display, BackgroundWriter, inline.Gauges} - opens_nothing
    for listener in listeners:
        monkeypatch.setattr(listener, moment, broken)
    assert main([written(BUILTIN), "--no-report"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(listeners)
    assert all(re.search("failed and is left .*; the study goes on: no such thing$", line) for line in lines)
    assert Path("results/own/findings.json").exists()


@pytest.mark.parametrize(
    ("place", "view"),
    [
        ("study.listeners.tensorboard.TensorBoardLog.finished", "tensorboard"),
        ("study.listeners.optuna_store.trial_of", "optuna.db"),
        ("study.engine.landscapes", "lines and planes"),
    ],
)
def test_what_describes_a_study_costs_itself(
    place: str, view: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from study.engine.slots import EngineError  # noqa: PLC0415  # the room of Ray

    def fail(*_: Any, **__: Any) -> None:
        raise EngineError("not that.")

    if place == "study.engine.landscapes":  # a stand-in, which no name leads to
        monkeypatch.setattr(sys.modules[place], "measure_landscapes", fail)
    else:
        monkeypatch.setattr(place, fail)
    assert main([written(BUILTIN), "--no-report"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert view in lines[0]
    assert "not that" in lines[0]


def test_a_terminal_that_is_gone_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("rich.console.Console.print", gone)
    assert main([written(BUILTIN)]) == 0
    assert Path("results/own/report.html").exists()


def test_what_fails_at_the_end_leaves_records_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a built-in task, which is not tried first; one's own is refused: see the next test."""
    places = {
        "study.store.results.frame_of": "the findings",
        "study.store.results.find": "the findings",
        "study.store.results.write_findings": "the findings",
        "dashboards.closing.verdict_text": "the summary",
        "dashboards.report.prose.meaning": "the report",
    }
    command = [written(BUILTIN)]
    for place, what in places.items():
        with monkeypatch.context() as patched:
            patched.setattr(place, broken)
            assert main(command) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"error: {what} can't be made of the records: RuntimeError: no such thing (")
            assert line.endswith("kept in results/own/records, and `python -m dashboards results/own` tries again.")
            if what != "the summary" and "write" not in place:
                assert dashboards(["results/own"]) == 1
                assert "can't be made: RuntimeError: no such thing" in capsys.readouterr().err
        command = ["--resume", "results/own"]
    assert main(command) == 0
    ended_well(capsys)


@pytest.mark.parametrize("place", ["study.driver.rehearsal.frame_of", "dashboards.report.prose.meaning"])
def test_what_would_fail_at_the_end_is_found_before_the_first_run(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(place, broken)
    assert main([written(plain())]) == 2
    assert "in miniature, the study trained, and its conclusions failed: RuntimeError" in capsys.readouterr().err
    assert not Path("results").exists()


@repeated("name", ["quick", *(name for name in builtin_specs() if name != "quick")])
def test_every_built_in_study_reaches_its_last_page(name: str) -> None:
    """What its findings and its page are made of is tried here alone."""
    pages: list[str] = []

    def page(study: Study) -> None:
        pages.append(build_report(study.findings, study.frame, records=study.records))

    conclude_in_miniature(page, *rehearsed(load_spec(name)[0], partial(stand_in, like=None)))
    assert len(pages) == 1


def test_an_interruption_of_the_trial_in_miniature_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt(signal.SIGTERM)

    monkeypatch.setattr("study.run.try_own_tasks", interrupted)
    assert main(["smoke", "--out", str(tmp_path / "new")]) == 128 + signal.SIGTERM
    assert "interrupted before there was anything to keep" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


_OWN_STEP = """
import torch

class Plain(torch.optim.SGD):
    pass
"""
_OWN_METHODS = """
name = "own"
question = "?"
budgets = ["E", "G"]
replicates = 2
confirms = 1
[methods.SGD]
[methods.Mine]
optimizer = "mine:Plain"
options = { momentum = 0.5 }
baseline = "SGD"
[methods."Mine+SWA"]
optimizer = "mine:Plain"
options = { momentum = 0.5 }
average = "swa"
baseline = "SGD"
[methods.Peer]
optimizer = "pytorch_optimizer:WSAM"
base = "SGD"
[search]
trials = 2
of.Mine.dampening = { low = 0.1, high = 0.2 }
[[problems]]
task = "wine"
factors = { train_size = 40, epochs = 2, batch_size = 20 }
"""


@pytest.mark.slow
def test_methods_of_ones_own_end_in_a_page_and_are_held_to_their_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(_OWN_STEP)
    Path("own.toml").write_text(_OWN_METHODS)
    assert main(["own.toml"]) == 0
    said = capsys.readouterr()
    assert "Peer: pytorch_optimizer:WSAM makes 2 passes a step, as counted" in said.out
    folder = ended_well(capsys)
    spec = frozen_spec(folder)
    assert spec
    assert {name: needs.passes for name, needs in spec.optimizers.items()} == {"Mine": 1, "Peer": 2}
    records = read_records(folder)
    assert {
        record.own_sources["mine:Plain"].partition("=")[0] for record in records.values() if record.own_sources
    } == {"mine.py"}
    assert {"Mine", "Mine+SWA", "Peer"} <= {*pd.read_parquet(folder / "runs.parquet")["method"]}
    assert "Other hyper-parameters" in Page((folder / "report.html").read_text(encoding="utf-8")).words
    Path("own.toml").write_text(_OWN_METHODS.replace("replicates = 2", "replicates = 3"))
    Path("mine.py").write_text(f"{_OWN_STEP}# another\n")
    source_of.cache_clear()
    source_or_version.cache_clear()
    assert main(["own.toml"]) == 2
    assert "'mine:Plain' was changed after" in capsys.readouterr().err
    assert main(["own.toml", "--accept-changed-task"]) == 0
    assert "The source of mine:Plain was changed" in (folder / "findings.json").read_text(encoding="utf-8")
