"""The estimate before a study: what it counts is what a run counts; how fast the machine is, is no test's matter."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from matrices import crossed
from torch.utils.data import TensorDataset

from study.data import load_data
from study.plan.cells import Proposal, cells, confirm_runs, gradient_evaluations, searches, sizes, tune_job
from study.plan.proposals import propose
from study.plan.replicates import replicate_of
from study.specs.contenders import kinds_read
from study.specs.spec import StudySpec
from study.tasks import build_task
from study.training.estimate import _run_as_if_alone, estimated_seconds, forward_evaluations, pace_of
from study.training.features import COST
from study.training.miniature import LIGHT, run_in_miniature
from study.training.trial import run

PROBLEMS = {
    "digits": {"train_size": 60, "epochs": 6, "batch_size": 20},
    "wine": {"train_size": 60, "epochs": 12, "batch_size": 20},
    "communities": {"train_size": 40, "epochs": 3, "batch_size": 20},
}


def spec_of(task: str, weights: str) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "estimated", "question": "?", "methods": ["SGD", "SWA", "EMA", "LAWA", "SAM", "WASAM"],
            "replicates": 2, "confirms": 1, "weights": weights.split("+"), "search": {"trials": 2},
            "problems": [{"task": task, "factors": PROBLEMS[task]}],
        }
    )  # fmt: skip


@crossed(task=PROBLEMS, weights=("last+best", "last", "best"))
def test_the_forward_evaluations_of_a_run_are_those_of_the_estimate(task: str, weights: str) -> None:
    """In the tune stage exactly; in confirm the best epoch may be the last, which is not tested twice."""
    torch.set_num_threads(1)
    spec, data = spec_of(task, weights), load_data(task)
    (cell,) = cells(spec)
    pace = pace_of(spec, cell, data)
    for search in searches(spec, [replicate_of(spec, 1)])[:2]:
        proposal = propose(spec.search, search, 0, [])
        job = tune_job(spec, search, 0, proposal)
        record = run(job, data, "cpu", "")
        assert record.forward_evaluations == forward_evaluations(spec, search, "tune", pace)
        assert record.gradient_evaluations == gradient_evaluations(job)
        counts = [
            run(
                job.model_copy(update={"stage": "confirm", "trial": None, "reads": kinds_read((one,))}), data, "cpu", ""
            ).forward_evaluations
            for one in search.contenders
        ]
        estimated = forward_evaluations(spec, search, "confirm", pace)
        tested = pace.test + min(500, pace.train)
        assert 0 <= estimated - sum(counts) / len(counts) <= tested


def test_every_part_of_a_run_is_in_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("wine", "last+best")
    (cell,) = cells(spec)
    pace = pace_of(spec, cell, load_data("wine"))
    assert min(pace.gradient_s, pace.forward_s, pace.run_s) > 0
    assert (pace.train, pace.test, pace.statistics) == (60, 58, 0)
    monkeypatch.setattr("study.training.estimate.pace_of", lambda *_: pace)
    low, high = estimated_seconds(spec, slots=4)
    planned = sizes(spec)
    least = sum(size.gradient_evaluations[0] * pace.gradient_s + size.runs[0] * pace.run_s for size in planned)
    assert low > least / 4
    assert high > low * (1 if all(len({*confirm_runs(s.search)}) == 1 for s in planned) else 1.01)
    assert estimated_seconds(spec, slots=2) == pytest.approx((2 * low, 2 * high))
    described = estimated_seconds(spec.model_copy(update={"features": True}), slots=4)
    more = spec.replicates * COST * pace.gradient_s / 4
    assert described == pytest.approx((low + more, high + more))


@pytest.mark.parametrize("resident", [True, False])
def test_times_are_those_of_a_machine_that_nobody_else_uses(resident: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that had a CPU for a quarter of the time; what is read as it goes waits for other things than CPUs."""
    spec = spec_of("wine", "last")
    (cell,) = cells(spec)
    task = build_task("wine", load_data("wine"), cell.factors, seed=0, test_seed=0)
    if not resident:
        task = replace(task, train=TensorDataset(*map(torch.as_tensor, task.train)))  # type: ignore[arg-type]
    search = searches(spec)[0]
    job = tune_job(spec, search, 0, Proposal(0.1, 0.0, 0.5))
    found = run_in_miniature(job, task, LIGHT)
    wall, cpu = iter([0.0, 8.0]), iter([0.0, 2.0])
    clocks = SimpleNamespace(perf_counter=lambda: next(wall), process_time=lambda: next(cpu))
    monkeypatch.setattr("study.training.estimate.run_in_miniature", lambda *_: found)
    monkeypatch.setattr("study.training.estimate.time", clocks)
    scaled = _run_as_if_alone(job, task, LIGHT)
    for name in ("train_s", "evaluate_s", "wall_s"):
        assert getattr(scaled, name) == pytest.approx(getattr(found, name) * (0.25 if resident else 1))
    assert scaled.measurements == found.measurements
