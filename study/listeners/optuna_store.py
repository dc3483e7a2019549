"""``optuna.db``: every search as an Optuna study, for ``optuna-dashboard sqlite:///…/optuna.db``.

A view of the records, made anew when a study starts or resumes and kept up while it runs; a damaged or deleted
file costs nothing, and one that can't be written costs the view, not the study. One Optuna study per cell, searched
method (a baseline's last and best weights are two) and replicate, so each one's own values can be browsed.
"""

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from study.files import temporary_beside
from study.listeners import bare_optuna
from study.listeners.listener import reason
from study.plan.cells import Search
from study.plan.optuna_trials import trial_of
from study.plan.proposals import outcome_of
from study.records import RunRecord
from study.specs.contenders import Contender
from study.specs.spec import SearchSpace


def searched_by(search: Search) -> list[Contender]:
    """Return who is served by a search, each role once: a method reads the same of it under every budget."""
    return list({one.role: one for one in search.contenders}.values())


class OptunaStore:
    """Mirrors finished tune runs into an SQLite file of Optuna's own format.

    Args:
        path: The file; an old one is replaced, once the new one holds everything that is known.
        space: The study's search space.
        known: The records to start from, with their searches.
        warn: Told, once, when the file can't be written, for whatever reason; it is left alone from then on.
    """

    def __init__(
        self, path: Path, space: SearchSpace, known: Iterable[tuple[RunRecord, Search]], warn: Callable[[str], None]
    ) -> None:
        self._path, self._space, self._warn = path, space, warn
        self._file: bare_optuna.Searches | None = None
        try:
            self._build(known)
        except Exception as error:  # the disk's, SQLite's, Optuna's, or a value that it refuses
            with suppress(OSError):
                self._path.touch()  # one that is not there was removed on purpose, and is not made anew
            self._give_up(error)

    def _build(self, known: Iterable[tuple[RunRecord, Search]]) -> None:
        building = temporary_beside(self._path)
        try:
            bare_optuna.make_tables(building)
            with closing(bare_optuna.opened(building)) as file, file.whole():
                for record, search in known:
                    self._add(file, record, search)
            # A driver that was killed in a write has left its journal: SQLite would roll that back onto the new file.
            _journal_of(self._path).unlink(missing_ok=True)
            building.replace(self._path)
        finally:
            for left in (building, _journal_of(building)):
                left.unlink(missing_ok=True)
        self._file = bare_optuna.opened(self._path)

    def add(self, record: RunRecord, search: Search) -> None:
        """Add a tune run to the study of each method that it serves; confirm runs belong to no search."""
        if self._file:
            try:
                with self._file.whole():
                    self._add(self._file, record, search)
            except Exception as error:  # as above
                self._give_up(error)

    def _add(self, file: bare_optuna.Searches, record: RunRecord, search: Search) -> None:
        if record.job.stage != "tune":
            return
        attributes: dict[str, object] = {"run_id": record.run_id, "diverged": record.status == "diverged"}
        for one in searched_by(search):
            trial = trial_of(self._space, search, outcome_of(one, record), attributes)
            file.add(_name_of(search, one.role), trial)

    def _give_up(self, error: Exception) -> None:
        self._warn(
            f"{self._path} can't be written ({reason(error)}); the study goes on, and its next start makes it anew."
        )
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file:
            with suppress(Exception):  # there is nothing more to lose
                file.close()


def _name_of(search: Search, role: str) -> str:
    longer = f" {search.epochs_factor:g}x epochs" if search.epochs_factor > 1 else ""
    return f"{search.cell.name} | {role}{longer} | replicate {search.replicate.number}"


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")
