"""One run: bit-identical when repeated, equal to a slow twin in plain torch, and honest about how it ends."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from study.data import Pool, SealedTestError, load_data
from study.models import build_model
from study.plan.agenda import Agenda
from study.records import Job, Measurement
from study.specs.spec import load_spec
from study.specs.tasks import default_factors
from study.streams import stream
from study.tasks import draw_split, pool_task
from study.training.measure import evaluate
from study.training.trial import run
from wasam_core import WASAM

JOB = Job(
    stage="confirm", cell="digits", task="digits",
    factors=default_factors("digits") | {"train_size": 300, "epochs": 4, "label_noise": 0.3},
    family="base", epochs_factor=1, learning_rate=0.05, rho=0.0,
    average_start=0.3, average_starts=(0.5, 0.75), seed=1000,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Pool:
    return load_data("digits")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def job(**changes: object) -> Job:
    return JOB.model_copy(update=changes)


def final(measurements: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.weights: m for m in measurements if m.epoch == JOB.epochs}


@pytest.mark.parametrize("changes", [{}, {"family": "sam", "rho": 0.1}])
def test_a_run_repeats_itself_bit_by_bit_whatever_ran_before(digits: Pool, changes: dict[str, object]) -> None:
    first = run(job(**changes), digits, "cpu", "0")
    torch.manual_seed(99)
    run(job(seed=1001), digits, "cpu", "0")
    assert run(job(**changes), digits, "cpu", "0").measurements == first.measurements
    assert first.status == "completed"


@pytest.mark.parametrize("kept", [(), ("swa@0.5",), ("swa@0.75", "ema@0.9", "lawa@2")])
def test_a_run_that_measures_less_is_the_same_run(digits: Pool, kept: tuple[str, ...]) -> None:
    averaged = {"ema_decays": (0.9, 0.99), "lawa_windows": (2, 3)}
    whole = run(job(**averaged), digits, "cpu", "0")
    part = run(job(**averaged, measured=kept), digits, "cpu", "0")
    assert part.run_id == whole.run_id
    assert part.measurements == tuple(m for m in whole.measurements if m.weights in ("last", *kept))
    assert [r.weights for r in part.reliability] == list(final(part.measurements))
    assert part.forward_evaluations < whole.forward_evaluations
    assert whole.job.measures(part.job)
    assert not part.job.measures(whole.job)


def test_jobs_are_compared_by_what_they_measure() -> None:
    assert job(measured=("swa@0.5", "swa@0.75")).measures(job(measured=("swa@0.75",)))
    assert job(measured=()).measures(job(measured=()))
    assert not job(measured=()).measures(job(measured=("swa@0.5",)))


def test_without_perturbation_the_sam_family_is_the_base_family(digits: Pool) -> None:
    assert run(job(family="sam"), digits, "cpu", "0").measurements == run(JOB, digits, "cpu", "0").measurements


def test_a_method_that_draws_more_random_numbers_shifts_nobody(digits: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its split, noise, initial weights, data order and augmentation are those of every other method of the seed."""
    augmented_job = job(factors=JOB.factors | {"augmentation": 0.5})
    reference = run(augmented_job, digits, "cpu", "0").measurements
    original = WASAM.step

    def greedy(self: WASAM, *arguments: object, **options: object) -> object:
        torch.rand(1000)
        np.random.default_rng(0).random(1000)
        return original(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(WASAM, "step", greedy)
    assert run(augmented_job, digits, "cpu", "0").measurements == reference


def twin(pool: Pool, rho: float) -> dict[str, tuple[float, float]]:
    """Train the job once more with torch alone, textbook SAM, float64 averages, one big BatchNorm batch."""
    split = draw_split(pool, JOB.factors, JOB.seed)
    x, y = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_labels)
    model = build_model(JOB.factors, (1, 8, 8), 10, JOB.seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=JOB.learning_rate, momentum=0.9, weight_decay=5e-4)
    parameters, order = list(model.parameters()), stream(JOB.seed, "data order")
    snapshots = []
    for epoch in range(JOB.epochs):
        permutation = torch.from_numpy(order.permutation(len(y)))
        for step in range(3):
            progress = (epoch + step / 3) / JOB.epochs
            optimizer.param_groups[0]["lr"] = JOB.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
            batch = permutation[step * 100 : (step + 1) * 100]
            optimizer.zero_grad()
            functional.cross_entropy(model(x[batch]), y[batch]).backward()
            if rho:
                statistics = copy.deepcopy(dict(model.named_buffers()))
                norm = torch.sqrt(sum(p.grad.double().square().sum() for p in parameters))
                old = [p.detach().clone() for p in parameters]
                with torch.no_grad():
                    for p in parameters:
                        p += (rho * p.grad.double() / norm).float()
                optimizer.zero_grad()
                functional.cross_entropy(model(x[batch]), y[batch]).backward()
                with torch.no_grad():
                    for p, value in zip(parameters, old, strict=True):
                        p.copy_(value)
                    for name, buffer in model.named_buffers():
                        buffer.copy_(statistics[name])
            optimizer.step()
        snapshots.append([p.detach().double().clone() for p in parameters])
    task = pool_task(pool, JOB.factors, JOB.seed)
    test = task.open_test("confirm")

    def measured() -> tuple[float, float]:
        outputs, targets, loss = evaluate(model, test, task)
        return loss, (outputs.argmax(1) == targets).double().mean().item()

    found = {"last": measured()}
    for name, first_epoch in (("swa@0.5", 2), ("swa@0.75", 3), ("swa@0.3", 1)):
        kept = snapshots[first_epoch - 1 :]
        with torch.no_grad():
            for index, p in enumerate(parameters):
                p.copy_(sum(snapshot[index] for snapshot in kept) / len(kept))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = 1.0
        model.train()(x)  # all training examples in one batch: its statistics are the population's
        found[name] = measured()
    return found


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_a_run_equals_its_slow_twin(digits: Pool, rho: float) -> None:
    record = run(job(family="sam", rho=rho), digits, "cpu", "0")
    measured = final(record.measurements)
    reference = twin(digits, rho)
    assert set(reference) == set(measured)
    for weights, (loss, accuracy) in reference.items():
        assert measured[weights].test_loss == pytest.approx(loss, rel=2e-3)
        assert measured[weights].test_score == pytest.approx(accuracy, abs=2 / 397)


def test_the_tune_stage_runs_with_the_test_part_out_of_reach(digits: Pool) -> None:
    empty = (np.zeros((0, 1, 8, 8), np.float32), np.zeros(0, np.int64))
    record = run(job(stage="tune", trial=0, search="base"), replace(digits, _test=empty), "cpu", "0")
    assert record.status == "completed"
    assert all(m.test_score is None and m.test_loss is None for m in record.measurements)


def test_a_job_that_opens_the_test_part_in_tune_fails(digits: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = Pool.open_test

    def watched(self: Pool, stage: str) -> object:
        opened.append(stage)
        return original(self, stage)

    monkeypatch.setattr(Pool, "open_test", watched)
    run(job(stage="tune", trial=0), digits, "cpu", "0")
    assert opened == []
    run(JOB, digits, "cpu", "0")
    assert opened == ["confirm"]
    with pytest.raises(SealedTestError):
        digits.open_test("tune")


def test_a_diverged_run_stands_at_chance_level(digits: Pool) -> None:
    record = run(job(learning_rate=1e6, factors=JOB.factors | {"model": "mlp"}), digits, "cpu", "0")
    assert record.status == "diverged"
    measured = final(record.measurements)
    assert set(measured) == {"last", *JOB.measured_averages}
    assert {m.test_score for m in measured.values()} == {0.1}
    assert {m.test_loss for m in measured.values()} == {math.log(10)}
    assert record.gradient_evaluations > 0


def test_an_error_is_a_record_with_its_traceback(digits: Pool) -> None:
    broken = replace(digits, labels=digits.labels + 100)
    record = run(JOB, broken, "cpu", "0")
    assert record.status == "failed"
    assert record.measurements == ()
    assert "IndexError" in (record.error or "")
    assert "cross_entropy" in (record.error or "")


def test_costs_are_billed(digits: Pool) -> None:
    base, sam = run(JOB, digits, "cpu", "0"), run(job(family="sam", rho=0.1), digits, "cpu", "0")
    assert base.gradient_evaluations == 4 * 300
    assert sam.gradient_evaluations == 2 * base.gradient_evaluations
    # Three earlier curve points on validation; then 4 weights on train, validation, test; 3 BatchNorm passes.
    assert base.forward_evaluations == sam.forward_evaluations == 3 * 400 + 4 * (300 + 400 + 397) + 3 * 300


def test_smoke_jobs_name_every_average_once() -> None:
    agenda = Agenda(load_spec("smoke")[0])
    while planned := agenda.next_job():
        assert len(planned.measured_averages) == 5


def test_averages_of_the_same_epochs_are_measured_once(digits: Pool) -> None:
    """Of 4 epochs, starts .5 and .6 average the same; the second one's numbers are the first one's."""
    both = run(job(average_start=0.6, average_starts=(0.5,)), digits, "cpu", "0")
    alone = run(job(average_start=0.6, average_starts=()), digits, "cpu", "0")
    measured = final(both.measurements)
    assert measured["swa@0.6"] == final(alone.measurements)["swa@0.6"]
    assert replace(measured["swa@0.5"], weights="swa@0.6") == measured["swa@0.6"]
    assert {r.weights for r in both.reliability} == {"last", "swa@0.5", "swa@0.6"}
    assert both.forward_evaluations == alone.forward_evaluations
