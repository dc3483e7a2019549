"""``records.parquet``: the records of a folder once more, in columns, so that 100,000 of them open in seconds.

It is what ``__pycache__`` is to a program. Every row carries the size and time of the file that it was read from and
counts only while that file still has them; a cache that is missing, damaged or of another version is none. The files
stay the truth.

A model (or a dataclass of pydantic) becomes an Arrow struct, a tuple of models a list of structs, and whatever else is
no plain number or text becomes JSON that stands once for all records that share it (the factors of a cell, the versions
of a machine). The shape is read off the models' own fields, so a field that is added to a record is a column without a
word here.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from pyarrow import parquet
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from study.files import write_atomically
from study.records import RunRecord
from study.store.bare_pydantic import Model, made

CACHE = "records.parquet"
Stamp = tuple[int, int]
_WRITER = b"written by"

_PLAIN = {int: pa.int64(), float: pa.float64(), str: pa.string()}


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


def packed(kind: type[Model], objects: Sequence[Model]) -> pa.StructArray:
    """Return models of one kind as an Arrow array with a field for each of theirs.

    Args:
        kind: A model, or a dataclass of pydantic that has slots.
        objects: Of that kind.

    Raises:
        pyarrow.ArrowException, OverflowError: a value that no column can hold, such as an integer above 64 bits.
    """
    fields = _fields_of(kind)
    columns = [_packed(field.annotation, [getattr(one, name) for one in objects]) for name, field in fields.items()]
    return pa.StructArray.from_arrays(columns, list(fields))


def unpacked(kind: type[Model], array: pa.StructArray) -> list[Model]:
    """Return what `packed` was given.

    The values came out of models that had been validated, so they are not validated again: that is where the time is.
    """
    fields = _fields_of(kind)
    columns = {name: _unpacked(field.annotation, array.field(name)) for name, field in fields.items()}
    return made(kind, columns, len(array))


def shape_of(kind: type[Model]) -> str:
    """Return a hash that changes whenever a model's fields or their types do."""
    return hashlib.sha256(json.dumps(TypeAdapter(kind).json_schema(), sort_keys=True).encode()).hexdigest()


def _packed(annotation: Any, values: list[Any]) -> pa.Array:
    if model := _model_in(annotation):
        if annotation is model:
            return packed(model, values)
        ends = [0, *accumulate(len(inner) for inner in values)]
        return pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), packed(model, [one for inner in values for one in inner])
        )
    if plain := _plain(annotation):
        return pa.array(values, plain)
    adapter = TypeAdapter(annotation)
    return pa.array([adapter.dump_json(value).decode() for value in values], pa.string())


def _unpacked(annotation: Any, array: pa.Array) -> list[Any]:
    if model := _model_in(annotation):
        if annotation is model:
            return unpacked(model, array)
        inner: list[Any] = unpacked(model, array.flatten())
        ends = [0, *accumulate(array.value_lengths().to_pylist())]
        return [tuple(inner[start:end]) for start, end in pairwise(ends)]
    plain = _plain(annotation)
    if plain and plain != pa.string():
        return list(array.to_pylist())
    # Equal texts become one object: there are few of them, in many rows.
    encoded = array.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    if not plain:
        adapter = TypeAdapter(annotation)
        distinct = [adapter.validate_json(text) for text in distinct]
    return [None if index is None else distinct[index] for index in encoded.indices.to_pylist()]


def _fields_of(kind: type) -> dict[str, FieldInfo]:
    """Return the fields of a model or of a dataclass of pydantic; of anything else none."""
    return getattr(kind, "__pydantic_fields__", {})


def _model_in(annotation: Any) -> type | None:
    """Return the model that an annotation is, or that it is a tuple of."""
    inner = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return inner if _fields_of(inner) else None


def _plain(annotation: Any) -> pa.DataType | None:
    """Return the type of a column of numbers or texts that may be missing; None for what takes JSON."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        kinds = {type(value) for value in arguments}
    else:
        kinds = {*arguments} - {NoneType} if origin is UnionType else {annotation}
    return _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
