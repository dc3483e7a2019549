"""``optuna.db``: every search as an Optuna study, for ``optuna-dashboard sqlite:///…/optuna.db``.

A view of the records, made anew when a study starts or resumes and kept up while it runs; a damaged or deleted
file costs nothing, and one that can't be written costs the view, not the study. One Optuna study per cell × method,
so each method's own values can be browsed.
"""

from collections.abc import Callable
from pathlib import Path

import optuna
from sqlalchemy.exc import SQLAlchemyError

from study.agenda import Agenda
from study.plan import Search
from study.proposals import outcome_of, quiet_study, trial_of
from study.records import RunRecord
from study.spec import SearchSpace

_WRITE_ERRORS = (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError)


class OptunaStore:
    """Mirrors finished tune runs into an SQLite file of Optuna's own format.

    Args:
        path: The file; an old one is replaced, once the new one holds everything that is known.
        space: The study's search space.
        agenda: Whose records to start from.
        warn: Told, once, when the file can't be written; it is left alone from then on.
    """

    def __init__(self, path: Path, space: SearchSpace, agenda: Agenda, warn: Callable[[str], None]) -> None:
        self._path, self._space, self._warn = path, space, warn
        self._studies: dict[str, optuna.Study] = {}
        self._storage: optuna.storages.RDBStorage | None = None
        try:
            self._build(agenda)
        except _WRITE_ERRORS as error:
            self._give_up(error)

    def _build(self, agenda: Agenda) -> None:
        building = self._path.with_name(f".{self._path.name}.building")
        building.unlink(missing_ok=True)
        self._storage = _open(building)
        for record in agenda.records:
            self._add(record, agenda.search_of(record))
        self._storage.engine.dispose()
        building.replace(self._path)
        self._storage = _open(self._path)
        self._studies.clear()

    def add(self, record: RunRecord, search: Search) -> None:
        """Add a tune run to the study of each method that it serves; confirm runs belong to no search."""
        if self._storage:
            try:
                self._add(record, search)
            except _WRITE_ERRORS as error:
                self._give_up(error)

    def _add(self, record: RunRecord, search: Search) -> None:
        if record.job.stage != "tune":
            return
        attributes: dict[str, object] = {"run_id": record.run_id, "diverged": record.status == "diverged"}
        for method in search.methods:
            trial = trial_of(self._space, search, outcome_of(method, record), attributes)
            self._study(search, method).add_trial(trial)

    def _give_up(self, error: Exception) -> None:
        reason = str(error).splitlines()[0]
        self._warn(f"{self._path} can't be written ({reason}); the study goes on, and its next start makes it anew.")
        self.close()
        self._storage = None

    def close(self) -> None:
        """Let go of the file."""
        if self._storage:
            self._storage.engine.dispose()

    def _study(self, search: Search, method: str) -> optuna.Study:
        name = f"{search.cell.name} | {method}" + (
            f" {search.epochs_factor:g}x epochs" if search.epochs_factor > 1 else ""
        )
        if name not in self._studies:
            self._studies[name] = quiet_study(
                storage=self._storage, study_name=name, direction="maximize", load_if_exists=True
            )
        return self._studies[name]


def _open(path: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
