"""What the benchmarks count and compare; nothing is timed here."""

import random
import sys
from dataclasses import astuple, replace
from operator import attrgetter

import pytest
import torch
from benchmarks import bench_gpu
from benchmarks.bench_evidence import WAYS, equal_scores, spec_of, sweeps, trainings, walk
from benchmarks.bench_peers import difference
from benchmarks.conditions import spread, table
from benchmarks.everything import NAMES, tables
from benchmarks.peers import problem
from benchmarks.process_trees import timed

from study.plan.agenda import Agenda
from study.plan.cells import tune_job
from study.plan.proposals import propose
from study.records import Job, Measurement, RunRecord, configuration_of
from study.training.stand_ins import stand_in


def test_every_way_to_a_verdict_trains_the_same_configurations() -> None:
    spec, _ = spec_of(trials=4, replicates=2, epochs=15, cells_wanted=2)
    seen, trained = [], []
    for way in WAYS:
        jobs = [
            (search, training)
            for sweep in sweeps(spec, way)
            for search in sweep
            for trial in range(search.trials)
            for training in trainings(tune_job(spec, search, trial, propose(spec.search, search, trial, [])), way)
        ]
        seen.append({(job.test_seed, job.cell, job.epochs, job.learning_rate, job.rho, w)
                     for _, job in jobs for w in ("last", *job.averages)})  # fmt: skip
        trained.append(len(jobs))
    assert all(some == seen[0] for some in seen)
    # Two cells and replicates. SGD: four proposals at the cell's epochs and two at twice as many; SAM four; and where
    # weights are averaged five times as many, for the grid's four starts and the proposed one.
    assert trained == [4 * (6 + 4 + 5 * (6 + 4))] * 3 + [4 * 2 * (6 + 4), 4 * (6 + 4)]
    assert {one.run_id for _, one in jobs} == {job.run_id for job in iter(Agenda(spec).next_job, None)}


def test_every_way_to_a_verdict_gives_the_same_scores() -> None:
    """On records at hand: of the trainings of a job one run is made, and what validation picks is read off it."""
    spec, _ = spec_of(trials=4, replicates=2, epochs=15, cells_wanted=1)

    def fit(jobs: list[Job]) -> list[RunRecord]:
        return [
            made.model_copy(update={"measurements": tuple(map(scored, [job] * 99, made.measurements))})
            for job in jobs
            for made in [stand_in(job, "0", None)]
        ]

    def scored(job: Job, one: Measurement) -> Measurement:
        level = random.Random(
            repr((configuration_of(job)._replace(average_start=0.0), job.seed, one.weights, one.epoch))
        ).random()
        return replace(one, val_score=level, test_score=1 - level if job.stage == "confirm" else None)

    found = [walk(spec, way, fit) for way in WAYS]
    assert all(equal_scores(found[0]["scores"], other["scores"]).startswith("48 of 48") for other in found)
    assert len({str(scores) for scores in found[0]["scores"].values()}) > 8
    assert equal_scores({"a": [0.1, 0.2]}, {"a": [0.1], "b": [0.3]}) == "1 of 3"


def test_peers_train_what_the_study_trains() -> None:
    agenda = Agenda(problem.spec_of(3, 5, 2)[0])
    jobs = list(iter(agenda.next_job, None))
    wanted = {astuple(configuration) for configuration in problem.configurations(3, 2)}
    tried = attrgetter("replicate", "family", "trial", "learning_rate", "rho", "average_start")
    assert wanted == {tried(job) for job in jobs}
    assert {problem.replicate(job.replicate).tune for job in jobs} == {job.seed for job in jobs}
    assert {problem.replicate(job.replicate).test for job in jobs} == {job.test_seed for job in jobs}
    fixed = {
        (job.factors["momentum"], job.factors["weight_decay"], job.factors["batch_size"], job.epochs) for job in jobs
    }
    assert fixed == {(problem.MOMENTUM, problem.WEIGHT_DECAY, problem.BATCH, problem.EPOCHS)}


def test_accuracies_are_compared_run_by_run() -> None:
    mine = {"tuned": [[1, "base", 0, 0.8, 0.9], [1, "sam", 0, 0.7, 0.8]]}
    theirs = {"tuned": [[1, "sam", 0, 0.6, 0.8], [1, "base", 0, 0.8, 0.8]]}
    mean, half, number = difference(mine, theirs)
    assert mean == pytest.approx(0.05)
    assert half == pytest.approx(0.0, abs=1e-9)  # both runs differ by 0.05 in the mean of their two weights
    assert number == 2
    theirs["tuned"][0][3] = 0.8
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


@pytest.mark.slow
def test_the_way_of_the_benchmark_on_a_gpu_is_walked_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wasam_core.verdicts.LOOKED_AT", frozenset())  # the laws, on the way of an accelerator
    net = next(iter(bench_gpu.PROBLEMS))
    assert bench_gpu.main(["--device", "cpu", "--seconds", "0.001", "--nets", net]) == 0
    printed = capsys.readouterr().out
    for law in bench_gpu.LAWS:
        assert law.__name__.replace("_", " ") in printed
    assert printed.count("| yes ") >= len(bench_gpu.LAWS) - 1
    rows = [line for line in printed.splitlines() if line.startswith(f"| {net} | ") and line.count("|") > 3]
    assert [row.split(" | ")[1].strip() for row in rows] == ["fp32", "fp32", "bf16", "bf16", "fp16", "fp16"]
    for row in rows[::2]:  # the others are CUDA graphs
        assert all(float(cell) > 0 for cell in row.split("|")[4:7])


def test_without_a_gpu_its_benchmark_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        assert bench_gpu.main([]) == 0
        assert "no GPU here" in capsys.readouterr().out
