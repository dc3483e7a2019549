"""An own task is what its source says: other files are another task, and a factor that it doesn't read is none."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import synthetic_study, write_results
from torch import nn

from dashboards.closing import closing
from study.data import TaskError
from study.findings import find
from study.plan.agenda import Agenda
from study.records import Job, RunRecord, changed_files
from study.run import main
from study.specs.spec import StudySpec, load_spec
from study.specs.tasks import default_factors
from study.store.folder import ResultsError, check_sources, freeze_spec
from study.store.frame import frame_of
from study.tasks.own import Handed, check_read
from study.tasks.source import source_of
from study.training.building import build_optimizer
from study.training.preflight import PreflightError, preflight
from study.training.trial import run

HERE = Path(__file__).parent
FILES = {
    "task_a.py": "import helper_a, torch\nfrom pack_a import tools, VALUE\ndef build(seed, f):\n  import late_a\n",
    "helper_a.py": "import task_a\nfrom pack_a.inner import deep\n",
    "late_a.py": "",
    "pack_a/__init__.py": "VALUE = 1\n",
    "pack_a/tools.py": "from . import sibling\nfrom .inner.deep import x\n",
    "pack_a/sibling.py": "",
    "pack_a/inner/__init__.py": "",
    "pack_a/inner/deep.py": "from ..cousin import y\nx = 1\n",
    "pack_a/cousin.py": "y = 1\n",
}
OTHERS = {"pack_a/unused.py": "", "elsewhere.py": "", "data.csv": "1,2\n"}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in (FILES | OTHERS).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source_of.cache_clear()


def files_of(source: str) -> dict[str, str]:
    return dict(part.split("=") for part in source.split())


def test_a_source_is_the_task_and_all_that_it_imports_of_ones_own(tmp_path: Path) -> None:
    found = files_of(source_of("task_a:build"))
    assert found.keys() == FILES.keys()
    assert next(iter(found)) == "task_a.py"
    inner = files_of(source_of("pack_a.tools:build"))
    assert inner.keys() == {name for name in FILES if name.startswith("pack_a/")}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_anywhere_is_another_source_and_the_file_is_named(name: str, tmp_path: Path) -> None:
    before = source_of("task_a:build")
    (tmp_path / name).write_text(FILES[name] + "# a comment\n")
    assert source_of("task_a:build") == before  # of this process, which has imported what it has
    source_of.cache_clear()
    assert changed_files(before, source_of("task_a:build")) == [name]


def test_what_a_task_does_not_import_is_no_part_of_it(tmp_path: Path) -> None:
    before = source_of("task_a:build")
    for name in OTHERS:
        (tmp_path / name).write_text("# another\n")
    source_of.cache_clear()
    assert source_of("task_a:build") == before
    (tmp_path / "late_a.py").write_text("import elsewhere\n")
    source_of.cache_clear()
    assert changed_files(before, source_of("task_a:build")) == ["elsewhere.py", "late_a.py"]


def test_a_record_holds_the_source_that_its_process_ran() -> None:
    task = "own_tasks:tensors"
    factors = default_factors(task) | {"train_size": 40, "epochs": 1, "batch_size": 10}
    job = Job(stage="tune", cell="c", task=task, factors=factors, family="base", epochs_factor=1, learning_rate=0.1,
              rho=0.0, average_start=0.5, seed=1, test_seed=3, trial=0, search="base")  # fmt: skip
    assert run(job, None, "cpu", "0").task_source == source_of(task)
    assert files_of(source_of(task)).keys() == {"own_tasks.py"}  # the study's own files are known by their version


def measured(sources: list[str]) -> tuple[StudySpec, list[RunRecord]]:
    spec, records = synthetic_study(tasks=["digits"], replicates=5, trials=1)
    return spec, [
        record.model_copy(update={"task_source": sources[number % len(sources)]})
        for number, record in enumerate(records)
    ]


def test_runs_of_another_source_are_refused_and_the_files_named(tmp_path: Path) -> None:
    spec, records = measured(["a.py=1 b.py=2"])
    folder = write_results(tmp_path / "results", spec, records)
    check_sources(folder, spec, {"digits": "a.py=1 b.py=2"})
    check_sources(folder, spec, {"digits": ""})  # of a built-in task nothing is known
    with pytest.raises(ResultsError, match=r"another b\.py .*--accept-changed-task") as refused:
        check_sources(folder, spec, {"digits": "a.py=1 b.py=3"})
    assert str(refused.value).count(".") - str(refused.value).count(".py") < 3
    for other in ("a.py=1", "a.py=1 b.py=2 c.py=4"):
        with pytest.raises(ResultsError, match="was changed"):
            check_sources(folder, spec, {"digits": other})


def test_findings_and_terminal_say_that_two_tasks_were_mixed() -> None:
    for sources, said in ((["a.py=1"], 0), (["a.py=1", "a.py=2"], 1), (["", "a.py=1"], 0)):
        spec, records = measured(sources)
        findings = find(spec, records)
        assert [caveat.kind for caveat in findings.caveats].count("changed task") == said
        assert ("CHANGED TASK: The source of digits was changed" in closing(findings, frame_of(records))) == bool(said)


def test_the_command_refuses_an_edited_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Editing a task between two parts of a study: with the run's records in place, nothing has to be trained."""
    task = tmp_path / "edited_one.py"
    task.write_text(f"from own_tasks import tensors as build\n# {tmp_path}\n")
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name = "own"\nquestion = "?"\nmethods = ["SGD", "SAM"]\nreplicates = 2\n'
        'budgets = ["E"]\nprimary_budget = "E"\n'
        '[search]\ntrials = 1\nsampler = "qmc"\n[[problems]]\ntask = "edited_one:build"\n'
        "factors = { train_size = 40, epochs = 1, batch_size = 10 }\n"
    )
    parsed, text = load_spec(spec)
    job = Agenda(parsed).next_job()
    assert job is not None
    record = run(job, None, "cpu", parsed.hash)
    folder = tmp_path / "results"
    write_results(folder, parsed, [record])
    freeze_spec(folder, parsed, text)
    arguments = [str(spec), "--out", str(folder), "--dry-run"]
    assert main(arguments) == 0
    task.write_text(task.read_text() + "# a comment\n")
    source_of.cache_clear()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "edited_one.py" in said
    assert len(said.strip().splitlines()) == 1
    assert main([*arguments, "--accept-changed-task"]) == 0
    assert json.loads(next((folder / "records").glob("*.json")).read_text())["task_source"]


# Factors


READS: dict[str, tuple[Callable[[Any], object], set[str]]] = {
    "one": (lambda f: f["a"], {"a"}),
    "get": (lambda f: f.get("b", 3), {"b"}),
    "pop": (lambda f: f.pop("a"), {"a"}),
    "set": (lambda f: f.setdefault("a", 3), {"a"}),
    "written": (lambda f: "{c}".format_map(f), {"c"}),
    "copied deeply": (copy.deepcopy, {"a", "b", "c"}),
    "unpacked": (lambda f: dict(**f), {"a", "b", "c"}),
    "spread": (lambda f: {**f, "d": 1}, {"a", "b", "c"}),
    "copied": (lambda f: f.copy(), {"a", "b", "c"}),
    "made anew": (lambda f: dict(f), {"a", "b", "c"}),
    "joined": (lambda f: f | {"d": 1}, {"a", "b", "c"}),
    "joined to": (lambda f: {"d": 1} | f, {"a", "b", "c"}),
    "items": (lambda f: list(f.items()), {"a", "b", "c"}),
    "values": (lambda f: list(f.values()), {"a", "b", "c"}),
    "as text": (lambda f: json.dumps(f), {"a", "b", "c"}),
    "asked for": (lambda f: ("a" in f, len(f), bool(f)), set()),
    "names": (lambda f: list(f), set()),
}


@pytest.mark.parametrize("name", READS)
def test_what_is_read_of_factors_is_remembered(name: str) -> None:
    handed = Handed({"a": 1, "b": 2, "c": 3})
    read, wanted = READS[name]
    read(handed)
    assert handed.read == wanted
    assert isinstance(handed, dict)


def test_a_factor_that_is_read_in_some_cells_only_is_fine_where_cells_differ() -> None:
    def cell(name: str, read: set[str], **factors: object) -> tuple[str, Handed]:
        handed = Handed(factors)  # type: ignore[arg-type]
        handed.read = read
        return name, handed

    both = {"net", "depth"}
    linear = cell("1", {"net"}, net="linear", depth=1)
    check_read("t:t", ["net", "depth"], [linear, cell("2", both, net="mlp", depth=1)])
    with pytest.raises(TaskError, match=r"nothing reads it.*factors\['depth'\]"):
        check_read("t:t", ["net", "depth"], [linear])
    same = [linear, cell("2", {"net"}, net="linear", depth=2)]
    with pytest.raises(TaskError, match="'1' and '2' of task = 't:t' are the same"):
        check_read("t:t", ["net", "depth"], [*same, cell("3", both, net="mlp", depth=1)])
    clipped = [cell("1", set(), clip_norm=0.0), cell("2", set(), clip_norm=1.0)]
    check_read("t:t", ["clip_norm"], clipped)  # the training does that


def spec_of(name: str, **factors: Any) -> StudySpec:
    given = {"train_size": 40, "epochs": 2, "batch_size": 10, **factors}
    return StudySpec.model_validate(
        {
            "name": "own", "question": "?", "replicates": 1, "search": {"trials": 2}, "methods": ["SGD", "SAM"],
            "problems": [{"task": f"own_tasks:{name}", "factors": given}],
        }
    )  # fmt: skip


@pytest.mark.parametrize("given", [0.3, [0.0, 0.3]])
@pytest.mark.parametrize("factor", ["label_noise", "label_smoothing", "augmentation", "hidden"])
def test_a_factor_that_nothing_reads_is_refused_before_the_study(factor: str, given: Any) -> None:
    with pytest.raises(PreflightError, match=f"factors.{factor}, and nothing reads it"):
        preflight(spec_of("tensors", **{factor: given}))


def test_what_the_training_or_a_forward_pass_reads_is_read() -> None:
    preflight(spec_of("tensors", clip_norm=[0.0, 1.0], warmup=0.1, precision="float32", momentum=0.5))
    preflight(spec_of("reads_late", hidden=[1, 2]))


@pytest.mark.parametrize("family", ["base", "sam", "m-sam", "adamw"])
def test_every_family_clips_by_the_factor(family: str) -> None:
    def norm(clip: float) -> float:
        torch.manual_seed(0)
        model = nn.Linear(3, 1, bias=False)
        factors = default_factors("digits") | {"clip_norm": clip, "momentum": 0.0, "weight_decay": 0.0}
        job = Job(stage="tune", cell="c", task="digits", factors=factors, family=family, epochs_factor=1,
                  learning_rate=1.0, rho=0.0, average_start=0.5, seed=1)  # fmt: skip
        optimizer = build_optimizer(job, model)
        x, before = torch.ones(4, 3), model.weight.detach().clone()
        optimizer.step(lambda *_: _backward((100 * model(x)).sum()), batch=(x,))
        return float((model.weight.detach() - before).norm())

    if family == "adamw":
        assert norm(0.0) == pytest.approx(norm(1e-3), rel=1e-3)  # Adam's step has no size of the gradient
        assert norm(1e-12) < norm(0.0)  # but for its ε
    else:
        assert norm(0.25) == pytest.approx(0.25, rel=1e-5)
        assert norm(0.0) > 100


def _backward(loss: torch.Tensor) -> torch.Tensor:
    loss.backward()
    return loss
