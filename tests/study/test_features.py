"""Features describe the baseline's runs and nothing else, and change nothing that is measured."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from matrices import crossed, repeated
from torch import nn

from study.data import Pool, load_data
from study.plan.agenda import Agenda
from study.plan.replicates import replicates_of
from study.records import FEATURES, Job, RunRecord
from study.specs.contenders import at_equal_epochs
from study.specs.spec import parse_spec
from study.specs.tasks import default_factors
from study.tasks import build_task, classification
from study.tasks.examples import examples_of
from study.training.features import memorized_share
from study.training.measure import Evaluator
from study.training.stand_ins import stand_in
from study.training.trial import Run, run
from wasam_core import Cost

SPEC = parse_spec(
    """
name = "described"
question = "?"
replicates = 2
confirms = 2
features = true
[search]
trials = 3
[[problems]]
task = "digits"
factors.label_noise = [0.0, 0.3]
factors.train_size = 100
factors.batch_size = 20
factors.epochs = 4
""",
    "described",
)
OF_ALL = {*FEATURES} - {"memorized"}


@pytest.fixture(scope="module")
def digits() -> Pool:
    torch.set_num_threads(1)
    return load_data("digits")


def job(task: str = "digits", **changes: Any) -> Job:
    small = {"train_size": 60, "batch_size": 20, "epochs": 4, "width": 0.25}
    factors = default_factors(task) | small | changes.pop("factors", {})
    return Job(
        stage="confirm", cell=task, task=task, factors=factors, family="base", epochs_factor=1, learning_rate=0.05,
        rho=0.0, average_start=0.5, seed=7, test_seed=5, reads=("last", "best"), features=True,
    ).model_copy(update=changes)  # fmt: skip


def test_the_runs_that_re_train_what_the_baseline_at_equal_epochs_has_picked_are_described() -> None:
    agenda = Agenda(SPEC)
    while one := agenda.next_job():
        agenda.complete(stand_in(one, SPEC.hash, like=None))
    first = {one.number: one.confirm[0] for one in replicates_of(SPEC)}
    described = [record.job for record in agenda.records if record.job.features]
    assert sorted((one.replicate, one.factors["label_noise"]) for one in described) == [
        (1, 0.0), (1, 0.3), (2, 0.0), (2, 0.3),
    ]  # fmt: skip
    for one in described:
        assert (one.stage, one.family, one.epochs_factor, one.seed) == ("confirm", "base", 1, first[one.replicate])
        assert at_equal_epochs(SPEC, "SGD").reads[0] in one.reads
    silent = Agenda(SPEC.model_copy(update={"features": False}))
    while one := silent.next_job():
        assert not one.features
        silent.complete(stand_in(one, SPEC.hash, like=None))


def test_older_runs_keep_their_ids_and_their_records() -> None:
    assert "features" not in SPEC.model_copy(update={"features": False}).model_dump()
    assert job(features=False).run_id != job().run_id
    held = stand_in(job(features=False), "0", like=None).model_dump(mode="json")
    del held["features"], held["job"]["features"]
    read = RunRecord.model_validate(held, strict=False)
    assert read.features == {}
    assert read.job.run_id == read.run_id


@crossed(task=("digits", "diabetes", "communities", "characters"), noise=(0.0, 0.3))
def test_every_feature_is_a_finite_number_and_nothing_else_changes(task: str, noise: float) -> None:
    torch.set_num_threads(1)
    noisy = task in ("digits", "communities")
    one = job(task, factors={"label_noise": noise} if noisy else {})
    data = load_data(task)
    described, plain = (run(asked, data, "cpu", "0") for asked in (one, one.model_copy(update={"features": False})))
    assert described.error is None
    assert {*described.features} == (OF_ALL | {"memorized"} if noisy and noise else OF_ALL)
    assert all(map(math.isfinite, described.features.values()))
    assert described.features["gradient_noise"] > 0
    assert described.measurements == plain.measurements
    assert described.gradient_evaluations == plain.gradient_evaluations
    assert plain.features == {}
    assert described.probe_evaluations > plain.probe_evaluations == 0


@repeated("after", range(1, 4))
def test_a_run_that_goes_on_has_the_same_features(digits: Pool, after: int) -> None:
    whole = run(job(), digits, "cpu", "0")
    begun = Run(job(), digits, "cpu", "0")
    for _ in range(after):
        assert not begun.advance(seconds=0)
    resumed = Run(job(), digits, "cpu", "0")
    resumed.restore(begun.state())
    assert resumed.advance()
    assert resumed.record().features == whole.features
    assert resumed.record().probe_evaluations == whole.probe_evaluations


def test_a_run_of_one_epoch_has_no_half_way(digits: Pool) -> None:
    found = run(job(factors={"epochs": 1}), digits, "cpu", "0")
    assert {*found.features} == {name for name in OF_ALL if not name.startswith("halfway")}


def test_a_diverged_run_has_none(digits: Pool) -> None:
    found = run(job(learning_rate=1e30), digits, "cpu", "0")
    assert (found.status, found.features) == ("diverged", {})


class Table(nn.Module):
    """Predicts what it is told of each input."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.functional.one_hot(torch.tensor(answers), 3).float())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.weight[inputs]


@pytest.mark.parametrize(
    ("clean", "share"),
    [([0, 1, 2, 0, 1], 2 / 3), ([0, 1, 1, 0, 0], None), (None, None)],  # given are 0 1 1 0 0 with wrong ones
)
def test_memorized_are_wrong_labels_that_are_predicted(clean: list[int] | None, share: float | None) -> None:
    given, answers = [0, 1, 1, 2, 0], [1, 1, 1, 0, 0]
    if clean == [0, 1, 1, 0, 0]:
        given = clean
    task = classification(
        Table(answers), (torch.arange(5), torch.tensor(given)), (torch.arange(5), torch.tensor(given)), lambda: None,
        classes=3,
    )  # fmt: skip
    task = replace(task, clean_targets=clean, evaluation_batch=2)
    cost = Cost()
    assert memorized_share(Evaluator(task.model, task), examples_of(task.train, "train"), cost) == share
    assert cost.forward_evaluations == (0 if clean is None else 5)


@repeated("task", ("digits", "communities", "mnist1d"))
def test_the_clean_targets_are_those_of_the_same_examples(task: str) -> None:
    factors = default_factors(task) | {"train_size": 60, "label_noise": 0.3}
    data = load_data(task)
    noisy, clean = (build_task(task, data, factors | {"label_noise": share}, 3, 4) for share in (0.3, 0.0))
    targets = torch.as_tensor(clean.train[1])  # type: ignore[index]
    assert torch.equal(torch.as_tensor(noisy.clean_targets), targets)
    moved = torch.as_tensor(noisy.train[1]) != targets  # type: ignore[index]
    assert float(moved.float().mean()) == pytest.approx(0.3, abs=0.01)
