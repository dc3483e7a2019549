"""The results folder on disk: its layout, its frozen spec, the records that belong to it. Light to import.

``spec.toml`` (frozen, its hash in the first line) · ``records/<run_id>.json`` · ``runs.parquet`` · ``findings.json`` ·
``optuna.db`` · ``report.html`` · ``ray/``. Spec and records are the truth; all else is a view.
Records that no longer count stand aside, never deleted: ``records/failed/`` (their runs were done again) and
``records/superseded/`` (what they belonged to was not chosen again).
"""

import errno
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from study.files import is_temporary, write_atomically
from study.plan.cells import cells
from study.records import RunRecord, changed_files
from study.specs.spec import StudySpec, parse_spec
from study.store.record_files import RecordError, read_records, record_path

if TYPE_CHECKING:
    from study.plan.agenda import Agenda

_HASH_LINE = "# spec hash: "
_EXTENDS_LINE = "# extends: "
_EXTENDED_LINE = "# replicates before it was extended: "
LOCK = ".lock"  # see `study.store.lock`
_FAILED, _SUPERSEDED = "failed", "superseded"  # folders under ``records``


class ResultsError(ValueError):
    """A results folder that can't be used as asked; the message says what to do."""


def records_of(folder: Path, spec: StudySpec) -> tuple[RunRecord, ...]:
    """Read the records that belong to a spec or to one that it extends, under the spec's own names of cells.

    A record of another spec is somebody else's: it is left where it is, and out of this study.
    """
    ours = {spec.hash, *_header(folder, _EXTENDS_LINE)}
    names = {(cell.task, repr(cell.factors)): cell.name for cell in cells(spec)}
    found = []
    for record in read_records(folder).values():
        if record.spec_hash not in ours:
            continue
        cell = names.get((record.job.task, repr(record.job.factors)))
        if cell is None:
            raise RecordError(
                f"{record_path(folder, record.run_id)} belongs to the cell {record.job.cell!r}, which is none of the "
                "spec's; move the file away and resume."
            )
        if record.job.cell != cell:  # names list what varies, and that changes when a study grows
            record = record.model_copy(update={"job": record.job.model_copy(update={"cell": cell})})
        found.append(record)
    return tuple(found)


def check_sources(folder: Path, spec: StudySpec, sources: Mapping[str, str]) -> None:
    """Make sure that what has been measured so far came from the source that the user's own code has now.

    Args:
        folder, spec: The results folder, and its spec.
        sources: By own task, optimizer or schedule; see `study.tasks.source.source_of`.

    Raises:
        ResultsError: runs of another source are there.
    """
    runs: dict[str, Counter[str]] = {}
    for record in records_of(folder, spec):
        for name, source in record.sources.items() if record.measurements else ():
            runs.setdefault(name, Counter())[source] += 1
    for name, found in runs.items():
        now = sources.get(name, "")
        if now and (other := {source: count for source, count in found.items() if source != now}):
            files = dict.fromkeys(name for source in other for name in changed_files(source, now))
            raise ResultsError(
                f"{name!r} was changed after {sum(other.values())} of {found.total()} runs in {folder}: another "
                f"{', '.join(files)} (a comment counts, too); put the old text back, or start anew with --fresh "
                "or another --out, or give --accept-changed-task, and findings and page will say that two sources "
                "were mixed"
            )


def check_still_there(folder: Path) -> None:
    """Make sure that a study's folder has not been moved or deleted under its driver.

    What Ray or a tracker may make of its name afterwards has no spec, and nobody could resume it.

    Raises:
        FileNotFoundError: it has.
    """
    if not (folder / "spec.toml").is_file():
        raise FileNotFoundError(errno.ENOENT, "the results folder has vanished while its study ran", str(folder))


def holds_files(folder: Path) -> bool:
    """Tell whether there is anything in a folder but what a driver that died at once leaves behind."""
    return folder.exists() and any(path.name != LOCK and not is_temporary(path) for path in folder.iterdir())


def sweep(folder: Path) -> None:
    """Delete what drivers that were killed in the middle of a write have left; under the folder's lock alone."""
    for path in (*folder.glob(".*"), *folder.glob("*/.*"), *folder.glob("records/*/.*")):
        if is_temporary(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def set_aside_failed(folder: Path, spec: StudySpec) -> int:
    """Move the records of failed runs out of the study, so that it runs them again; return how many."""
    failed = [record for record in records_of(folder, spec) if record.status == "failed"]
    for record in failed:
        _set_aside(folder, record.run_id, _FAILED)
    return len(failed)


def set_aside_superseded(folder: Path, spec: StudySpec, agenda: "Agenda") -> None:
    """Move records that a finished agenda doesn't count out of a study, if failed runs were done again in it.

    What a run that failed at first has measured since may have changed the choices after it; then the runs of the
    earlier choices are not part of the study any more.
    """
    if agenda.finished and (folder / "records" / _FAILED).is_dir():
        planned = {record.run_id for record in agenda.records}
        ours = {record.run_id for record in records_of(folder, spec) if record.job.replicate in agenda.numbers}
        for run_id in ours - planned:
            _set_aside(folder, run_id, _SUPERSEDED)


def _set_aside(folder: Path, run_id: str, name: str) -> None:
    """Move a record to a folder beside its own, next to those that the same run has there already."""
    aside = folder / "records" / name
    aside.mkdir(exist_ok=True)
    number = 1
    while (path := aside / f"{run_id}-{number}.json").exists():
        number += 1
    record_path(folder, run_id).rename(path)


def freeze_spec(folder: Path, spec: StudySpec, text: str) -> None:
    """Write the spec's own text to ``spec.toml`` under a line with its hash, and those of the specs it extends.

    A study that grows after some of its runs could be seen is marked as extended, unless cells alone were added.
    """
    earlier = [*_header(folder, _EXTENDS_LINE), *_header(folder, _HASH_LINE)]
    lineage = "".join(f"{_EXTENDS_LINE}{found}\n" for found in earlier)
    before = extended_from(folder)
    if not before and any((folder / "records").glob("*.json")) and (held := frozen_spec(folder)):
        # New cells change nothing that is said of those that it had.
        sizes = [(one.replicates, one.confirms, one.search.trials) for one in (held, spec)]
        before = held.replicates if sizes[0] != sizes[1] else 0
    if before:
        lineage += f"{_EXTENDED_LINE}{before}\n"
    # A spec that was copied from another results folder brings that folder's lines along.
    ours = (_HASH_LINE, _EXTENDS_LINE, _EXTENDED_LINE)
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(ours))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "spec.toml", f"{_HASH_LINE}{spec.hash}\n{lineage}{body}")


def _header(folder: Path, key: str, value: str = "[0-9a-f]{64}") -> list[str]:
    """Return what stands in ``spec.toml`` after a key: hashes, or values of another form."""
    path = folder / "spec.toml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return re.findall(f"^{re.escape(key)}({value})$", text, re.MULTILINE)


def extended_from(folder: Path) -> int:
    """Return the replicates that a study had before it was extended; 0 if it was not."""
    return int(next(iter(_header(folder, _EXTENDED_LINE, "[0-9]+")), 0))


def frozen_spec(folder: Path) -> StudySpec | None:
    """Return the spec that a folder was started with, or None when there is none.

    Raises:
        ResultsError: the file was changed after the start.
        SpecError: it can't be parsed.
    """
    path = folder / "spec.toml"
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path} is damaged: it is no UTF-8 text ({error}); put the spec's text back.") from error
    spec = parse_spec(text, str(path), frozen=True)
    stamped = _header(folder, _HASH_LINE)
    if stamped != [spec.hash]:
        raise ResultsError(
            f"{path} was changed after the study had started; its hash must be {stamped[0] if stamped else 'line 1'}; "
            "undo the change, or start the changed spec with another --out."
        )
    return spec


def fresh_folder_name(folder: Path) -> Path:
    """Return the first free name ``<folder>-old-1``, ``-old-2`` … to move an old study to."""
    number = 1
    while (renamed := folder.with_name(f"{folder.name}-old-{number}")).exists():
        number += 1
    return renamed
