"""``optuna.db``: every search as an Optuna study, for ``optuna-dashboard sqlite:///…/optuna.db``.

A view of the records, made anew when a study starts or resumes and kept up while it runs, so a damaged or deleted file
costs nothing. One Optuna study per cell, searched method (a baseline's last and best weights are two) and replicate, so
each one's own values can be browsed.
"""

from collections.abc import Iterable
from pathlib import Path

import optuna
from sqlalchemy import URL

from study.listeners.listener import Listener
from study.plan.agenda import Agenda
from study.plan.cells import Search
from study.plan.optuna_trials import quiet_study, trial_of
from study.plan.proposals import outcome_of
from study.records import RunRecord


class OptunaStore(Listener):
    """Mirrors finished tune runs into an SQLite file of Optuna's own format.

    Args:
        path: The file; an old one is replaced.
        agenda: Whose runs and searches they are.
        known: The records to start from.

    Raises:
        Exception: the disk's, SQLite's or Optuna's, here and whenever a run is added.
    """

    def __init__(self, path: Path, agenda: Agenda, known: Iterable[RunRecord]) -> None:
        # A driver that was killed in a write has left its journal: SQLite would roll that back onto the new file.
        for old in (path, path.with_name(f"{path.name}-journal")):
            old.unlink(missing_ok=True)
        url = URL.create("sqlite", database=str(path.resolve()))  # a "?" or "%" in a path is no part of a URL
        self._agenda, self._studies = agenda, dict[str, optuna.Study]()
        self._storage = optuna.storages.RDBStorage(url.render_as_string())
        try:
            for record in known:
                self.finished(record)
        except Exception:
            self.close()
            raise

    def finished(self, record: RunRecord) -> None:
        """Add a tune run to the study of each method that it serves; confirm runs belong to no search."""
        if record.job.stage != "tune":
            return
        search = self._agenda.search_of(record)
        attributes: dict[str, object] = {"run_id": record.run_id, "diverged": record.status == "diverged"}
        for role, one in search.roles.items():
            trial = trial_of(self._agenda.spec.search, search, outcome_of(one, record), attributes)
            self._study(_name_of(search, role)).add_trial(trial)

    def close(self) -> None:
        """Let go of the file."""
        self._storage.engine.dispose()

    def _study(self, name: str) -> optuna.Study:
        if name not in self._studies:
            self._studies[name] = quiet_study(storage=self._storage, study_name=name, direction="maximize")
        return self._studies[name]


def _name_of(search: Search, role: str) -> str:
    longer = f" {search.epochs_factor:g}x epochs" if search.epochs_factor > 1 else ""
    return f"{search.cell.name} | {role}{longer} | replicate {search.replicate.number}"
