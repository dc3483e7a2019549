"""Records are the truth: atomic, refused when damaged, and a frame is rebuilt from them in any order."""

import hashlib
import json
import random
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from synthetic import synthetic_study, write_results

from study.driver.resume import opened
from study.files import temporary_beside, write_atomically
from study.findings import find
from study.plan.agenda import Agenda
from study.records import METRICS, RECORD_VERSION, Configuration, FactorValue, Family, Job, RunRecord, configuration_of
from study.specs.spec import StudySpec, load_spec
from study.store.folder import (
    ResultsError,
    freeze_spec,
    fresh_folder_name,
    frozen_spec,
    records_of,
    set_aside_failed,
    set_aside_superseded,
    sweep,
)
from study.store.frame import frame_of
from study.store.lock import hold
from study.store.record_files import RecordError, read_records, write_record
from study.store.results import load, write_frame_and_findings

OLD_RECORD = Path(__file__).parent / "data" / "record-v1.json"  # as the first version of this program wrote it


@pytest.fixture(scope="module")
def study() -> tuple[StudySpec, list[RunRecord]]:
    return synthetic_study()


def test_a_record_survives_its_file(tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]) -> None:
    record = study[1][0]
    write_record(tmp_path, record)
    assert read_records(tmp_path) == {record.run_id: record}
    assert [path.name for path in (tmp_path / "records").iterdir()] == [f"{record.run_id}.json"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "not a run record"),
        (lambda text: "", "not a run record"),
        (lambda text: text.replace('"schema_version": 4', '"schema_version": 99'), "update the program"),
        (lambda text: text.replace('"status"', '"state"'), "status|state"),
        (lambda text: re.sub('"seed": [0-9]+', '"seed": 1', text), "name and content must agree"),
        (lambda text: re.sub('"test_seed": [0-9]+', '"test_seed": 1', text), "name and content must agree"),
        (lambda text: re.sub('^  "replicate": 1', '  "replicate": 2', text, flags=re.M), "name and content must agree"),
    ],
)
def test_a_damaged_record_is_named_with_its_remedy(
    tmp_path: Path, study: tuple[StudySpec, list[RunRecord]], damage, message: str
) -> None:
    record = next(record for record in study[1] if record.job.replicate == 1)
    path = write_record(tmp_path, record)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError, match=message) as caught:
        read_records(tmp_path)
    assert str(path) in str(caught.value)
    assert "resume" in str(caught.value)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_makes_no_folder_unless_told_and_never_the_one_above(tmp_path: Path) -> None:
    for path, make_folder in ((tmp_path / "gone" / "file", False), (tmp_path / "gone" / "inner" / "file", True)):
        with pytest.raises(FileNotFoundError):
            write_atomically(path, "new", make_folder=make_folder)
    assert not list(tmp_path.iterdir())
    write_atomically(tmp_path / "inner" / "file", "new", make_folder=True)
    assert (tmp_path / "inner" / "file").read_text() == "new"


@pytest.mark.parametrize("used", [False, True])
def test_a_folder_that_was_made_and_stays_empty_is_taken_away_with_those_above(tmp_path: Path, used: bool) -> None:
    folder = tmp_path / "results" / "study"
    with suppress(ResultsError), hold(folder):
        if used:
            (folder / "spec.toml").touch()
        raise ResultsError
    assert folder.exists() == folder.parent.exists() == used
    with hold(tmp_path):
        pass
    assert tmp_path.exists()


def test_what_killed_drivers_were_building_is_swept_away(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("optuna.db", ".lock", "spec.toml")]
    for path in (*kept, *(temporary_beside(path) for path in kept)):
        path.touch()
    for folder in (tmp_path / "tensorboard" / "a run", temporary_beside(tmp_path / "tensorboard" / "a run")):
        folder.mkdir(parents=True)
        (folder / "events").touch()
    sweep(tmp_path)
    assert {*tmp_path.iterdir()} == {*kept, tmp_path / "tensorboard"}
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["a run"]


def test_a_run_id_follows_every_field_of_the_job(study: tuple[StudySpec, list[RunRecord]]) -> None:
    jobs = (record.job for record in study[1])
    job = next(job for job in jobs if (job.stage, job.family, job.epochs_factor) == ("tune", "base", 1))
    changes: list[dict[str, object]] = [
        {"seed": 77}, {"learning_rate": 0.123}, {"rho": 0.5}, {"stage": "confirm", "trial": None}, {"family": "sam"},
        {"epochs_factor": 2}, {"average_start": 0.41}, {"factors": job.factors | {"epochs": 3}},
        {"replicate": 2}, {"test_seed": 5}, {"weight_decay": 0.1}, {"rungs": (3,)}, {"ema_decays": (0.5,)},
    ]  # fmt: skip
    ids = {job.run_id, *(job.model_copy(update=change).run_id for change in changes)}
    assert len(ids) == len(changes) + 1
    # What it is called, and how much of it is looked at, changes nothing of what it is.
    for change in ({"cell": "another name"}, {"reads": ("last",)}):
        assert job.model_copy(update=change).run_id == job.run_id


def test_a_run_id_is_a_hash_of_what_the_job_says_as_json(study: tuple[StudySpec, list[RunRecord]]) -> None:
    job = study[1][0].job
    later = {"weight_decay", "rungs", "stop_below", "replicate", "test_seed", "options", "loop", "tested_of",
             "features", "probe_evaluations", "own_family"}  # fmt: skip
    for change in ({}, {"weight_decay": 1e-5}, {"stop_below": ((3, "last+swa", 0.5),), "rungs": (3,)}, {"trial": None},
                   {"options": (("beta", 1.0),), "features": True, "loop": True, "tested_of": ("last",)}):  # fmt: skip
        changed = Job.model_validate(job.model_dump() | change)
        said = json.loads(changed.model_dump_json(exclude={"cell", "reads", "own_methods"}))
        usual = json.loads(Job.model_construct().model_dump_json(include=later, warnings=False))
        content = {name: value for name, value in said.items() if name not in later or value != usual[name]}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert changed.run_id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_frame_has_one_row_per_run_weights_and_epoch(study: tuple[StudySpec, list[RunRecord]]) -> None:
    frame = frame_of(study[1])
    assert not frame.duplicated(["run_id", "weights", "epoch"]).any()
    assert len(frame) == sum(max(1, len(record.measurements)) for record in study[1])
    assert set(METRICS) <= set(frame.columns)
    assert "label_noise" in frame.columns


def test_the_frame_is_what_one_dict_a_row_makes(study: tuple[StudySpec, list[RunRecord]]) -> None:
    failed = study[1][0].model_copy(update={"status": "failed", "measurements": (), "error": "boom"})
    for records in (study[1], [failed], [failed, *study[1][1:]]):
        rows = [row for record in records for row in _rows(record)]
        frame = frame_of(records)
        expected = pd.DataFrame(rows).astype(dict.fromkeys(METRICS, "float64"))
        assert set(frame.columns) == set(expected.columns)
        pd.testing.assert_frame_equal(frame, expected[frame.columns], check_dtype=False)


def test_a_run_has_the_same_rows_alone_as_among_others(study: tuple[StudySpec, list[RunRecord]]) -> None:
    runs = study[1][:3] + study[1][-3:]
    own = {"own_family": Family("sgd"), "own_methods": {"last": "Mine", "swa": "Mine averaged"}}
    changes: list[dict[str, object]] = [
        {"family": "mine", **own}, {"family": "mine", **own, "own_methods": {"last": "Theirs"}},
        {"family": "sam", **own}, {"own_methods": own["own_methods"]},
        {"weight_decay": 0.25}, {"weight_decay": 0.5, "options": (("beta", 1.0),)},
    ]  # fmt: skip
    for run, change in zip(tuple(runs), changes, strict=True):
        runs.insert(len(runs) // 2, run.model_copy(update={"job": run.job.model_copy(update=change)}))
    ended = runs[0].measurements[:1]
    runs.append(runs[0].model_copy(update={"status": "pruned", "measurements": ended}))
    runs.insert(2, runs[0].model_copy(update={"status": "failed", "measurements": (), "error": "boom"}))
    frame = frame_of(runs)
    assert {"Mine", "Mine averaged", "Theirs", "SGD", "SWA", "SAM", "WASAM"} == {*frame["method"]}
    assert (frame["weight_decay"] == 0.25).any()
    assert frame["final"].iloc[-1]
    alone = pd.concat([_plain(frame_of([run])) for run in runs], ignore_index=True)
    pd.testing.assert_frame_equal(_plain(frame), _plain(alone)[list(frame)])


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame's values without their types, which go by all values of a column; None where there is none."""
    return frame.astype("object").where(frame.notna(), None)


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ((1, True, 1.0), ["1", "True", "1.0"]),  # equal in Python, of different kinds
        ((1, 2**60), ["1", str(2**60)]),
        ((1, 2.5, 1.0), [1.0, 2.5, 1.0]),
        ((True, False), [True, False]),
    ],
)
def test_a_factor_of_several_kinds_is_a_column_of_texts(
    study: tuple[StudySpec, list[RunRecord]], given: tuple[FactorValue, ...], held: list[FactorValue]
) -> None:
    job = study[1][0].job
    jobs = (job.model_copy(update={"factors": job.factors | {"own": value}}) for value in given)
    frame = frame_of(study[1][0].model_copy(update={"job": one, "measurements": ()}) for one in jobs)
    assert [*map(repr, frame["own"].tolist())] == [*map(repr, held)]


def _rows(record: RunRecord) -> list[dict[str, object]]:
    """Return the rows of a run, one by one: the slow and obvious twin of `frame_of`."""
    job, run = record.job.model_dump(), record.model_dump()
    shared = {name: run[name] for name in ("run_id", "status", "error", "gradient_evaluations", "forward_evaluations",
              "skipped_steps", "train_s", "evaluate_s", "wall_s", "device", "val_examples",
              "stream", "inexact_resume")}  # fmt: skip
    shared |= {name: run[name] for name in ("metric", "unit", "higher_is_better")}
    shared |= {name: job[name] for name in ("stage", "cell", "task", "replicate", "family", "epochs_factor",
               "learning_rate", "rho", "average_start", "seed", "trial", "search")} | job["factors"]  # fmt: skip
    shared["configuration"] = configuration_of(record.job).id
    nothing = {"weights": "last", "epoch": 0, "weights_epoch": None} | dict.fromkeys(METRICS)
    return [
        shared | row | {"final": row["epoch"] in (0, record.job.epochs), "method": _whose(record.job, row["weights"])}
        for row in run["measurements"] or [nothing]
    ]


def _whose(job: Job, weights: str) -> str:
    """Name the method that a row is of: SGD and SAM keep weights of one epoch, SWA and WASAM read averages."""
    averaged = {"base": "SWA", "sam": "WASAM"} if weights.startswith("swa@") else {"base": "SGD", "sam": "SAM"}
    return averaged[job.family]


def test_the_frame_knows_the_epoch_of_the_best_weights(study: tuple[StudySpec, list[RunRecord]]) -> None:
    frame = frame_of(study[1])
    best = frame["weights"] == "best"
    assert best.any()
    assert frame.loc[best, "weights_epoch"].between(1, frame.loc[best, "epoch"]).all()
    assert frame.loc[~best, "weights_epoch"].isna().all()
    assert set(frame["method"]) == {"SGD", "SWA", "SAM", "WASAM"}
    assert set(frame.loc[best, "method"]) == {"SGD", "SAM"}


def test_a_failed_run_keeps_its_row(study: tuple[StudySpec, list[RunRecord]]) -> None:
    failed = study[1][0].model_copy(update={"status": "failed", "measurements": (), "error": "boom"})
    row = frame_of([failed]).iloc[0]
    assert (row["status"], row["error"], row["weights"]) == ("failed", "boom", "last")
    assert row[list(METRICS)].isna().all()


def test_an_empty_study_has_an_empty_frame_with_all_fixed_columns() -> None:
    assert frame_of([]).empty
    assert set(METRICS) <= set(frame_of([]).columns)


@pytest.mark.slow
def test_a_study_reads_the_same_whatever_order_its_runs_ended_in(
    tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]
) -> None:
    spec, records = study
    shuffled = random.Random(1).sample(records, len(records))
    first = load(write_results(tmp_path / "first", spec, records))
    second = load(write_results(tmp_path / "second", spec, shuffled))
    pd.testing.assert_frame_equal(first.frame, second.frame)
    write_frame_and_findings(first)
    write_frame_and_findings(second)
    for name in ("findings.json", "runs.parquet"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_records_of_another_spec_stay_out(tmp_path: Path) -> None:
    freeze_spec(tmp_path, *load_spec("smoke"))
    write_record(tmp_path, synthetic_study()[1][0])
    assert load(tmp_path).records == ()


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no spec\.toml"):
        load(tmp_path)


def test_a_changed_spec_is_refused(tmp_path: Path) -> None:
    spec, text = load_spec("smoke")
    freeze_spec(tmp_path, spec, text)
    assert frozen_spec(tmp_path) == spec
    path = tmp_path / "spec.toml"
    path.write_text(path.read_text().replace("trials = 2", "trials = 3"))
    with pytest.raises(ResultsError, match="changed after the study had started"):
        frozen_spec(tmp_path)


def test_fresh_never_takes_a_name_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "quick-old-1").mkdir()
    assert fresh_folder_name(tmp_path / "quick") == tmp_path / "quick-old-2"


def test_a_record_of_version_1_reads_as_what_it_said(tmp_path: Path) -> None:
    old = json.loads(OLD_RECORD.read_text())
    assert old["schema_version"] == 1
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / f"{old['run_id']}.json").write_text(OLD_RECORD.read_text())
    record = read_records(tmp_path)[old["run_id"]]
    assert record.schema_version == RECORD_VERSION
    frame = frame_of([record])
    assert len(frame) == len(old["measurements"])
    for row, measured in zip(frame.to_dict("records"), old["measurements"], strict=True):
        for name, value in measured.items():
            now = row[name.replace("_accuracy", "_score")]
            assert now == value or (value is None and pd.isna(now))
    for name in ("status", "gradient_evaluations", "forward_evaluations", "train_s", "wall_s", "device"):
        assert (frame[name] == old[name]).all()
    for name, value in (old["job"] | old["job"]["factors"]).items():
        assert name not in frame.columns or name == "trial" or (frame[name] == value).all(), name
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_the_run_id_of_a_job_of_version_1_has_stayed() -> None:
    old = json.loads(OLD_RECORD.read_text())
    assert Job.model_validate(old["job"]).run_id == old["run_id"] == "0244e62f3cb86a80"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": RECORD_VERSION + 1}, f"reads up to {RECORD_VERSION}: update the program"),
        ({"schema_version": 0}, "schema_version"),
        ({"schema_version": "1"}, "schema_version"),
        ({"novelty": 1}, "novelty"),
        ({"status": "failed"}, "measurements of a run that failed"),
        ({"measurements": []}, "no measurement of the last weights"),
    ],
)
def test_a_record_with_something_else_in_it_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    old = json.loads(OLD_RECORD.read_text()) | change
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / f"{old['run_id']}.json").write_text(json.dumps(old))
    with pytest.raises(RecordError, match=message):
        read_records(tmp_path)


def test_a_job_without_epochs_is_refused(tmp_path: Path) -> None:
    old = json.loads(OLD_RECORD.read_text())
    del old["job"]["factors"]["epochs"]
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / f"{old['run_id']}.json").write_text(json.dumps(old))
    with pytest.raises(RecordError, match=r"without factors\.epochs"):
        read_records(tmp_path)


def test_unknown_fields_are_refused_at_every_depth(tmp_path: Path) -> None:
    for part in ("job", "measurement"):
        old = json.loads(OLD_RECORD.read_text())
        (old["job"] if part == "job" else old["measurements"][0])["novelty"] = 1
        (tmp_path / "records").mkdir(exist_ok=True)
        (tmp_path / "records" / f"{old['run_id']}.json").write_text(json.dumps(old))
        with pytest.raises(RecordError, match="novelty"):
            read_records(tmp_path)


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from study.store.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_the_second_driver_of_a_folder_is_refused_and_a_dead_one_is_no_obstacle(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ResultsError, match=f"process {holder.pid} on {socket.gethostname()}"),
            opened(*load_spec("smoke"), tmp_path, fresh=False, say=print),
        ):
            pass
        with (
            pytest.raises(ResultsError, match="is being worked on"),
            opened(*load_spec("smoke"), tmp_path, fresh=True, say=print),
        ):
            pass
        holder.kill()
    assert (tmp_path / ".lock").exists()  # it had no time to take its file away
    with hold(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert not any(tmp_path.iterdir())


def test_a_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"), hold(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.slow
def test_reading_needs_no_lock(tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]) -> None:
    folder = write_results(tmp_path / "study", *study)
    with hold(folder):
        assert len(load(folder).records) == len(study[1])


def test_failed_runs_are_done_again_and_their_records_stay(tmp_path: Path) -> None:
    spec, records = synthetic_study(tasks=("digits",), factors={}, trials=2, replicates=2)
    whole = write_results(tmp_path / "whole", spec, records)
    write_frame_and_findings(load(whole))
    lost = [record for record in records if record.job.stage == "tune"][:1]
    lost += [record for record in records if record.job.stage == "confirm"][:1]
    folder = write_results(tmp_path / "study", spec, records)
    for record in lost:
        write_record(folder, record.model_copy(update={"status": "failed", "measurements": ()}))
    assert set_aside_failed(folder, spec) == len(lost)
    assert {path.stem for path in (folder / "records" / "failed").iterdir()} == {f"{r.run_id}-1" for r in lost}
    agenda = Agenda(spec, records_of(folder, spec))
    known = {record.run_id: record for record in records}
    again = []
    while job := agenda.next_job():
        again.append(job.run_id)
        write_record(folder, known[job.run_id])
        agenda.complete(known[job.run_id])
    assert {record.run_id for record in lost} <= set(again)
    set_aside_superseded(folder, spec, agenda)
    write_frame_and_findings(load(folder))
    assert (folder / "findings.json").read_bytes() == (whole / "findings.json").read_bytes()
    assert set_aside_failed(folder, spec) == 0


def test_runs_of_a_choice_that_was_not_made_again_stand_aside(tmp_path: Path) -> None:
    spec, records = synthetic_study(tasks=("digits",), factors={}, trials=2, replicates=2)
    folder = write_results(tmp_path / "study", spec, records)
    job = next(record.job for record in records if record.job.stage == "confirm")
    ghost = next(r for r in records if r.job == job).model_copy(
        update={"job": job.model_copy(update={"seed": 99}), "run_id": job.model_copy(update={"seed": 99}).run_id}
    )
    write_record(folder, ghost)
    agenda = Agenda(spec, records_of(folder, spec))
    set_aside_superseded(folder, spec, agenda)  # nothing was run again: all that was measured is kept
    assert ghost.run_id in read_records(folder)
    (folder / "records" / "failed").mkdir()
    set_aside_superseded(folder, spec, agenda)
    assert read_records(folder).keys() == {record.run_id for record in records}
    assert (folder / "records" / "superseded" / f"{ghost.run_id}-1.json").exists()


def test_what_a_killed_driver_left_half_written_is_swept(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    for name in (".spec.toml.123.tmp", "records/.0123456789abcdef.json.123.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / "mine.tmp").write_text("somebody's")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"records", "mine.tmp"}


def test_a_folder_where_a_driver_died_at_once_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / ".spec.toml.123.tmp").write_text("half")
    with opened(*load_spec("smoke"), tmp_path, fresh=False, say=print) as study:
        assert not study.agenda.finished
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


def test_a_vanished_folder_does_not_come_back_half(tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]) -> None:
    with pytest.raises(FileNotFoundError):
        write_record(tmp_path / "gone", study[1][0])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("field", Configuration._fields)
def test_a_configuration_is_told_from_another_by_each_of_its_fields(field: str) -> None:
    one = Configuration("digits", 1, "sam", 1.0, 0.1, 0.05, 0.75, None)
    other = one._replace(**{field: 2.0 if not isinstance(getattr(one, field), str) else "other"})
    assert one != other
    assert one.id != other.id


def test_a_selection_and_the_runs_that_confirm_it_have_one_configuration() -> None:
    spec, records = synthetic_study(tasks=("digits",), factors={}, trials=4, replicates=2)
    runs = [record for record in records if record.job.stage == "confirm"]
    chosen = {configuration_of(selection) for selection in find(spec, records).selections}
    assert {configuration_of(run.job) for run in runs} == chosen
    frame = frame_of(runs)
    assert {one.id for one in chosen} == set(frame["configuration"])


def test_bins_of_confidence_that_older_records_hold_are_passed_over(tmp_path: Path) -> None:
    _, (record, *_) = synthetic_study(tasks=("digits",), factors={}, trials=1, replicates=1)
    bins = [{"weights": "last", "counts": [1], "confidence": [0.5], "accuracy": [1.0]}]
    older = json.loads(record.model_dump_json()) | {"schema_version": 3, "reliability": bins}
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / f"{record.run_id}.json").write_text(json.dumps(older))
    assert read_records(tmp_path)[record.run_id] == record
