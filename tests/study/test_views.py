"""Views of the records are written in a thread: nothing before the first run, everything by the end, errors aloud."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread

import pytest
from synthetic import synthetic_study

from study.listeners import views
from study.listeners.views import Views, catch_up
from study.plan.agenda import Agenda
from study.records import RunRecord
from study.specs.spec import StudySpec

Study = tuple[StudySpec, list[RunRecord]]


@pytest.fixture(scope="module")
def study() -> Study:
    return synthetic_study(tasks=["digits"], factors={}, trials=4)


def views_of(folder: Path, spec: StudySpec, agenda: Agenda, then: Callable[[], object] = lambda: None) -> Views:
    return Views(folder, spec.search, agenda, pytest.fail, then)


def written(folder: Path) -> tuple[int, int]:
    """Return the trials of the database and the runs of TensorBoard."""
    with sqlite3.connect(folder / "optuna.db") as database:
        trials = database.execute("select count(*) from trials").fetchone()[0]
    return trials, len(list((folder / "tensorboard").iterdir()))


def trials_of(agenda: Agenda) -> int:
    return sum(len(s.methods) for record, s in agenda.records_with_searches() if record.job.stage == "tune")


def run_all(agenda: Agenda, records: list[RunRecord], kept: Views) -> None:
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
    kept = views_of(tmp_path, spec, agenda)
    run_all(agenda, records, kept)
    kept.settle()
    kept.close()
    assert agenda.finished
    assert written(tmp_path) == (trials_of(agenda), len(records))


def test_nothing_is_opened_before_the_first_run_has_a_worker(tmp_path: Path, study: Study) -> None:
    spec, _ = study
    threads: list[Thread] = []
    agenda = Agenda(spec)
    kept = views_of(tmp_path, spec, agenda, lambda: threads.append(current_thread()))
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
    monkeypatch.setattr(views, "MOST_WAITING", 2)
    go_on, agenda = Event(), Agenda(spec)
    kept = views_of(tmp_path, spec, agenda, go_on.wait)
    driver = Thread(target=run_all, args=(agenda, records, kept))
    driver.start()
    driver.join(1)
    assert driver.is_alive()
    assert len(agenda.records) == 3  # two wait, the third waits to wait
    go_on.set()
    driver.join()
    kept.close()
    assert written(tmp_path) == (trials_of(agenda), len(records))


def test_what_goes_wrong_in_the_thread_ends_the_study(tmp_path: Path, study: Study) -> None:
    spec, records = study
    (tmp_path / "tensorboard").write_text("no folder")
    agenda = Agenda(spec)
    kept = views_of(tmp_path, spec, agenda)
    job = agenda.next_job()
    assert job
    kept.started(job)
    record = next(record for record in records if record.run_id == job.run_id)
    agenda.complete(record)
    kept.finished(record)
    with pytest.raises(OSError, match="tensorboard"):
        kept.settle()
    with pytest.raises(OSError, match="tensorboard"):
        kept.tick()
    kept.close()


def test_a_finished_study_catches_up_with_its_records(tmp_path: Path, study: Study) -> None:
    spec, records = study
    agenda = Agenda(spec)
    kept = views_of(tmp_path, spec, agenda)
    run_all(agenda, records, kept)
    kept.close()
    whole = written(tmp_path)
    shutil.rmtree(next((tmp_path / "tensorboard").iterdir()))
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("DELETE FROM trials WHERE trial_id = 1")
    assert written(tmp_path) == (whole[0] - 1, whole[1] - 1)
    catch_up(tmp_path, spec.search, agenda, pytest.fail)
    assert written(tmp_path) == whole


def test_a_view_that_was_removed_stays_away(tmp_path: Path, study: Study) -> None:
    spec, records = study
    catch_up(tmp_path, spec.search, Agenda(spec, records), pytest.fail)
    assert not any(tmp_path.iterdir())
