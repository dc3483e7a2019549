"""Jobs and specs of the tasks in `own_tasks`, at the size of a test."""

from typing import Any

from study.records import Job, RunRecord
from study.specs.spec import StudySpec
from study.specs.tasks import default_factors
from study.training.trial import run


def job(name: str, **changes: Any) -> Job:
    task = f"own_tasks:{name}"
    factors = default_factors(task) | {"train_size": 40, "epochs": 3, "batch_size": 10, "ascent_batch": 5}
    return Job(
        stage="confirm", cell=name, task=task, factors=factors, family="base", epochs_factor=1, learning_rate=0.1,
        rho=0.0, average_start=0.4, average_starts=(0.5,), ema_decays=(0.9,), seed=1000,
        reads=("last", "best", "swa", "ema"), test_seed=3,
    ).model_copy(update=changes)  # fmt: skip


def completed(one: Job) -> RunRecord:
    record = run(one, None, "cpu", "0")
    assert record.error is None
    return record


FAMILIES = {
    "base": {},
    "sam": {"family": "sam", "rho": 0.1},
    "m-sam": {"family": "m-sam", "rho": 0.1},
    "sam-on": {"family": "sam-on", "rho": 0.5},
    "adamw-sam": {"family": "adamw-sam", "rho": 0.1, "learning_rate": 0.01},
}


def spec_of(name: str, **changes: Any) -> StudySpec:
    problem = {
        "task": f"own_tasks:{name}",
        "factors": {"train_size": 40, "epochs": 2, "batch_size": 10, "ascent_batch": 5},
    }
    content = {"name": "own", "question": "?", "replicates": 1, "search": {"trials": 2}, "problems": [problem]}
    return StudySpec.model_validate(content | changes)
