"""Keep up, in a thread, the views of the records that other programs read: ``optuna.db`` and ``tensorboard/``.

What they need takes seconds to import (tensorboardX imports torch), so the thread begins when the first run has a
worker: before that every core is busy with starting workers. A driver that is killed leaves the views behind the
records; the next start makes up for it.
"""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from study.listeners.listener import Listener, reason, run_name
from study.plan.agenda import Agenda
from study.plan.cells import Search
from study.records import Job, RunRecord
from study.specs.spec import SearchSpace

if TYPE_CHECKING:
    from study.listeners.optuna_store import OptunaStore
    from study.listeners.tensorboard import TensorBoardLog

_DATABASE, _EVENTS = "optuna.db", "tensorboard"  # names in the results folder
MOST_WAITING = 1000  # finished runs in memory; a disk that is slower than the study holds it up


def catch_up(folder: Path, space: SearchSpace, agenda: Agenda, warn: Callable[[str], None]) -> None:
    """Mend the views of a finished study that are behind its records or damaged; one that is gone stays away.

    Args:
        folder, space, agenda, warn: As for `Views`.
    """
    known = agenda.records_with_searches()
    tuned = [search for record, search in known if record.job.stage == "tune"]
    database, events = folder / _DATABASE, folder / _EVENTS
    with _may_fail(database, warn):
        if _lacks_trials(database, sum(len({one.role for one in search.contenders}) for search in tuned)):
            from study.listeners.optuna_store import OptunaStore  # noqa: PLC0415  # Optuna takes a second to import

            OptunaStore(database, space, known, warn).close()
    with _may_fail(events, warn):
        if events.is_dir() and {run_name(record) for record, _ in known} - {entry.name for entry in events.iterdir()}:
            from study.listeners.tensorboard import TensorBoardLog  # noqa: PLC0415  # with torch

            TensorBoardLog(events, agenda.records)


@contextmanager
def _may_fail(view: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Let the disk, or what a view is written with, cost that view alone and one line."""
    try:
        yield
    except Exception as error:  # anything that what it is written with may raise
        warn(f"{view} can't be written ({reason(error)}); the study goes on, and its next start makes up for it.")


def _lacks_trials(path: Path, expected: int) -> bool:
    """Tell whether a database that is there is damaged or has other than so many trials."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute("select count(*) from trials").fetchone()[0] != expected)
    except sqlite3.Error:
        return True


class Views(Listener):
    """Writes each finished run into every view; what goes wrong costs the view that it happens to, and one line.

    Args:
        folder: The results folder.
        space: The study's search space.
        agenda: Whose records to start from.
        warn: Told, once each, when a view can't be written; it is left alone until the study's next start.
        then: Called in the thread when the views are open; what it raises is lost.
    """

    def __init__(
        self, folder: Path, space: SearchSpace, agenda: Agenda, warn: Callable[[str], None], then: Callable[[], object]
    ) -> None:
        self._folder, self._space, self._agenda, self._warn, self._then = folder, space, agenda, warn, then
        self._known = agenda.records_with_searches()
        self._thread = ThreadPoolExecutor(1, "views")
        self._room = BoundedSemaphore(MOST_WAITING)
        self._begun = False
        self._broken: set[str] = set()  # views that are left alone
        self._later: Future[object] | None = None
        self._store: OptunaStore | None = None
        self._log: TensorBoardLog | None = None

    def started(self, job: Job) -> None:
        """Begin with the first run."""
        self._begin()

    def finished(self, record: RunRecord) -> None:
        """Have a run written."""
        self._begin()
        self._room.acquire()
        self._thread.submit(self._write, record, self._agenda.search_of(record))

    def settle(self) -> None:
        """Wait until everything is written."""
        self._thread.shutdown()

    def close(self) -> None:
        """Let go of the files, when what was under way is written."""
        if self._later:
            self._later.cancel()
        self._thread.shutdown()
        if self._store:
            self._store.close()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._thread.submit(self._open)
            self._later = self._thread.submit(self._then)

    def _open(self) -> None:
        with self._writing(_DATABASE):
            from study.listeners.optuna_store import OptunaStore  # noqa: PLC0415  # see above

            self._store = OptunaStore(self._folder / _DATABASE, self._space, self._known, self._warn)
        with self._writing(_EVENTS):
            from study.listeners.tensorboard import TensorBoardLog  # noqa: PLC0415  # see above

            self._log = TensorBoardLog(self._folder / _EVENTS, [record for record, _ in self._known])

    def _write(self, record: RunRecord, search: Search) -> None:
        self._room.release()
        if self._store and _DATABASE not in self._broken:
            with self._writing(_DATABASE):
                self._store.add(record, search)
        if self._log and _EVENTS not in self._broken:
            with self._writing(_EVENTS):
                self._log.write(record)

    @contextmanager
    def _writing(self, view: str) -> Iterator[None]:
        def give_up(text: str) -> None:
            self._broken.add(view)
            self._warn(text)

        with _may_fail(self._folder / view, give_up):
            yield
