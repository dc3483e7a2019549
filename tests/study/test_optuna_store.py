"""`study.listeners.optuna_store` against Optuna's own way to add a trial: slow, obvious, and the same rows."""

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from synthetic import failed_run, synthetic_study

from study.listeners.optuna_store import OptunaStore
from study.plan.agenda import Agenda
from study.plan.optuna_trials import quiet_study, trial_of
from study.plan.proposals import outcome_of
from study.records import RunRecord
from study.specs.spec import StudySpec

TABLES = {
    "studies": "study_id, study_name",
    "study_directions": "study_id, direction, objective",
    "trials": "trial_id, number, study_id, state",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_user_attributes": "trial_id, key, value_json",
    "trial_intermediate_values": "trial_id, step, intermediate_value, intermediate_value_type",
}


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


def written_by_optuna(path: Path, spec: StudySpec, agenda: Agenda, records: list[RunRecord]) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    for record in records:
        if record.job.stage == "tune":
            search = agenda.search_of(record)
            for role, one in {one.role: one for one in search.contenders}.items():
                longer = f" {search.epochs_factor:g}x epochs" if search.epochs_factor > 1 else ""
                name = f"{search.cell.name} | {role}{longer} | replicate {record.job.replicate}"
                quiet_study(
                    storage=storage, study_name=name, direction="maximize", load_if_exists=True,
                ).add_trial(
                    trial_of(
                        spec.search, search, outcome_of(one, record),
                        {"run_id": record.run_id, "diverged": record.status == "diverged"},
                    )
                )  # fmt: skip
    storage.engine.dispose()


def rows(path: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(path) as database:
        return {
            table: sorted(database.execute(f"SELECT {columns} FROM {table}").fetchall())
            for table, columns in TABLES.items()
        }


@pytest.mark.slow
def test_its_rows_are_those_that_optuna_writes(tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]) -> None:
    spec, records = study
    known, later = [r for r in records if (r.job.trial or 0) < 4], [r for r in records if (r.job.trial or 0) >= 4]
    agenda = Agenda(spec, [r for r in known if r.job.stage == "tune"])
    store = OptunaStore(tmp_path / "ours.db", spec.search, agenda.records_with_searches(), pytest.fail)
    of_run, in_order = {record.run_id: record for record in later}, agenda.records
    while (job := agenda.next_job()) and job.run_id in of_run:
        in_order.append(of_run[job.run_id])
        agenda.complete(in_order[-1])
        store.add(in_order[-1], agenda.search_of(in_order[-1]))
    store.close()
    written_by_optuna(tmp_path / "theirs.db", spec, agenda, in_order)
    ours, theirs = rows(tmp_path / "ours.db"), rows(tmp_path / "theirs.db")
    assert len(ours["trials"]) > 20
    assert {state for *_, state in ours["trials"]} >= {"COMPLETE"}
    assert ours == theirs


def test_optuna_reads_it(tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]) -> None:
    spec, records = study
    OptunaStore(tmp_path / "optuna.db", spec.search, Agenda(spec, records).records_with_searches(), pytest.fail).close()
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    loaded = optuna.load_study(storage=storage, study_name="digits | SWA | replicate 2")
    assert loaded.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [trial.number for trial in loaded.trials] == list(range(spec.search.trials))
    assert loaded.best_trial.value == max(trial.value for trial in loaded.trials if trial.state.name == "COMPLETE")
    assert loaded.best_trial.duration is not None
    names = {summary.study_name for summary in optuna.get_all_study_summaries(storage)}
    roles = [f"{of}{longer}" for of in ("SGD last", "SGD best", "SWA") for longer in ("", " 2x epochs")]
    assert names == {f"digits | {role} | replicate {n}" for role in (*roles, "SAM", "WASAM") for n in (1, 2)}
    storage.engine.dispose()


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]) -> None:
    spec, records = study
    said: list[str] = []
    agenda = Agenda(spec, records)
    store = OptunaStore(tmp_path / "optuna.db", spec.search, agenda.records_with_searches(), said.append)
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("DROP TABLE trial_params")
    tuned = [record for record in agenda.records if record.job.stage == "tune"]
    for record in tuned[:2]:
        store.add(record, agenda.search_of(record))
    assert len(said) == 1
    assert "optuna.db can't be written (no such table: trial_params)" in said[0]
    store.close()


@pytest.mark.slow
def test_what_a_killed_driver_was_writing_does_not_reach_the_new_file(
    tmp_path: Path, study: tuple[StudySpec, list[RunRecord]]
) -> None:
    """SIGKILL in a transaction leaves SQLite's journal, which would be rolled back onto whatever has that name."""
    spec, records = study
    agenda = Agenda(spec, [r for r in records if r.job.stage == "tune"])
    path, journal = tmp_path / "optuna.db", tmp_path / "optuna.db-journal"
    OptunaStore(path, spec.search, Agenda(spec).records_with_searches(), pytest.fail).close()
    killed = sqlite3.connect(path)
    killed.execute("PRAGMA cache_size = 1")  # so that pages, and the journal before them, are written under way
    killed.executemany("INSERT INTO studies (study_name) VALUES (?)", [(str(n) * 500,) for n in range(200)])
    left = journal.read_bytes()
    killed.rollback()
    killed.close()
    journal.write_bytes(left)
    OptunaStore(path, spec.search, agenda.records_with_searches(), pytest.fail).close()
    written_by_optuna(tmp_path / "optunas.db", spec, agenda, agenda.records)
    assert rows(path) == rows(tmp_path / "optunas.db")
