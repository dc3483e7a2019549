"""``optuna.db``: every search as an Optuna study, for ``optuna-dashboard sqlite:///…/optuna.db``.

A view of the records, made anew when a study starts or resumes and kept up while it runs; a damaged or deleted
file costs nothing, and one that can't be written costs the view, not the study. One Optuna study per cell, searched
method (a baseline's last and best weights are two) and replicate, so each one's own values can be browsed.

Optuna makes the file; its rows are written here. Optuna's own `add_trial` takes some forty statements and a commit that
waits for the disk: more of the driver's time than all else of a run together, and the more the longer the study.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import optuna
from optuna.distributions import distribution_to_json

from study.files import temporary_beside
from study.listeners.listener import reason
from study.plan.cells import Search
from study.plan.optuna_trials import trial_of
from study.plan.proposals import outcome_of
from study.records import RunRecord
from study.specs.contenders import Contender
from study.specs.spec import SearchSpace

_PATIENCE_S = 10.0  # a dashboard that reads holds a writer up for so long at most


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
        self._studies: dict[str, _Rows] = {}
        self._database: sqlite3.Connection | None = None
        try:
            self._build(known)
        except Exception as error:  # the disk's, SQLite's, Optuna's, or a value that it refuses
            with suppress(OSError):
                self._path.touch()  # one that is not there was removed on purpose, and is not made anew
            self._give_up(error)

    def _build(self, known: Iterable[tuple[RunRecord, Search]]) -> None:
        building = temporary_beside(self._path)
        try:
            optuna.storages.RDBStorage(f"sqlite:///{building.resolve()}").engine.dispose()  # makes the tables
            with closing(_opened(building)) as database, database:
                for record, search in known:
                    self._add(database, record, search)
            # A driver that was killed in a write has left its journal: SQLite would roll that back onto the new file.
            _journal_of(self._path).unlink(missing_ok=True)
            building.replace(self._path)
        finally:
            for left in (building, _journal_of(building)):
                left.unlink(missing_ok=True)
        self._database = _opened(self._path)

    def add(self, record: RunRecord, search: Search) -> None:
        """Add a tune run to the study of each method that it serves; confirm runs belong to no search."""
        if self._database:
            try:
                with self._database:
                    self._add(self._database, record, search)
            except Exception as error:  # as above
                self._give_up(error)

    def _add(self, database: sqlite3.Connection, record: RunRecord, search: Search) -> None:
        if record.job.stage != "tune":
            return
        attributes: dict[str, object] = {"run_id": record.run_id, "diverged": record.status == "diverged"}
        for one in searched_by(search):
            trial = trial_of(self._space, search, outcome_of(one, record), attributes)
            self._study(database, search, one.role).add(database, trial)

    def _give_up(self, error: Exception) -> None:
        self._warn(
            f"{self._path} can't be written ({reason(error)}); the study goes on, and its next start makes it anew."
        )
        self.close()
        self._database = None

    def close(self) -> None:
        """Let go of the file."""
        if self._database:
            with suppress(sqlite3.Error):
                self._database.close()

    def _study(self, database: sqlite3.Connection, search: Search, role: str) -> "_Rows":
        longer = f" {search.epochs_factor:g}x epochs" if search.epochs_factor > 1 else ""
        name = f"{search.cell.name} | {role}{longer} | replicate {search.replicate.number}"
        if name not in self._studies:
            self._studies[name] = _Rows(database, name)
        return self._studies[name]


class _Rows:
    """The rows of one Optuna study of one objective, which is maximised.

    Args:
        database: A file with Optuna's tables.
        name: The study's; there must be none of that name.
    """

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._trials = 0
        self._id = database.execute("INSERT INTO studies (study_name) VALUES (?)", (name,)).lastrowid
        database.execute(
            "INSERT INTO study_directions (direction, study_id, objective) VALUES ('MAXIMIZE', ?, 0)", (self._id,)
        )

    def add(self, database: sqlite3.Connection, trial: optuna.trial.FrozenTrial) -> None:
        """Add a finished trial; it gets the next number."""
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        added = database.execute(
            "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?)",
            (self._trials, self._id, trial.state.name, now, now),
        ).lastrowid
        self._trials += 1
        if trial.value is not None:
            database.execute(
                "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')",
                (added, trial.value),
            )
        database.executemany(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
            [
                (added, name, kind.to_internal_repr(trial.params[name]), distribution_to_json(kind))
                for name, kind in trial.distributions.items()
            ],
        )
        database.executemany(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
            [(added, key, json.dumps(value)) for key, value in trial.user_attrs.items()],
        )
        database.executemany(
            "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
            " VALUES (?, ?, ?, 'FINITE')",
            [(added, step, value) for step, value in trial.intermediate_values.items()],
        )


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _opened(path: Path) -> sqlite3.Connection:
    # It is used in one thread and closed in another.
    database = sqlite3.connect(path.resolve(), timeout=_PATIENCE_S, check_same_thread=False)
    database.execute("PRAGMA synchronous = OFF")  # a power cut may cost the view; the records wait for the disk
    return database
