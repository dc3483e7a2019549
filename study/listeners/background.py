"""Keep up, in a thread, the views of the records that other programs read: ``optuna.db`` and ``tensorboard/``.

What they need takes seconds to import (tensorboardX imports torch), so the thread begins when the first run has a
worker: before that every core is busy with starting workers. A driver that is killed leaves the views behind the
records; the next start makes up for it.
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import BoundedSemaphore

from study.listeners.listener import Careful, Listener, run_name
from study.plan.agenda import Agenda
from study.records import Job, RunRecord

MOST_WAITING = 1000  # finished runs in memory; a disk that is slower than the study holds it up


class BackgroundWriter(Listener):
    """Writes each finished run into every view; what goes wrong costs the view that it happens to, and one line.

    Args:
        folder: The results folder.
        agenda: Whose runs they are; its records are written first.
        warn: Told, once each, when a view can't be written; it is left alone until the study's next start.
        then: Called in the thread when the views are open; what it raises is lost.
    """

    def __init__(self, folder: Path, agenda: Agenda, warn: Callable[[str], None], then: Callable[[], object]) -> None:
        self._makers, self._warn, self._then = _makers(folder, agenda), warn, then
        self._thread = ThreadPoolExecutor(1, "background writer")
        self._room = BoundedSemaphore(MOST_WAITING)
        self._begun = False
        self._writers: list[Listener] = []
        self._later: Future[object] | None = None

    def started(self, job: Job) -> None:
        """Begin with the first run."""
        self._begin()

    def finished(self, record: RunRecord) -> None:
        """Have a run written."""
        self._begin()
        self._room.acquire()
        self._thread.submit(self._write, record)

    def settle(self) -> None:
        """Wait until everything is written."""
        self._thread.shutdown()

    def close(self) -> None:
        """Let go of the files, when what was under way is written."""
        if self._later:
            self._later.cancel()
        self._thread.shutdown()
        for writer in self._writers:
            writer.close()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._thread.submit(self._open)
            self._later = self._thread.submit(self._then)

    def _open(self) -> None:
        self._writers = [Careful.made(make, _writing(path), self._warn) for path, make in self._makers.items()]

    def _write(self, record: RunRecord) -> None:
        self._room.release()
        for writer in self._writers:
            writer.finished(record)


def catch_up(folder: Path, agenda: Agenda, warn: Callable[[str], None]) -> None:
    """Mend the views of a finished study that are behind its records or damaged; one that is gone stays away."""
    for path, make in _makers(folder, agenda).items():
        if path.exists() and _is_behind(path, agenda):
            Careful.made(make, _writing(path), warn).close()


def _is_behind(path: Path, agenda: Agenda) -> bool:
    """Tell whether a view is damaged, or holds other runs than are known."""
    if path.is_dir():
        return not {run_name(record) for record in agenda.records} <= {entry.name for entry in path.iterdir()}
    searches = [agenda.search_of(record) for record in agenda.records if record.job.stage == "tune"]
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            (trials,) = database.execute("select count(*) from trials").fetchone()
    except sqlite3.Error:
        return True
    return bool(trials != sum(len(search.roles) for search in searches))


def _makers(folder: Path, agenda: Agenda) -> dict[Path, Callable[[], Listener]]:
    """Return what opens each view, by its place; the records that are known now are written into it at once."""
    known, database, events = agenda.records, folder / "optuna.db", folder / "tensorboard"

    def optuna_store() -> Listener:
        from study.listeners.optuna_store import OptunaStore  # noqa: PLC0415  # Optuna takes a second to import

        return OptunaStore(database, agenda, known)

    def tensorboard() -> Listener:
        from study.listeners.tensorboard import TensorBoardLog  # noqa: PLC0415  # with torch

        return TensorBoardLog(events, known)

    return {database: optuna_store, events: tensorboard}


def _writing(path: Path) -> str:
    return f"the writing of {path}"
