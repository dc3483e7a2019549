"""Reading: from a file of runs to rows, one a run, whatever wrote it."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from study.existing import trackers
from study.existing.trackers import TableError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Runs as they were found: one row a run, nested settings under dotted names.

    Attributes:
        name: The file's name, without its folder.
        format: What it was read as.
        sha256: Of the file's bytes; "" of what is no single file.
        columns: Names of all columns, in their order.
        rows: The runs. Cells of a CSV are texts.
    """

    name: str
    format: str
    sha256: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(source: str) -> Table:
    """Read a table of runs.

    Args:
        source: A CSV, JSON or Parquet file, or the URL or file of an Optuna database.

    Raises:
        TableError: it can't be read, or holds no run; one sentence.
    """
    path = Path(source)
    if source.startswith(("http://", "https://")):
        raise TableError(f"{source} was given; nothing is fetched here: export the runs, and give the file.")
    if "://" in source:
        return _table(source.rpartition("/")[2], "Optuna database", "", trackers.optuna_rows(source))
    if (path / "spec.toml").exists():
        raise TableError(f"{source} is the results folder of a study, whose verdicts are in its findings.json.")
    if path.suffix.lower() in (".db", ".sqlite", ".sqlite3"):
        return _table(path.name, "Optuna database", "", trackers.optuna_rows(f"sqlite:///{path}"))
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TableError(
            f"{source} was given; a table is a file {', '.join(_READERS)}, or an Optuna database "
            "(sqlite:///optuna.db); what stands in MLflow's store: `mlflow experiments csv -x ID -o runs.csv`."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"{source} can't be read: {error.strerror}.") from error
    format_, read = reader
    return _table(
        path.name, format_, hashlib.sha256(data).hexdigest(), [trackers.flat(row) for row in read(path, data)]
    )


def table_of(frame: pd.DataFrame) -> Table:
    """Return the runs of a DataFrame; levels of its index that have a name are columns."""
    return _table("DataFrame", "DataFrame", "", [trackers.flat(row) for row in _frame_rows(frame)])


def _frame_rows(frame: pd.DataFrame) -> list[Row]:
    named = frame.reset_index() if any(name is not None for name in frame.index.names) else frame
    _check_names([str(name) for name in named.columns], "the DataFrame")
    return [{str(name): value for name, value in row.items()} for row in named.to_dict("records")]


def _table(name: str, format_: str, sha256: str, rows: Sequence[Row]) -> Table:
    if not rows:
        raise TableError(f"{name} holds no run; one row a run is needed.")
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    trackers.check_export(columns)
    return Table(name, format_, sha256, columns, tuple(rows))


def _csv_rows(path: Path, data: bytes) -> Iterable[Row]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is no text in UTF-8 (byte {error.start}); save it as CSV in UTF-8.") from error
    separator = max(",;\t", key=text.partition("\n")[0].count)  # the first of equals: a comma
    try:
        parsed = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
    except csv.Error as error:
        raise TableError(f"{path} is no CSV: {error}.") from error
    names = [name.strip() for name in parsed[0]] if parsed else []
    _check_names(names, str(path))
    for number, row in enumerate(parsed[1:], 1):
        if len(row) != len(names):
            raise TableError(f"{path}: row {number} has {len(row)} cells, and the header names {len(names)} columns.")
    return [dict(zip(names, row, strict=True)) for row in parsed[1:]]


def _check_names(names: Sequence[str], where: str) -> None:
    several = [name for name, times in Counter(names).items() if times > 1]
    if several:
        raise TableError(f"{where} has several columns named {several[0]!r}; names of columns must differ.")


def _json_rows(path: Path, data: bytes) -> Iterable[Row]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise TableError(f"{path} is no JSON: {error}.") from error
    inner = [value for value in found.values() if isinstance(value, list)] if isinstance(found, dict) else []
    found = inner[0] if len(inner) == 1 else found  # {"runs": […]}
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise TableError(f"{path} holds no list of runs; each is an object of names and values.")
    return found


def _parquet_rows(path: Path, data: bytes) -> Iterable[Row]:
    try:
        return _frame_rows(pd.read_parquet(io.BytesIO(data)))
    except (OSError, ValueError) as error:
        raise TableError(f"{path} is no Parquet file: {str(error).partition(chr(10))[0]}.") from error


_READERS: dict[str, tuple[str, Callable[[Path, bytes], Iterable[Row]]]] = {
    ".csv": ("CSV", _csv_rows),
    ".tsv": ("CSV", _csv_rows),
    ".json": ("JSON", _json_rows),
    ".parquet": ("Parquet", _parquet_rows),
}
