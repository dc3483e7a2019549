"""Views of the records are written in a thread: nothing before the first run, everything by the end."""

import resource
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread

import pytest
from synthetic import synthetic_study

from study.listeners import background
from study.listeners.background import BackgroundWriter, catch_up
from study.plan.agenda import Agenda
from study.records import RunRecord
from study.specs.spec import StudySpec

Study = tuple[StudySpec, list[RunRecord]]


@pytest.fixture(scope="module")
def study() -> Study:
    return synthetic_study(tasks=["digits"], factors={}, trials=4, replicates=2)


def writer_of(folder: Path, agenda: Agenda, then: Callable[[], object] = lambda: None) -> BackgroundWriter:
    return BackgroundWriter(folder, agenda, pytest.fail, then)


def written(folder: Path) -> tuple[int, int]:
    """Return the trials of the database and the runs of TensorBoard."""
    with sqlite3.connect(folder / "optuna.db") as database:
        trials = database.execute("select count(*) from trials").fetchone()[0]
    return trials, len(list((folder / "tensorboard").iterdir()))


def trials_of(agenda: Agenda) -> int:
    searches = [agenda.search_of(record) for record in agenda.records if record.job.stage == "tune"]
    return sum(len({one.role for one in search.contenders}) for search in searches)


def run_all(agenda: Agenda, records: list[RunRecord], kept: BackgroundWriter) -> None:
    """Hand out every job and finish it, as the engine does."""
    of_run = {record.run_id: record for record in records}
    while job := agenda.next_job():
        kept.started(job)
        agenda.complete(of_run[job.run_id])
        kept.finished(of_run[job.run_id])
        kept.tick()


@pytest.mark.parametrize("known", [0, 3])
def test_every_run_is_in_every_view_by_the_end(tmp_path: Path, study: Study, known: int) -> None:
    spec, records = study
    agenda = Agenda(spec, [record for record in records if record.job.stage == "tune"][:known])
    kept = writer_of(tmp_path, agenda)
    run_all(agenda, records, kept)
    kept.settle()
    kept.close()
    assert agenda.finished
    assert written(tmp_path) == (trials_of(agenda), len(records))


def test_nothing_is_opened_before_the_first_run_has_a_worker(tmp_path: Path, study: Study) -> None:
    spec, _ = study
    threads: list[Thread] = []
    agenda = Agenda(spec)
    kept = writer_of(tmp_path, agenda, lambda: threads.append(current_thread()))
    job = agenda.next_job()
    assert job
    assert not any(tmp_path.iterdir())
    kept.started(job)
    kept.settle()
    kept.close()
    assert (tmp_path / "optuna.db").exists()
    assert threads != [main_thread()]
    assert len(threads) == 1


def test_a_slow_disk_holds_the_study_up_rather_than_filling_memory(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, records = study
    monkeypatch.setattr(background, "MOST_WAITING", 2)
    go_on, agenda = Event(), Agenda(spec)
    kept = writer_of(tmp_path, agenda, go_on.wait)
    driver = Thread(target=run_all, args=(agenda, records, kept))
    driver.start()
    driver.join(1)
    assert driver.is_alive()
    assert len(agenda.records) == 3  # two wait, the third waits to wait
    go_on.set()
    driver.join()
    kept.close()
    assert written(tmp_path) == (trials_of(agenda), len(records))


@pytest.mark.parametrize(("broken", "whole"), [("tensorboard", "optuna.db"), ("optuna.db", "tensorboard")])
def test_what_goes_wrong_costs_one_view_and_one_line(tmp_path: Path, study: Study, broken: str, whole: str) -> None:
    spec, records = study
    if broken == "tensorboard":
        (tmp_path / broken).write_text("no folder")
    else:
        (tmp_path / broken).mkdir()
        (tmp_path / broken / "no file").touch()
    said: list[str] = []
    agenda = Agenda(spec)
    kept = BackgroundWriter(tmp_path, agenda, said.append, lambda: None)
    run_all(agenda, records, kept)
    kept.settle()
    kept.close()
    assert agenda.finished
    assert len(said) == 1
    assert said[0].startswith(f"the writing of {tmp_path / broken} failed and is left ")
    assert {path.name for path in tmp_path.iterdir()} == {broken, whole}
    shutil.rmtree(tmp_path / broken) if broken == "optuna.db" else (tmp_path / broken).unlink()
    kept = writer_of(tmp_path, agenda)
    kept.started(records[0].job)
    kept.close()
    assert written(tmp_path) == (trials_of(agenda), len(records))


def test_a_study_that_is_finished_on_a_full_disk_gets_its_database_later(tmp_path: Path, study: Study) -> None:
    """Nothing half is left, and what was never made is told from what its user has removed."""
    spec, records = study
    agenda, said = Agenda(spec, records), list[str]()
    space = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = BackgroundWriter(tmp_path, agenda, said.append, lambda: None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, space[1]))
    try:
        kept.started(records[0].job)
        kept.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, space)
    kept.close()
    assert len(said) == 2
    assert {path.name: len(list(path.glob("*"))) for path in tmp_path.iterdir()} == {"optuna.db": 0, "tensorboard": 0}
    catch_up(tmp_path, agenda, pytest.fail)
    assert written(tmp_path) == (trials_of(agenda), len(records))


def test_a_folder_that_has_vanished_does_not_come_back(tmp_path: Path, study: Study) -> None:
    spec, records = study
    folder = tmp_path / "results" / "gone"
    folder.mkdir(parents=True)
    said: list[str] = []
    agenda = Agenda(spec, [record for record in records if record.job.stage == "tune"][:3])
    for vanishes in (lambda: None, lambda: shutil.rmtree(folder.parent)):
        vanishes()
        kept = BackgroundWriter(folder, agenda, said.append, lambda: None)
        kept.started(records[0].job)
        kept.settle()
        kept.close()
    assert [line.partition(" failed")[0] for line in said] == [
        f"the writing of {folder / name}" for name in ("optuna.db", "tensorboard")
    ]
    assert not folder.parent.exists()


def test_a_finished_study_catches_up_with_its_records(tmp_path: Path, study: Study) -> None:
    spec, records = study
    agenda = Agenda(spec)
    kept = writer_of(tmp_path, agenda)
    run_all(agenda, records, kept)
    kept.close()
    whole = written(tmp_path)
    shutil.rmtree(next((tmp_path / "tensorboard").iterdir()))
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("DELETE FROM trials WHERE trial_id = 1")
    assert written(tmp_path) == (whole[0] - 1, whole[1] - 1)
    catch_up(tmp_path, agenda, pytest.fail)
    assert written(tmp_path) == whole


def test_a_view_that_was_removed_stays_away(tmp_path: Path, study: Study) -> None:
    spec, records = study
    catch_up(tmp_path, Agenda(spec, records), pytest.fail)
    assert not any(tmp_path.iterdir())
