"""``optuna.db``: every search as an Optuna study, for ``optuna-dashboard sqlite:///…/optuna.db``.

A view of the records, made anew when a study starts or resumes and kept up while it runs; a damaged or deleted
file costs nothing. One Optuna study per cell × method, so each method's own values can be browsed.
"""

from pathlib import Path

import optuna

from study.agenda import Agenda
from study.plan import Search
from study.proposals import outcome_of, quiet_study, trial_of
from study.records import RunRecord
from study.spec import SearchSpace


class OptunaStore:
    """Mirrors finished tune runs into an SQLite file of Optuna's own format.

    Args:
        path: The file; an old one is replaced, once the new one holds everything that is known.
        space: The study's search space.
        agenda: Whose records to start from.
    """

    def __init__(self, path: Path, space: SearchSpace, agenda: Agenda) -> None:
        self._space = space
        building = path.with_name(f".{path.name}.building")
        building.unlink(missing_ok=True)
        self._studies: dict[str, optuna.Study] = {}
        self._storage = _open(building)
        for record in agenda.records:
            self.add(record, agenda.search_of(record))
        self._storage.engine.dispose()
        building.replace(path)
        self._storage = _open(path)
        self._studies.clear()

    def add(self, record: RunRecord, search: Search) -> None:
        """Add a tune run to the study of each method that it serves; confirm runs belong to no search."""
        if record.job.stage != "tune":
            return
        attributes: dict[str, object] = {"run_id": record.run_id, "diverged": record.status == "diverged"}
        for method in search.methods:
            trial = trial_of(self._space, search, outcome_of(method, record), attributes)
            self._study(search, method).add_trial(trial)

    def close(self) -> None:
        """Let go of the file."""
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
