"""The recipes of CONTRIBUTING.md: a toy of each kind, added where its recipe says, is a full member."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import toys

from dashboards import charts
from dashboards.cells import cells_of
from dashboards.figures.kit.chart import Sources
from dashboards.report import build_report
from study.data import load_data
from study.driver.options import parser
from study.findings import Findings, find
from study.listeners.trackers import TRACKERS, Tracker, open_trackers
from study.plan.agenda import Agenda
from study.records import RunRecord
from study.specs.factors import FACTORS, OPTIONAL, Factor
from study.specs.methods import METHODS, Method
from study.specs.spec import StudySpec
from study.specs.tasks import TASKS, TaskEntry
from study.store.frame import frame_of
from study.training.needs import find_needs
from study.training.trial import run

RECIPES = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
KINDS = ("task", "method", "optimizer", "factor", "figure", "tracker")
TABLE = next(name for name in ("OF_RUNS", "CHARTS") if hasattr(charts, name))


class Ended:
    """A study of the toys: its spec, records, findings and page."""

    def __init__(self) -> None:
        spec = StudySpec.model_validate({
            "name": "toys", "question": "Do toys work?", "budgets": ["E"], "primary_budget": "E", "replicates": 2,
            "methods": {"SGD": {}, "late SAM+EMA": {}, "Halves": {"optimizer": "toys:Steps", "baseline": "SGD"}},
            "confirms": 2, "ema_decays": [0.5], "search": {"trials": 2},
            "problems": [{"task": "toy", "factors": {"stretch": [1.0, 3.0]}}],
        })  # fmt: skip
        self.spec = spec.model_copy(update={"optimizers": find_needs(spec)[0]})  # as the preflight does
        agenda = Agenda(self.spec)
        data = load_data("toy")
        self.records: list[RunRecord] = []
        while (job := agenda.next_job()) is not None:
            self.records.append(run(job, data, "cpu", "0"))
            agenda.complete(self.records[-1])
        self.findings: Findings = find(self.spec, self.records, len(self.records))
        self.frame = frame_of(self.records)
        self.page = build_report(self.findings, self.frame, records=self.records)


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        entry = TaskEntry(
            "points on two sides of a line", (), toys.COUNT, 2, "toys:load", "toys:build",
            {"model": "linear", "train_size": toys.COUNT, "epochs": 5, "batch_size": 20, "ascent_batch": 5},
            without=("augmentation", "norm", "width", "label_noise"), test_size=toys.VALIDATION,
        )  # fmt: skip
        patch.setitem(TASKS, "toy", entry)
        patch.setitem(METHODS, "late SAM+EMA", Method("late-sam", "ema", "SGD"))
        patch.setitem(FACTORS, "stretch", Factor("toy", float, "a number above 0", lambda value: float(value) > 0))
        patch.setitem(OPTIONAL, "stretch", 1.0)
        patch.setattr(charts, TABLE, (*getattr(charts, TABLE), toys.chart_of))
        yield Ended()


def test_each_kind_has_a_recipe() -> None:
    assert {*KINDS} <= {*re.findall(r"^\| an? (\w+) ", RECIPES, re.MULTILINE)}


def test_a_task(ended: Ended) -> None:
    assert {record.status for record in ended.records} == {"completed"}
    assert {effect.task for effect in ended.findings.effects} == {"toy"}


def test_a_method(ended: Ended) -> None:
    assert "late SAM+EMA" in {effect.method for effect in ended.findings.effects}
    assert "late SAM+EMA" in ended.page


def test_an_optimizer(ended: Ended) -> None:
    assert "Halves" in {effect.method for effect in ended.findings.effects}
    assert "Halves" in ended.page


def test_a_factor(ended: Ended) -> None:
    assert set(ended.frame.stretch) == {1.0, 3.0}
    with pytest.raises(ValueError, match=r"factors\.stretch = -1\.0 was given; allowed is a number above 0"):
        StudySpec.model_validate(
            ended.spec.model_dump() | {"problems": [{"task": "toy", "factors": {"stretch": -1.0}}]}
        )


def test_a_figure(ended: Ended) -> None:
    sources = Sources(ended.findings, ended.frame, cells_of(ended.findings, ended.frame))
    assert charts.charts_of(sources)["toy"].heading == f"{len(ended.records)} runs"


def test_a_tracker(ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "toy", Tracker("the toy", "FILE", "log every run to a file, too", toys.Tracker))
    assert parser().parse_args(["quick", "--toy", "log.txt"]).toy == "log.txt"
    [tracker] = open_trackers("toys", tmp_path, {"toy": "log.txt"}, pytest.fail)
    for record in ended.records:
        tracker.finished(record)
    assert (tmp_path / "log.txt").read_text().splitlines() == [f"toys {record.run_id}" for record in ended.records]
