"""``records.parquet``: the records of a folder once more, in columns, so that 100,000 of them open in seconds.

It is what ``__pycache__`` is to a program. Every row carries the size and time of the file that it was read from and
counts only while that file still has them; a cache that is missing, damaged or of another version is none. The files
stay the truth.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from study.files import write_atomically
from study.records import RunRecord
from study.store.columns import packed, shape_of, unpacked

CACHE = "records.parquet"
Stamp = tuple[int, int]
_WRITER = b"written by"


def stamp_of(file: os.stat_result) -> Stamp:
    """Return what changes whenever a file is written: its size in bytes and its time in nanoseconds."""
    return file.st_size, file.st_mtime_ns


def read_cache(folder: Path) -> dict[str, tuple[Stamp, RunRecord]]:
    """Return the records that were cached, by run id, each with the stamp that its file had; empty without a cache."""
    path = folder / CACHE
    if not path.is_file():
        return {}
    try:
        # The file itself and not `read_table`, which takes most of a second to load what reads whole datasets.
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if (table.schema.metadata or {}).get(_WRITER) != _writer() or not table.schema.equals(_columns([], []).schema):
            return {}
        stamps = zip(table["size"].to_pylist(), table["modified_ns"].to_pylist(), strict=True)
        records = unpacked(RunRecord, table["record"].combine_chunks())
    except (OSError, KeyError, ValueError, pa.ArrowException):  # damaged: as good as none
        return {}
    return {record.run_id: (stamp, record) for stamp, record in zip(stamps, records, strict=True)}


def write_cache(folder: Path, found: Mapping[str, tuple[Stamp, RunRecord]]) -> None:
    """Cache records with the stamps of their files; where that can't be done, nothing is lost but time."""
    with suppress(OSError, OverflowError, pa.ArrowException):
        table = _columns([stamp for stamp, _ in found.values()], [record for _, record in found.values()])
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
        write_atomically(folder / CACHE, sink.getvalue().to_pybytes())


def _columns(stamps: Sequence[Stamp], records: Sequence[RunRecord]) -> pa.Table:
    return pa.table(
        {
            "size": pa.array([size for size, _ in stamps], pa.int64()),
            "modified_ns": pa.array([modified for _, modified in stamps], pa.int64()),
            "record": packed(RunRecord, records),
        },
        metadata={_WRITER: _writer()},
    )


def _writer() -> bytes:
    """Return which program wrote a cache: another may have validated records by other rules."""
    return f"{version('wasam-study')} {shape_of(RunRecord)}".encode()
