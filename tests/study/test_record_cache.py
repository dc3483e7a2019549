"""The cache of records says what the files say, whatever became of it or of them; columns give back what they got."""

import os
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from synthetic import failed_run, renamed, synthetic_study, write_results

from study.records import Measurement, RunRecord
from study.store import record_cache, record_files
from study.store.record_cache import CACHE, packed, unpacked
from study.store.record_files import read_records, record_path, write_record

_METRIC = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def round_trip(records: list[RunRecord]) -> list[RunRecord]:
    return unpacked(RunRecord, packed(RunRecord, records))


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    """Every kind of record, of both stages, with hostile texts and other factors in some than in others."""
    _, plain = synthetic_study(tasks=("digits",), trials=4, replicates=3, failed=0.1, diverged=0.1, hostile=True)
    _, pruned = synthetic_study(
        tasks=("mnist1d",), factors={"label_noise": 0.3}, average_starts=[0.25, 0.3], replicates=3,
        search={"trials": 16, "pruner": "asha", "average_start": {"low": 0.2, "high": 0.3}},
    )  # fmt: skip
    found = [*plain, *renamed(pruned, " é\n\0"), failed_run(pruned[0])]
    assert {record.status for record in found} == {"completed", "failed", "diverged", "pruned"}
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder whose cache has been written."""
    monkeypatch.setattr(record_files, "_NOT_WORTH_CACHING", 0)
    spec, found = synthetic_study(tasks=("digits",), trials=2, replicates=2)
    folder = write_results(tmp_path / "study", spec, found)
    read_records(folder)
    assert (folder / CACHE).is_file()
    return folder


def truth(folder: Path) -> dict[str, RunRecord]:
    """Read every file, one by one."""
    paths = sorted((folder / "records").glob("*.json"))
    return {path.stem: RunRecord.model_validate_json(path.read_bytes()) for path in paths}


def test_columns_give_back_what_they_got(records: list[RunRecord]) -> None:
    back = round_trip(records)
    assert back == records
    assert [record.model_dump_json() for record in back] == [record.model_dump_json() for record in records]
    assert [record.job.run_id for record in back] == [record.job.run_id for record in records]
    assert [hash(str(record.job.factors)) for record in back] == [hash(str(record.job.factors)) for record in records]


@given(
    st.lists(
        st.builds(Measurement, weights=st.text(), epoch=st.integers(1, 2**62), val_loss=_METRIC, test_score=_METRIC)
    )
)
def test_columns_give_back_every_number_and_text(measured: list[Measurement]) -> None:
    back = unpacked(Measurement, packed(Measurement, measured))
    assert list(map(repr, back)) == list(map(repr, measured))  # repr also tells -0.0 from 0.0


def test_a_copy_of_what_came_out_of_columns_is_its_own(records: list[RunRecord]) -> None:
    first, second = round_trip(records[:2])
    assert first.model_copy(update={"error": "another"}).error == "another"
    assert (first, second) == tuple(records[:2])


def test_files_that_have_not_changed_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = truth(folder)
    monkeypatch.setattr(record_files, "_read", lambda path: pytest.fail(f"{path} is read again"))
    assert read_records(folder) == expected
    assert list(read_records(folder)) == list(expected)


def test_a_file_that_was_written_again_is_read_again(folder: Path) -> None:
    changed = next(iter(truth(folder).values())).model_copy(update={"wall_s": 99.0})
    write_record(folder, changed)
    assert read_records(folder)[changed.run_id].wall_s == 99.0


def test_a_file_of_equal_size_and_another_time_is_read_again(folder: Path) -> None:
    run_id = next(iter(truth(folder)))
    path = record_path(folder, run_id)
    before = path.stat()
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "gpu"'))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert read_records(folder)[run_id].device == "gpu"


def test_files_that_came_or_went_count(folder: Path) -> None:
    gone, *_ = kept = truth(folder)
    record_path(folder, gone).rename(folder / "away.json")
    assert read_records(folder) == {run_id: record for run_id, record in kept.items() if run_id != gone}
    (folder / "away.json").rename(record_path(folder, gone))
    assert read_records(folder) == kept


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"\0" * 1000])
def test_a_damaged_cache_is_none(folder: Path, damage: bytes) -> None:
    expected = truth(folder)
    (folder / CACHE).write_bytes(damage)
    assert read_records(folder) == expected


@pytest.mark.slow
def test_no_flipped_bit_of_a_cache_is_believed(folder: Path) -> None:
    expected, whole, rng = truth(folder), (folder / CACHE).read_bytes(), random.Random(0)
    for _ in range(60):
        position = rng.randrange(len(whole))
        flipped = whole[:position] + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :]
        (folder / CACHE).write_bytes(flipped)
        assert read_records(folder) == expected


def test_a_cache_of_another_program_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_cache, "version", lambda package: "another")
    assert record_cache.read_cache(folder) == {}
    assert read_records(folder) == truth(folder)


@pytest.mark.parametrize("column", ["size", "record"])
def test_a_cache_with_columns_of_other_types_is_none(folder: Path, column: str) -> None:
    table = parquet.read_table(folder / CACHE)
    texts = pa.array(["<script>"] * len(table))
    other = table.set_column(table.schema.get_field_index(column), column, texts)
    parquet.write_table(other.replace_schema_metadata(table.schema.metadata), folder / CACHE)
    assert record_cache.read_cache(folder) == {}
    assert read_records(folder) == truth(folder)


def test_a_number_that_no_column_holds_costs_the_cache_alone(folder: Path) -> None:
    record = next(iter(truth(folder).values()))
    with pytest.raises((OverflowError, pa.ArrowException)):
        packed(RunRecord, [record.model_copy(update={"forward_evaluations": 2**64})])
    huge = record.model_copy(update={"forward_evaluations": 2**64})
    write_record(folder, huge)
    (folder / CACHE).unlink()
    assert read_records(folder)[huge.run_id] == huge
    assert not (folder / CACHE).exists()


def test_a_small_study_needs_no_cache(tmp_path: Path) -> None:
    spec, found = synthetic_study(tasks=("digits",), trials=2, replicates=2)
    folder = write_results(tmp_path / "study", spec, found)
    assert read_records(folder) == truth(folder)
    assert not (folder / CACHE).exists()
