"""Records are the truth: atomic, refused when damaged, and a frame is rebuilt from them in any order."""

import random
from pathlib import Path

import pandas as pd
import pytest
from synthetic import synthetic_study, write_results

from study.records import (
    METRICS,
    RecordError,
    RunRecord,
    frame_of,
    read_records,
    write_atomically,
    write_record,
)
from study.results import ResultsError, freeze_spec, fresh_folder_name, frozen_spec, load, write_views
from study.spec import StudySpec, load_spec


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
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 99'), "update the program"),
        (lambda text: text.replace('"status"', '"state"'), "status|state"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "name and content must agree"),
    ],
)
def test_a_damaged_record_is_named_with_its_remedy(
    tmp_path: Path, study: tuple[StudySpec, list[RunRecord]], damage, message: str
) -> None:
    record = next(record for record in study[1] if record.job.seed == 0)
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


def test_a_run_id_follows_every_field_of_the_job(study: tuple[StudySpec, list[RunRecord]]) -> None:
    jobs = (record.job for record in study[1])
    job = next(job for job in jobs if (job.stage, job.family, job.epochs_factor) == ("tune", "base", 1))
    changes: list[dict[str, object]] = [
        {"seed": 77}, {"learning_rate": 0.123}, {"rho": 0.5}, {"stage": "confirm", "trial": None}, {"family": "sam"},
        {"epochs_factor": 2}, {"average_start": 0.41}, {"factors": job.factors | {"epochs": 3}},
    ]  # fmt: skip
    ids = {job.run_id, *(job.model_copy(update=change).run_id for change in changes)}
    assert len(ids) == len(changes) + 1


def test_the_frame_has_one_row_per_run_weights_and_epoch(study: tuple[StudySpec, list[RunRecord]]) -> None:
    frame = frame_of(study[1])
    assert not frame.duplicated(["run_id", "weights", "epoch"]).any()
    assert len(frame) == sum(max(1, len(record.measurements)) for record in study[1])
    assert set(METRICS) <= set(frame.columns)
    assert "label_noise" in frame.columns


def test_a_failed_run_keeps_its_row(study: tuple[StudySpec, list[RunRecord]]) -> None:
    failed = study[1][0].model_copy(update={"status": "failed", "measurements": (), "error": "boom"})
    row = frame_of([failed]).iloc[0]
    assert (row["status"], row["error"], row["weights"]) == ("failed", "boom", "last")
    assert row[list(METRICS)].isna().all()


def test_an_empty_study_has_an_empty_frame_with_all_fixed_columns() -> None:
    assert frame_of([]).empty
    assert set(METRICS) <= set(frame_of([]).columns)


def test_a_study_reads_the_same_whatever_order_its_runs_ended_in(
    tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]
) -> None:
    spec, records = study
    shuffled = random.Random(1).sample(records, len(records))
    first = load(write_results(tmp_path / "first", spec, records))
    second = load(write_results(tmp_path / "second", spec, shuffled))
    pd.testing.assert_frame_equal(first.frame, second.frame)
    write_views(first)
    write_views(second)
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
