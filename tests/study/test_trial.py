"""One run: bit-identical when repeated, equal to a slow twin in plain torch, and honest about how it ends."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matrices import crossed
from torch.nn import functional

from study.data import Pool, SealedTestError, load_data
from study.data.pool import split_off
from study.models import build_model
from study.plan.agenda import Agenda
from study.records import Job, Measurement, RunRecord, kind_of
from study.specs.spec import load_spec
from study.specs.tasks import default_factors
from study.streams import stream
from study.tasks import draw_split, pool_task
from study.tasks.examples import examples_of
from study.training.measure import Evaluator
from study.training.once import main as once
from study.training.trial import Run, run
from wasam_core import WASAM, Cost

JOB = Job(
    stage="confirm", cell="digits", task="digits",
    factors=default_factors("digits") | {"train_size": 300, "epochs": 4, "label_noise": 0.3},
    family="base", epochs_factor=1, learning_rate=0.05, rho=0.0,
    average_start=0.3, average_starts=(0.5, 0.75), seed=1000, reads=("last", "best", "swa"),
    replicate=2, test_seed=7,
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


@pytest.mark.parametrize("stage", ["tune", "confirm"])
@pytest.mark.parametrize("reads", [("last",), ("last", "best"), ("last", "swa"), ("last", "lawa", "ema")])
def test_a_run_that_measures_less_is_the_same_run(digits: Pool, reads: tuple[str, ...], stage: str) -> None:
    """Keeping a copy of the best epoch, and every average, perturbs nothing."""
    averaged = {"ema_decays": (0.9, 0.99), "lawa_windows": (2, 3), "stage": stage}
    whole = run(job(**averaged, reads=("last", "best", "swa", "ema", "lawa")), digits, "cpu", "0")
    part = run(job(**averaged, reads=reads), digits, "cpu", "0")
    curve = stage == "confirm" or "best" in reads
    assert part.run_id == whole.run_id
    assert part.measurements == tuple(
        m for m in whole.measurements if kind_of(m.weights) in reads and (curve or m.epoch == JOB.epochs)
    )
    assert part.forward_evaluations < whole.forward_evaluations
    assert whole.job.measures(part.job)
    assert not part.job.measures(whole.job)


def test_jobs_are_compared_by_what_they_measure() -> None:
    assert job(reads=("last", "best", "swa")).measures(job(reads=("swa", "last")))
    assert job(reads=("last",)).measures(job(reads=("last",)))
    assert not job(reads=("last",)).measures(job(reads=("last", "best")))


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


def twin(pool: Pool, rho: float, best_epoch: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Train the job once more with torch alone, textbook SAM, float64 averages, one big BatchNorm batch.

    Return loss and accuracy by weights and part; `best` are the weights as they are in the middle, at one epoch.
    """
    split = draw_split(pool, JOB.factors, JOB.seed, JOB.test_seed)
    x, y = map(torch.from_numpy, split.train)
    task = pool_task(pool, JOB.factors, JOB.seed, JOB.test_seed)
    parts = {"val": examples_of(task.val, "val"), "test": task.open_test("confirm")}
    model = build_model(JOB.factors, (1, 8, 8), 10, JOB.seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=JOB.learning_rate, momentum=0.9, weight_decay=5e-4)
    parameters, order = list(model.parameters()), stream(JOB.seed, "data order")

    def measured() -> dict[str, tuple[float, float]]:
        found = {}
        for name, examples in parts.items():
            ((inputs, targets),) = examples.batches(len(examples))
            with torch.no_grad():
                outputs = model.eval()(inputs)
            right = (outputs.argmax(1) == targets).double().mean().item()
            found[name] = functional.cross_entropy(outputs, targets).item(), right
        model.train()
        return found

    snapshots, found = [], {}
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
        if epoch + 1 == best_epoch:
            found["best"] = measured()
    found["last"] = measured()
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
    reference = twin(digits, rho, measured["best"].weights_epoch or 0)
    assert set(reference) == set(measured)
    for weights, by_part in reference.items():
        for part, size in (("val", 400), ("test", 397)):
            if part == "val" or measured[weights].test_loss is not None:
                loss, accuracy = by_part[part]
                assert getattr(measured[weights], f"{part}_loss") == pytest.approx(loss, rel=2e-3)
                assert getattr(measured[weights], f"{part}_score") == pytest.approx(accuracy, abs=2 / size)


NOISY = {"factors": JOB.factors | {"schedule": "constant", "epochs": 12}, "learning_rate": 0.2}


def best_of_curve(record: RunRecord) -> Measurement:
    """Return the point of the learning curve with the best validation score, the later one of two."""
    curve = sorted((m for m in record.measurements if m.weights == "last"), key=lambda m: m.epoch)
    top = max(m.val_score or 0 for m in curve)
    return [m for m in curve if m.val_score == top][-1]


@pytest.mark.parametrize("epochs", [1, 4, 10, 11, 12, 25])
def test_what_may_be_best_are_about_ten_evenly_spaced_epochs_and_the_last(digits: Pool, epochs: int) -> None:
    factors = JOB.factors | {"epochs": epochs, "train_size": 60, "batch_size": 20, "width": 0.25}
    record = run(job(stage="tune", trial=0, factors=factors), digits, "cpu", "0")
    curve = [m.epoch for m in record.measurements if m.weights == "last"]
    assert curve == sorted({math.ceil(epochs * tenth / 10) for tenth in range(1, 11)})
    assert curve[-1] == epochs
    (best,) = (m for m in record.measurements if m.weights == "best")
    assert (best.epoch, best.weights_epoch) == (epochs, best_of_curve(record).epoch)
    assert best.val_score == best_of_curve(record).val_score


@crossed(changes=[NOISY, NOISY | {"family": "sam", "rho": 0.1}, {}], seed=[1001, 1003, 1005])
def test_best_are_the_weights_of_the_epoch_that_validation_prefers(
    digits: Pool, changes: dict[str, object], seed: int
) -> None:
    """Bit by bit, BatchNorm's statistics included: a twin that was stopped at that epoch measures the same."""
    one = job(**changes, seed=seed)
    record = run(one, digits, "cpu", "0")
    measured = {m.weights: m for m in record.measurements if m.epoch == one.epochs}
    best, point = measured["best"], best_of_curve(record)
    assert best.weights_epoch == point.epoch
    assert (best.val_score, best.val_loss) == (point.val_score, point.val_loss)
    stopped = Run(one, digits, "cpu", "0")
    for _ in range(point.epoch - 1):
        stopped.advance(0)
    states: list[dict[str, torch.Tensor]] = []
    take = stopped._take

    def taking(epoch: int, loss: float) -> None:
        states.append({name: value.clone() for name, value in stopped._model.state_dict().items()})
        take(epoch, loss)

    stopped._take = taking  # type: ignore[method-assign]
    stopped.advance(0)
    task = pool_task(digits, one.factors, seed, one.test_seed)
    task.model.load_state_dict(states[0])
    assert any(name.endswith("running_var") for name in states[0])
    sets = {"train": examples_of(task.train, "train"), "val": examples_of(task.val, "val"),
            "test": task.open_test("confirm")}  # fmt: skip
    twin = Evaluator(task.model, task).measure("best", one.epochs, sets, Cost())
    assert replace(twin, weights_epoch=point.epoch) == best
    if point.epoch == one.epochs:
        assert replace(best, weights="last", weights_epoch=None) == measured["last"]


def test_the_cases_above_hold_best_epochs_in_the_middle_and_at_the_end(digits: Pool) -> None:
    records = [
        run(job(**changes, seed=seed), digits, "cpu", "0") for seed in (1001, 1003, 1005) for changes in (NOISY, {})
    ]
    at_end = {best_of_curve(record).epoch == record.job.epochs for record in records}
    assert at_end == {True, False}


def test_of_two_equally_good_epochs_the_later_one_is_best(digits: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the earlier one has the lower loss."""
    scores = iter([0.5, 0.7, 0.6, 0.7, 0.2, 0.7, 0.1])
    original = Evaluator.measure

    def fixed(*arguments: Any) -> Any:
        found = original(*arguments)
        return replace(found, val_score=next(scores), val_loss=found.epoch * 1.0)

    monkeypatch.setattr(Evaluator, "measure", fixed)
    factors = JOB.factors | {"epochs": 7, "train_size": 60, "batch_size": 20, "width": 0.25}
    record = run(job(stage="tune", trial=0, factors=factors, reads=("last", "best")), digits, "cpu", "0")
    (best,) = (m for m in record.measurements if m.weights == "best")
    assert (best.weights_epoch, best.val_score, best.val_loss) == (6, 0.7, 6.0)


@pytest.mark.slow
def test_in_confirm_the_preferred_weights_of_each_kind_alone_are_tested(digits: Pool) -> None:
    """By the validation part of that run itself, so that two seeds may prefer two averages."""
    chosen = set()
    for seed in range(1001, 1013, 2):
        record = run(job(seed=seed, reads=("last", "best", "swa", "ema"), ema_decays=(0.5, 0.9)), digits, "cpu", "0")
        at_end = [m for m in record.measurements if m.epoch == JOB.epochs]
        for kind in ("last", "best", "swa", "ema"):
            of_kind = [m for m in at_end if kind_of(m.weights) == kind]
            (tested,) = (m for m in of_kind if m.test_score is not None)
            assert tested.val_score == max(m.val_score or 0 for m in of_kind)
            assert None not in (tested.test_loss, tested.train_score, tested.test_calibration_error)
            for other in of_kind:
                if other is not tested:
                    assert {other.test_loss, other.train_loss, other.train_score, other.test_calibration_error} == {
                        None
                    }
            chosen.add(tested.weights)
        assert all(m.test_score is None for m in record.measurements if m.epoch < JOB.epochs)
    assert len(chosen) > 4


def test_the_record_says_whose_run_it_was_and_what_it_was_judged_by(digits: Pool) -> None:
    record = run(job(family="sam", rho=0.1), digits, "cpu", "0")
    assert (record.replicate, record.method) == (2, "SAM")
    assert (record.metric, record.unit, record.higher_is_better) == ("accuracy", "fraction", True)


def test_the_tune_stage_runs_with_the_test_part_out_of_reach(digits: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = Pool.open_test

    def watched(self: Pool, stage: str, test_seed: int) -> object:
        opened.append(stage)
        return original(self, stage, test_seed)

    monkeypatch.setattr(Pool, "open_test", watched)
    record = run(job(stage="tune", trial=0, search="base"), digits, "cpu", "0")
    assert record.status == "completed"
    assert all(m.test_score is None and m.test_loss is None for m in record.measurements)
    assert opened == []
    run(JOB, digits, "cpu", "0")
    assert opened == ["confirm"]
    with pytest.raises(SealedTestError):
        digits.open_test("tune", 0)


def test_the_test_part_leaves_no_trace_in_tune(digits: Pool) -> None:
    """Whatever stands in the rows that the replicate sets aside, every number of the tune stage is the same."""
    aside, _ = split_off(len(digits.labels), digits.test_size, JOB.test_seed)
    inputs, labels = digits.inputs.copy(), digits.labels.copy()
    inputs[aside], labels[aside] = np.nan, 10**6
    tune = job(stage="tune", trial=0)
    damaged = run(tune, replace(digits, inputs=inputs, labels=labels), "cpu", "0")
    assert damaged.status == "completed"
    assert damaged.measurements == run(tune, digits, "cpu", "0").measurements


def test_a_diverged_run_stands_at_chance_level(digits: Pool) -> None:
    record = run(job(learning_rate=1e6, factors=JOB.factors | {"model": "mlp"}), digits, "cpu", "0")
    assert record.status == "diverged"
    measured = final(record.measurements)
    assert set(measured) == {"last", "best", *JOB.averages} == {"last", "best", "swa@0.3", "swa@0.5", "swa@0.75"}
    assert {m.test_score for m in measured.values()} == {m.val_score for m in measured.values()} == {0.1}
    assert measured["best"].weights_epoch == JOB.epochs
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
    # Three earlier curve points and 4 weights on validation; on train and test the last and one average, and the best
    # epoch where it is not the last; BatchNorm passes of three averages.
    for record in (base, sam):
        best = final(record.measurements)["best"].weights_epoch != JOB.epochs
        assert record.forward_evaluations == (3 + 4) * 400 + (2 + best) * (300 + 397) + 3 * 300


class Curious(Run):
    """A run whose averages somebody looks at after every epoch."""

    def _take(self, epoch: int, train_loss: float) -> None:
        super()._take(epoch, train_loss)
        for name in {*self._job.averages} & {*self._averages.ready}:
            with self._average(name):
                self._measure(name, {"val": self._sets["val"]})


@pytest.mark.parametrize("stage", ["tune", "confirm"])
def test_an_average_is_measured_under_statistics_of_its_own_whoever_looked_before(digits: Pool, stage: str) -> None:
    curious, plain = (kind(job(stage=stage), digits, "cpu", "0") for kind in (Curious, Run))
    assert curious.advance()
    assert plain.advance()
    assert curious.record().measurements == plain.record().measurements
    swa = final(plain.record().measurements)["swa@0.3"]
    with curious._averages.average_parameters("swa@0.3"):
        curious._recalibrate()
        assert curious._evaluator.evaluate(curious._sets["val"]).loss == swa.val_loss


def test_smoke_jobs_name_every_average_once() -> None:
    spec = load_spec("smoke")[0]
    agenda, sums = Agenda(spec), set()
    while planned := agenda.next_job():
        assert len(set(planned.averages)) == len(planned.averages)
        sums.add(len(planned.averages))
    assert sums == {len(spec.average_starts) + 1}


def test_averages_of_the_same_epochs_are_measured_once(digits: Pool) -> None:
    """Of 4 epochs, starts .5 and .6 average the same; the second one's numbers are the first one's."""
    both = run(job(average_start=0.6, average_starts=(0.5,)), digits, "cpu", "0")
    alone = run(job(average_start=0.6, average_starts=()), digits, "cpu", "0")
    measured, reference = final(both.measurements), final(alone.measurements)["swa@0.6"]
    tested = {name for name, m in measured.items() if kind_of(name) == "swa" and m.test_score is not None}
    assert tested == {"swa@0.5"}  # of equals the simpler name
    assert replace(measured["swa@0.5"], weights="swa@0.6") == reference
    assert (measured["swa@0.6"].val_score, measured["swa@0.6"].val_loss) == (reference.val_score, reference.val_loss)
    assert both.forward_evaluations == alone.forward_evaluations


def test_one_run_is_trained_again_without_ray_and_raises_what_it_raises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    record = run(JOB, load_data(JOB.task), "cpu", "0")
    path = tmp_path / "record.json"
    path.write_text(record.model_dump_json())
    assert once([str(path)]) == 0
    assert RunRecord.model_validate_json(capsys.readouterr().out).measurements == record.measurements
    breaks = job(task="own_tasks:raises_in_forward", factors=JOB.factors | {"train_size": 40})
    path.write_text(record.model_copy(update={"job": breaks}).model_dump_json())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        once([str(path)])
    path.write_text("{}")
    assert once([str(path)]) == 2
    assert "record.json was given, which can't be read as a record" in capsys.readouterr().err
