"""The estimate before a study: what it counts is what a run counts; how fast the machine is, is no test's matter."""

import pytest
import torch
from matrices import crossed

from study.data import load_data
from study.plan.cells import cells, confirm_runs, gradient_evaluations, searches, sizes, tune_job
from study.plan.proposals import propose
from study.plan.replicates import replicate_of
from study.specs.contenders import kinds_read
from study.specs.spec import StudySpec
from study.training.estimate import estimated_seconds, forward_evaluations, pace_of
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
