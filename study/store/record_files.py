"""The files of a results folder that hold what was measured: one per run, line and plane.

They are the truth of the folder; ``runs.parquet``, ``findings.json``, ``optuna.db`` and the report are views that are
rebuilt from them. The driver alone writes them, each through a temporary file and a rename, so a reader never meets
half of one. Records of older versions are brought to the present one as they are read, a step a version.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from study.files import write_atomically
from study.garbage import without_collector
from study.records import RECORD_VERSION, LineRecord, PlaneRecord, RunRecord, kind_of
from study.specs.methods import BUILT_IN

Content = dict[str, Any]


class RecordError(ValueError):
    """A record that can't be read; the message names the file, what is wrong and the remedy."""


def record_path(folder: Path, run_id: str) -> Path:
    """Return where a run's record stands in a results folder."""
    return folder / "records" / f"{run_id}.json"


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write ``record`` to ``<folder>/records/<run_id>.json``, in a folder that is there, and return the path."""
    path = record_path(folder, record.run_id)
    write_atomically(path, record.model_dump_json(indent=1), make_folder=True)
    return path


@without_collector()
def read_records(folder: Path) -> dict[str, RunRecord]:
    """Read all records of a results folder, by run id, in the order of their names.

    Raises:
        RecordError: a file is not a record of this version, or its name and content disagree.
    """
    place = folder / "records"
    names = sorted(os.listdir(place)) if place.is_dir() else ()  # texts sort faster than paths
    return {name.removesuffix(".json"): _read(place / name) for name in names if name.endswith(".json")}


def _read(path: Path) -> RunRecord:
    try:
        with path.open("rb", buffering=0) as file:
            record = _parsed(file.read())
    except (ValueError, RecursionError) as error:  # no JSON, no record, or an unknown version
        raise RecordError(
            f"{path} is not a run record of version {RECORD_VERSION}: {_reason(error)}; "
            "move the file away and resume, and its run is done again."
        ) from error
    if record.run_id != path.stem or record.job.run_id != record.run_id:
        raise RecordError(
            f"{path} holds the record of run {record.job.run_id}; its name and content must agree; "
            "move the file away and resume, and its run is done again."
        )
    return record


def _parsed(content: bytes) -> RunRecord:
    """Read a record of this version fast, and one of an older version through its migrations."""
    try:
        return RunRecord.model_validate_json(content)
    except ValidationError:
        older = migrated(json.loads(content))
        if older is None:
            raise
        return RunRecord.model_validate(older, strict=False)


def _reason(error: ValueError | RecursionError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {first['msg']}"


def read_lines(folder: Path) -> tuple[LineRecord, ...]:
    """Read the lines of a results folder, in the order of their names.

    Raises:
        RecordError: a file is no line.
    """
    return _read_landscapes(folder / "lines", LineRecord)


def read_planes(folder: Path) -> tuple[PlaneRecord, ...]:
    """Read the planes of a results folder, in the order of their names.

    Raises:
        RecordError: a file is no plane.
    """
    return _read_landscapes(folder / "planes", PlaneRecord)


_Landscape = TypeVar("_Landscape", LineRecord, PlaneRecord)


def _read_landscapes(folder: Path, kind: type[_Landscape]) -> tuple[_Landscape, ...]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(kind.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise RecordError(
                f"{path} can't be read: {_reason(error)}; move the file away and resume, and it is measured again."
            ) from error
    return tuple(found)


def migrated(content: object) -> Content | None:
    """Return a record's plain content in the present version; None if it is no older record.

    Raises:
        ValueError: the record comes from a newer version of this program.
    """
    if not isinstance(content, dict):
        return None
    version = content.get("schema_version")
    if type(version) is not int or not 1 <= version <= RECORD_VERSION:
        if type(version) is int and version > RECORD_VERSION:
            raise ValueError(f"it has version {version}; this program reads up to {RECORD_VERSION}: update the program")
        return None
    if version == RECORD_VERSION:
        return None
    for step in range(version, RECORD_VERSION):
        content = _STEPS[step](content)
    return content


def _scores_for_accuracies(content: Content) -> Content:
    """Version 2 calls a task's metric its score, because not every task is a classification."""
    measurements = [
        {name.replace("_accuracy", "_score"): value for name, value in measurement.items()}
        for measurement in content.get("measurements", ())
    ]
    return content | {"schema_version": 2, "measurements": measurements}


def _kinds_for_averages(content: Content) -> Content:
    """Version 3 tells which kinds of weights a run answers for, and names its replicate and its method."""
    job = dict(content["job"])
    measured = job.pop("measured", None)
    kinds = ("swa", "ema" if job.get("ema_decays") else "", "lawa" if job.get("lawa_windows") else "")
    seen = kinds if measured is None else tuple(map(kind_of, measured))
    job["reads"] = ["last", *dict.fromkeys(kind for kind in seen if kind)]
    return content | {"schema_version": 3, "job": job, "method": BUILT_IN.last_of(job["family"])}


def _without_reliability(content: Content) -> Content:
    """Version 4 holds calibration errors alone, and no more the bins that they are made of."""
    return {name: value for name, value in content.items() if name != "reliability"} | {"schema_version": 4}


_STEPS: dict[int, Callable[[Content], Content]] = {
    1: _scores_for_accuracies,
    2: _kinds_for_averages,
    3: _without_reliability,
}
