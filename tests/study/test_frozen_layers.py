"""Layers that a task keeps in eval mode stay there in training, evaluation, recalibration, probes and lines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matrices import crossed

from study.records import Job, LineRecord, RunRecord
from study.specs.tasks import default_factors
from study.tasks import build_task
from study.training.building import adapted
from study.training.landscape import Content, End, Landscape, measure_landscape
from study.training.measure import Evaluator
from study.training.train import begin_training
from study.training.trial import Run

FROZEN = ("by_train", "by_hand", "by_hand_in_tuples", "without_dropout")
FAMILIES: dict[str, dict[str, Any]] = {"base": {}, "sam": {"family": "sam", "rho": 0.1}}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(Path(__file__).parent)


def job(name: str, **changes: Any) -> Job:
    task = f"frozen_tasks:{name}"
    factors = default_factors(task) | {"train_size": 40, "epochs": 3, "batch_size": 10}
    return Job(
        stage="confirm", cell=name, task=task, factors=factors, family="base", epochs_factor=1, learning_rate=1e-12,
        rho=0.0, average_start=0.4, average_starts=(0.5,), ema_decays=(0.9,), lawa_windows=(2,), seed=1000,
        reads=("last", "best", "swa", "ema", "lawa"), test_seed=3,
    ).model_copy(update=changes)  # fmt: skip


def finished(one: Job) -> tuple[Run, RunRecord]:
    found = Run(one, None, "cpu", "0")
    assert found.advance()
    record = found.record()
    assert record.error is None
    return found, record


@crossed(name=FROZEN, family=FAMILIES)
def test_weights_that_hardly_move_score_the_same_under_every_name(name: str, family: str) -> None:
    run, record = finished(job(name, **FAMILIES[family]))
    losses = {one.weights: one.val_loss for one in record.measurements if one.epoch == 3}
    assert len(losses) > 5
    assert losses == pytest.approx(dict.fromkeys(losses, losses["last"]), rel=1e-5)
    norm = next(module for module in run._model.modules() if isinstance(module, torch.nn.BatchNorm1d))
    assert norm.num_batches_tracked == 0
    assert norm.running_mean.tolist() == pytest.approx([0.3] * 16)


@pytest.mark.parametrize("name", [*FROZEN, "all_in_eval_mode", "all_in_eval_mode_in_tuples"])
def test_modes_are_those_of_the_task_before_and_after_a_run(name: str) -> None:
    built = begin_training(adapted(build_task(f"frozen_tasks:{name}", None, job(name).factors, 1000, 3)))
    modes = {key: module.training for key, module in built.named_modules()}
    kept = {"norm", "dropout"} if name == "without_dropout" else set() if name.startswith("all") else {"norm"}
    assert {key.rpartition(".")[2] for key, training in modes.items() if not training} == kept
    run, _ = finished(job(name, probed=("last", "swa")))
    assert {key: module.training for key, module in run._model.named_modules()} == modes


def test_a_frozen_layer_stays_frozen_along_a_line() -> None:
    """The loss at the start of a line is that of the weights there, in the statistics of the task."""
    one = job("by_train")
    run, record = finished(one)
    weights = {name: p.detach().clone() for name, p in run._model.named_parameters()}
    ends = tuple(End(method, record, "last") for method in ("SGD", "SAM"))
    moved = {name: w + 0.1 for name, w in weights.items()}
    landscape = Landscape("line", ends, Path("unused"))
    line = LineRecord.model_validate_json(measure_landscape(None, landscape, Content((weights, moved), ((), ()))))
    task = build_task(one.task, None, one.factors, one.seed, 3)
    _, _, expected = Evaluator(run._model, task).evaluate(task.open_test("confirm"))
    assert line.test_losses[0] == pytest.approx(expected, rel=1e-5)
