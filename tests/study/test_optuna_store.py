"""`study.listeners.optuna_store`: Optuna reads back what the records say, search by search."""

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from synthetic import failed_run, synthetic_study

from study.listeners.optuna_store import OptunaStore
from study.plan.agenda import Agenda
from study.plan.proposals import outcome_of
from study.records import RunRecord
from study.specs.spec import StudySpec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["plain", "pruned"])
def study(request: pytest.FixtureRequest) -> tuple[StudySpec, list[RunRecord]]:
    pruner: dict[str, Any] = {"search": {"trials": 9, "pruner": "asha", "average_start": {"low": 0.3, "high": 0.4}},
                              "average_starts": (0.3,)} if request.param == "pruned" else {}  # fmt: skip
    spec, records = synthetic_study(
        tasks=("digits",), factors={"epochs": 12, "label_noise": [0.3]}, replicates=2, **pruner
    )
    if request.param == "plain":  # a failed run has no value
        records = [failed_run(r) if r.job.trial == 0 and r.job.stage == "tune" else r for r in records]
    return spec, records


def test_optuna_reads_what_was_known_and_what_came_later(
    tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]
) -> None:
    """In a folder whose name is no part of a URL."""
    spec, records = study
    path = tmp_path / "100 %3F ?" / "optuna.db"
    path.parent.mkdir()
    agenda = Agenda(spec, [r for r in records if r.job.stage == "tune" and (r.job.trial or 0) < 4])
    store = OptunaStore(path, agenda, agenda.records)
    of_run = {record.run_id: record for record in records}
    while job := agenda.next_job():
        agenda.complete(of_run[job.run_id])
        store.finished(of_run[job.run_id])
    store.close()
    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(path)})
    found = {
        (name, trial.user_attrs["run_id"]): (trial.state.name, trial.value, trial.params["learning_rate"])
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    }
    storage.engine.dispose()
    wanted = {}
    for record in agenda.records:
        search, state = agenda.search_of(record), {"failed": "FAIL", "pruned": "PRUNED"}.get(record.status, "COMPLETE")
        longer = " 2x epochs" if search.epochs_factor == 2 else ""
        for role, one in search.roles.items() if record.job.stage == "tune" else ():
            name = f"digits | {role}{longer} | replicate {record.job.replicate}"
            value = outcome_of(one, record).value
            wanted[name, record.run_id] = state, value, record.job.learning_rate
    assert {name.split(" | ")[1] for name, _ in wanted} >= {"SGD last", "SGD best", "SWA", "SAM", "SGD best 2x epochs"}
    assert found == wanted


def test_what_a_killed_driver_was_writing_does_not_reach_the_new_file(
    tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]
) -> None:
    """SIGKILL in a transaction leaves SQLite's journal, which would be rolled back onto whatever has that name."""
    spec, _ = study
    path, journal = tmp_path / "optuna.db", tmp_path / "optuna.db-journal"
    agenda = Agenda(spec)
    OptunaStore(path, agenda, []).close()
    killed = sqlite3.connect(path)
    killed.execute("PRAGMA cache_size = 1")  # so that pages, and the journal before them, are written under way
    killed.executemany("INSERT INTO studies (study_name) VALUES (?)", [(str(n) * 500,) for n in range(200)])
    left = journal.read_bytes()
    killed.rollback()
    killed.close()
    journal.write_bytes(left)
    OptunaStore(path, agenda, []).close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT COUNT(*) FROM studies").fetchone() == (0,)
