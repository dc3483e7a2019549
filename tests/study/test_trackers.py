"""Where else a study's runs can be seen: TensorBoard, Weights & Biases, MLflow; and the running tally of them."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from synthetic import synthetic_study
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from study.listeners.listener import Careful, Listener, Tally, metric_values
from study.listeners.tensorboard import TensorBoardLog
from study.listeners.trackers import TrackerError, open_trackers
from study.plan.agenda import Agenda
from study.records import METRICS, RunRecord
from study.specs.spec import StudySpec


@pytest.fixture(scope="module")
def study() -> tuple[StudySpec, tuple[RunRecord, ...]]:
    spec, records = synthetic_study(tasks=["digits"], trials=2, failed=0.1, diverged=0.1)
    return spec, tuple(records)


def events(file: Path) -> list[Event]:
    """Read an event file by the description of the format: length, its checksum, the event, its checksum."""
    content, found = file.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        assert int.from_bytes(content[8:12], "little") == masked_crc32c(content[:8])
        body = content[12 : 12 + size]
        assert int.from_bytes(content[12 + size : 16 + size], "little") == masked_crc32c(body)
        found.append(Event.FromString(body))
        content = content[16 + size :]
    return found


def test_metric_values_are_all_measurements_under_names_that_every_tracker_allows(
    study: tuple[StudySpec, tuple[RunRecord, ...]],
) -> None:
    for record in study[1]:
        found = metric_values(record)
        assert len(found) == sum(getattr(m, metric) is not None for m in record.measurements for metric in METRICS)
        assert all(
            name.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum() for name, _, _ in found
        )


def test_tensorboard_holds_every_run_also_those_of_an_interrupted_study(
    study: tuple[StudySpec, tuple[RunRecord, ...]], tmp_path: Path
) -> None:
    spec, records = study
    agenda = Agenda(spec, records)
    TensorBoardLog(tmp_path, agenda.records)
    homes = list(tmp_path.iterdir())
    assert len(homes) == len(agenda.records)
    record = next(record for record in agenda.records if record.status == "completed")
    [file] = next(home for home in homes if home.name.endswith(record.run_id)).iterdir()
    version, job, *rest = events(file)
    assert version.file_version == "brain.Event:2"
    assert record.job.cell in str(job)
    read = [(event.summary.value[0].tag, event.step, event.summary.value[0].simple_value) for event in rest]
    assert [(name, step) for name, step, _ in read] == [(name, step) for name, step, _ in metric_values(record)]
    assert [value for _, _, value in read] == pytest.approx([value for _, _, value in metric_values(record)], rel=1e-6)
    before = file.stat().st_mtime_ns
    TensorBoardLog(tmp_path, agenda.records)
    assert file.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow asks SQLAlchemy for what that has deprecated
def test_mlflow_gets_parameters_curves_and_status(
    study: tuple[StudySpec, tuple[RunRecord, ...]], tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    [tracker] = open_trackers("my study", tmp_path, {"mlflow": uri}, warn=pytest.fail)
    ends = {record.status: record for record in study[1]}
    for record in ends.values():
        tracker.finished(record)
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("my study").experiment_id])
    assert {run.data.tags["status"]: run.info.status for run in runs} == {
        "completed": "FINISHED", "diverged": "FINISHED", "failed": "FAILED"
    }  # fmt: skip
    for run in runs:
        record = ends[run.data.tags["status"]]
        assert float(run.data.params["learning_rate"]) == record.job.learning_rate
        for name, epoch, value in metric_values(record):
            assert (epoch, value) in [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


@pytest.mark.slow
def test_weights_and_biases_gets_every_run_offline(
    study: tuple[StudySpec, tuple[RunRecord, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    [tracker] = open_trackers("my study", tmp_path, {"wandb": "project"}, warn=pytest.fail)
    for record in study[1][:2]:
        tracker.finished(record)
    tracker.close()
    logged = [path.name for path in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    assert sorted(logged) == sorted(f"run-{record.run_id}.wandb" for record in study[1][:2])


@pytest.mark.parametrize(("flag", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_package_that_is_missing_is_named(
    flag: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what Python does with it: ImportError
    with pytest.raises(TrackerError, match=rf"--{flag} was given; .* pip install \"wasam-study\[{package}\]\""):
        open_trackers("s", tmp_path, {flag: "sqlite://"}, warn=pytest.fail)


def test_mlflow_refuses_a_folder_and_says_what_it_takes(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    with pytest.raises(TrackerError, match=r"sqlite:///mlflow\.db is needed"):
        open_trackers("s", tmp_path, {"mlflow": str(tmp_path / "runs")}, warn=pytest.fail)


def test_a_tracker_that_fails_is_left_alone_and_the_study_goes_on(
    study: tuple[StudySpec, tuple[RunRecord, ...]],
) -> None:
    class Away(Listener):
        asked, closed = 0, False

        def finished(self, record: RunRecord) -> None:
            self.asked += 1
            raise ConnectionError("the server is away\nand more")

        def close(self) -> None:
            self.closed = True

    said: list[str] = []
    away = Away()
    careful = Careful(away, "MLflow", said.append)
    for record in study[1][:3]:
        careful.finished(record)
    careful.close()
    assert said == ["MLflow failed and is left alone from now on; the study goes on: the server is away"]
    assert away.asked == 1
    assert away.closed


def test_whatever_a_listener_is_told_its_error_stays_with_it(study: tuple[StudySpec, tuple[RunRecord, ...]]) -> None:
    class Broken(Listener):
        def _fail(self, *_: object) -> None:
            raise OSError(28, "No space left on device")

        started = retried = noted = finished = tick = close = _fail

    record, said = study[1][0], list[str]()
    for call in (
        lambda listener: listener.started(record.job),
        lambda listener: listener.retried(record.job, "why"),
        lambda listener: listener.noted(record.job, "what"),
        lambda listener: listener.finished(record),
        lambda listener: listener.tick(),
        lambda listener: listener.close(),
    ):
        careful = Careful(Broken(), "it", said.append)
        call(careful)
        careful.close()  # what has failed may fail at its end, too, and that is said once
    assert len(said) == 6


@pytest.mark.slow
def test_weights_and_biases_does_not_bring_a_vanished_folder_back(
    study: tuple[StudySpec, tuple[RunRecord, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    said: list[str] = []
    [tracker] = open_trackers("my study", tmp_path / "gone", {"wandb": "project"}, warn=said.append)
    tracker.finished(study[1][0])
    tracker.close()
    assert not list(tmp_path.iterdir())
    assert len(said) == 1
    assert "gone has vanished" in said[0]


def test_the_tally_is_that_of_the_records(study: tuple[StudySpec, tuple[RunRecord, ...]]) -> None:
    spec, records = study
    agenda = Agenda(spec, records)
    tally = Tally(agenda)
    assert tally.done == len(agenda.records) == tally.planned[0] == tally.planned[1]
    assert tally.ended["failed"] == sum(record.status == "failed" for record in agenda.records)
    lengths = {
        ("tune", 1.0): "tune",
        ("tune", 2.0): "tune at 2×",
        ("confirm", 1.0): "confirm",
        ("confirm", 2.0): "confirm at 2×",
    }
    counted = Counter(lengths[record.job.stage, record.job.epochs_factor] for record in agenda.records)
    assert tally.by_stage == counted
    assert counted["tune at 2×"] > 0
