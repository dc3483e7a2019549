"""What the benchmarks count and compare; nothing is timed here."""

import sys

import pytest
from benchmarks.bench_evidence import WAYS, spec_of, sweeps
from benchmarks.bench_peers import difference
from benchmarks.conditions import spread, table
from benchmarks.everything import NAMES, tables
from benchmarks.peers import problem
from benchmarks.process_trees import timed

from study.plan.agenda import Agenda
from study.plan.cells import cells


def test_every_way_to_a_verdict_sees_the_same_configurations() -> None:
    spec, _ = spec_of(trials=3, seeds=5, epochs=15, cells_wanted=2)
    seen, trained = [], []
    for way in WAYS:
        trainings = sweeps(spec, cells(spec)[0], way)
        seen.append(
            {
                (t.job.family, t.job.learning_rate, t.job.rho, name)
                for found in trainings.values()
                for t in found
                for name in t.weights
            }
        )
        trained.append(sum(map(len, trainings.values())))
    assert all(configurations == seen[0] for configurations in seen)
    # Two families, three proposals, the last weights and four starts of the grid and the proposed one.
    assert len(seen[0]) == 2 * 3 * 6
    assert trained == [36, 36, 36, 12, 6]


def test_the_shared_trainings_are_the_jobs_of_the_study() -> None:
    spec, _ = spec_of(trials=2, seeds=5, epochs=15, cells_wanted=1)
    agenda = Agenda(spec)
    jobs = {job.run_id for job in iter(agenda.next_job, None)}
    [cell] = cells(spec)
    assert {t.job.run_id for found in sweeps(spec, cell, WAYS[-1]).values() for t in found} == jobs


def test_peers_train_what_the_study_trains() -> None:
    agenda = Agenda(problem.spec_of(3, 5)[0])
    jobs = list(iter(agenda.next_job, None))
    wanted = {(c.family, c.index, c.learning_rate, c.rho, c.average_start) for c in problem.configurations(3)}
    assert wanted == {(job.family, job.trial, job.learning_rate, job.rho, job.average_start) for job in jobs}
    fixed = {
        (job.factors["momentum"], job.factors["weight_decay"], job.factors["batch_size"], job.epochs) for job in jobs
    }
    assert fixed == {(problem.MOMENTUM, problem.WEIGHT_DECAY, problem.BATCH, problem.EPOCHS)}


def test_accuracies_are_compared_run_by_run() -> None:
    mine = {"tuned": [["base", 0, 0.8, 0.9], ["sam", 0, 0.7, 0.8]]}
    theirs = {"tuned": [["sam", 0, 0.6, 0.8], ["base", 0, 0.8, 0.8]]}
    mean, half, number = difference(mine, theirs)
    assert mean == pytest.approx(0.05)
    assert half == pytest.approx(0.0, abs=1e-9)  # both runs differ by 0.05 in the mean of their two weights
    assert number == 2
    theirs["tuned"][0][2] = 0.8
    mean, half, number = difference(mine, theirs)
    assert mean == pytest.approx(0.0)
    assert half == pytest.approx(12.7062 * 0.05, rel=1e-5)  # t of one degree; gaps 0.05 and -0.05


@pytest.mark.slow
def test_processes_that_leave_their_parent_are_counted() -> None:
    burn = "import time; time.sleep(1); [0 for _ in iter(time.process_time, 0) if time.process_time() > .5 and exit()]"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}], start_new_session=True).wait()"
    took = timed([sys.executable, "-c", f"{code}; print('done')"])
    assert took.output == "done\n"
    assert took.cpu_s > 0.2


def test_tables_are_picked_from_an_output() -> None:
    made = table([["a", "b"], ["1", "22"]])
    assert made == "| a | b  |\n|---|----|\n| 1 | 22 |"
    assert tables(f"header\n\n{made}\nrest") == made
    assert tables("no table\n") == "no table"
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"
    assert {"core", "evidence", "growth", "peers", "run", "scale"} <= set(NAMES)


@pytest.mark.ray
def test_a_study_without_ray_goes_through_the_whole_driver() -> None:
    from benchmarks.bench_growth import measured, rows_of  # noqa: PLC0415  # Ray takes seconds to import

    found = measured("cells of 20", 30, ray=False, profile=False)
    assert found["runs"] >= 30
    assert {1, 8, 10, 24, 30} <= set(found["marks"])
    assert all(size > 0 for name, size in found["disk"].items() if name != "ray")
    assert [row[1] for row in rows_of("a", found)] == ["10", "30"]


@pytest.mark.ray
def test_what_many_gpus_need_is_constants_times_their_number() -> None:
    from benchmarks.bench_scale import needs  # noqa: PLC0415  # Ray takes seconds to import

    sizes = {"record of a confirm run": 1000, "checkpoint after an epoch": 60_000}
    text = needs(600, 10.0, 5.0, sizes, {"tensorboard": 0.0, "optuna.db": 0.0, "Ray's files": 0.0})
    assert "full at runs of 6.0 s" in text
    [ten_minutes] = [line for line in text.splitlines() if line.startswith("| 10 min")]
    # One run and ten slices a second: 10 and 50 ms of a second; records of 3.6 MB/h, checkpoints of 0.6 MB/s.
    assert [cell.strip() for cell in ten_minutes.split("|")[2:-1]] == ["1.00", "6%", "10.0", "4", "0.6"]
