"""Optuna's file of searches, written as rows of its tables; and through Optuna where those are not known.

Optuna's own `add_trial` takes some forty statements and a commit that waits for the disk: 13 ms of CPU a trial, these
rows 0.15, beside some 10 ms that the driver spends on a run in all.
"""

import json
import sqlite3
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import optuna
from optuna.distributions import distribution_to_json
from sqlalchemy import URL

TRIED = ("5.0",)  # releases whose tables these are
_PATIENCE_S = 10.0  # a dashboard that reads holds a writer up for so long at most


class Searches(Protocol):
    """A file of Optuna studies, each of one objective, which is maximised."""

    def add(self, study: str, trial: optuna.trial.FrozenTrial) -> None:
        """Add a finished trial to the study of that name, which is made if need be; it gets the next number."""

    def whole(self) -> AbstractContextManager[object]:
        """Write what is added in the block wholly, or not at all where that can be had."""

    def close(self) -> None:
        """Let go of the file."""


def known() -> bool:
    """Tell whether this is an Optuna whose tables are known."""
    return optuna.__version__.rpartition(".")[0] in TRIED


def make_tables(path: Path) -> None:
    """Make a file without a study."""
    _storage(path).engine.dispose()


def opened(path: Path) -> Searches:
    """Open a file that Optuna has made."""
    return Rows(path) if known() else Trials(path)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    url = URL.create("sqlite", database=str(path.resolve()))  # a "?" or "%" in a path is no part of a URL
    return optuna.storages.RDBStorage(url.render_as_string())


class Trials:
    """Searches, written by Optuna."""

    def __init__(self, path: Path) -> None:
        self._file = _storage(path)

    def add(self, study: str, trial: optuna.trial.FrozenTrial) -> None:
        optuna.create_study(storage=self._file, study_name=study, direction="maximize", load_if_exists=True).add_trial(
            trial
        )

    def whole(self) -> AbstractContextManager[object]:
        return nullcontext()

    def close(self) -> None:
        self._file.engine.dispose()


class Rows:
    """Searches, written as rows."""

    def __init__(self, path: Path) -> None:
        # It is used in one thread and closed in another.
        self._database = sqlite3.connect(path.resolve(), timeout=_PATIENCE_S, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = OFF")  # a power cut may cost the view; records wait for the disk
        self._next: dict[str, tuple[int, int]] = {}  # id of each study, and the number of its next trial

    def whole(self) -> AbstractContextManager[object]:
        return self._database

    def close(self) -> None:
        self._database.close()

    def add(self, study: str, trial: optuna.trial.FrozenTrial) -> None:
        study_id, number = self._next.get(study) or self._study(study)
        self._next[study] = study_id, number + 1
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        added = self._insert(
            "trials (number, study_id, state, datetime_start, datetime_complete)",
            (number, study_id, trial.state.name, now, now),
        )
        if trial.value is not None:
            self._insert("trial_values (trial_id, objective, value, value_type)", (added, 0, trial.value, "FINITE"))
        for name, kind in trial.distributions.items():
            self._insert(
                "trial_params (trial_id, param_name, param_value, distribution_json)",
                (added, name, kind.to_internal_repr(trial.params[name]), distribution_to_json(kind)),
            )
        for key, value in trial.user_attrs.items():
            self._insert("trial_user_attributes (trial_id, key, value_json)", (added, key, json.dumps(value)))
        for step, value in trial.intermediate_values.items():
            self._insert(
                "trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)",
                (added, step, value, "FINITE"),
            )

    def _study(self, name: str) -> tuple[int, int]:
        found = self._database.execute("SELECT study_id FROM studies WHERE study_name = ?", (name,)).fetchone()
        if found:
            (trials,) = self._database.execute("SELECT COUNT(*) FROM trials WHERE study_id = ?", found).fetchone()
            return found[0], trials
        made = self._insert("studies (study_name)", (name,))
        self._insert("study_directions (direction, study_id, objective)", ("MAXIMIZE", made, 0))
        return made, 0

    def _insert(self, into: str, values: tuple[object, ...]) -> int:
        places = ", ".join("?" * len(values))
        row = self._database.execute(f"INSERT INTO {into} VALUES ({places})", values).lastrowid
        assert row is not None
        return row
