"""Tasks of one's own: one small problem in every form gives the same numbers, and mistakes are told before a study."""

import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from own_jobs import FAMILIES, completed, job, spec_of
from rich.console import Console
from torch import nn

from study import new
from study.data import TaskError
from study.listeners.listener import Tally
from study.listeners.terminal import Display
from study.plan.agenda import Agenda
from study.plan.replicates import replicates_of
from study.records import METRICS, Job, RunRecord
from study.run import main
from study.specs.spec import StudySpec, parse_spec
from study.specs.tasks import default_factors
from study.tasks import EVALUATION_BATCH, build_task
from study.tasks.adapted import Adapted, by_number, numbered
from study.tasks.examples import examples_of
from study.tasks.task import Task
from study.training import miniature
from study.training.building import adapted
from study.training.measure import Evaluator
from study.training.miniature import LIGHT, SMALL, Size
from study.training.parts import shared_inputs
from study.training.preflight import PreflightError, preflight
from study.training.trial import Run, run
from wasam_core.probes.landscape import line
from wasam_core.probes.surface import LossSurface

HERE = Path(__file__).parent
FORMS = ("tensors", "pairs", "loaders", "tuples", "dicts", "lists", "like_huggingface")
OTHERS = ("numbers", "tokens", "tied")
TARGETS = ("mixed", "softly", "soft_everywhere", "named_targets", "ranked")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(HERE)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_of_a_problem_gives_the_same_measurements(family: str) -> None:
    """Averages, the recalibration of BatchNorm, dropout in both passes and the cut into micro-batches included.

    A loader is evaluated in batches of its own size, so its sums are rounded otherwise.
    """
    reference = completed(job("tensors", **FAMILIES[family]))
    for form in FORMS[1:]:
        found = completed(job(form, **FAMILIES[family]))
        if form != "loaders":
            assert found.measurements == reference.measurements
        for ours, other in zip(found.measurements, reference.measurements, strict=True):
            assert (ours.weights, ours.epoch) == (other.weights, other.epoch)
            known = [name for name in METRICS if getattr(other, name) is not None]
            assert [getattr(ours, n) for n in known] == pytest.approx([getattr(other, n) for n in known], rel=1e-5)


@pytest.mark.parametrize("family", ["base", "sam", "m-sam", "adamw-sam"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_of_problems_run(name: str, family: str) -> None:
    record = completed(job(name, **FAMILIES[family]))
    assert {m.weights for m in record.measurements if m.epoch == 3} == {"last", "best", "swa@0.5", "swa@0.4", "ema@0.9"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_any_kind_pass_from_tuning_through_the_test(name: str, family: str) -> None:
    """What describes and can't be measured of them is left out."""
    for stage in ("tune", "confirm"):
        record = completed(job(name, stage=stage, probed=("last",) if stage == "confirm" else (), **FAMILIES[family]))
        last = [m for m in record.measurements if m.weights == "last"][-1]
        assert last.val_loss is not None
        assert last.val_score is not None
    assert last.test_score is not None
    assert (last.train_score is None) == (name in ("mixed", "softly"))
    assert (last.val_calibration_error is None) == (name in ("soft_everywhere", "named_targets"))
    assert (last.test_calibration_error is None) == (last.val_calibration_error is None)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_any_kind_pass_the_preflight(name: str) -> None:
    preflight(spec_of(name, methods=["SGD", "SAM", "m-SAM", "AdamW"]))


def test_probes_of_every_form_agree() -> None:
    probed = {"probed": ("last", "swa")}
    reference = completed(job("tensors", **probed)).probes
    assert len(reference) >= 6
    for form in ("tuples", "dicts", "like_huggingface"):
        for ours, other in zip(completed(job(form, **probed)).probes, reference, strict=True):
            assert (ours.weights, ours.name) == (other.weights, other.name)
            assert ours.value == pytest.approx(other.value, rel=1e-3, abs=1e-6)
    assert completed(job("tied", **probed)).probes


@pytest.mark.parametrize("name", ["tuples", "dicts", "like_huggingface"])
def test_numbers_stand_for_inputs_that_are_no_tensor(name: str) -> None:
    """A line and a batch that is cut see the same loss as the inputs themselves."""
    task = build_task(f"own_tasks:{name}", None, job(name).factors, 0, 0)
    model, train = adapted(task), examples_of(task.train, "train")
    batches = list(train.batches(15))
    wanted = Evaluator(model, task).evaluate(train).loss
    parts = batches, list(train.batches(EVALUATION_BATCH))
    loss = by_number(task.loss, *parts)
    with numbered(model, *parts) as (tensors, whole):
        cut = [(inputs[4:9], targets[4:9]) for inputs, targets in tensors]
        assert LossSurface(model, loss, tensors).loss == pytest.approx(wanted)
        assert len(model(cut[1][0])) == 5
        weights = {key: value.detach().clone() for key, value in model.named_parameters()}
        found = line(model, loss, weights, weights, {"train": tensors}, points=3, recalibrate_with=whole, error_fn=None)
    assert found.loss["train"][0] == pytest.approx(found.loss["train"][-1])
    assert isinstance(model, Adapted)
    assert model.shelf == []


@pytest.mark.parametrize("name", [*FORMS, *OTHERS])
def test_an_interrupted_run_ends_with_the_same_bits(name: str) -> None:
    one = job(name, family="sam", rho=0.1)
    first = Run(one, None, "cpu", "0")
    assert not first.advance(0.0)
    state = first.state()
    second = Run(one, None, "cpu", "0")
    torch.rand(7)
    second.restore(state)
    second.advance()
    assert second.record().measurements == completed(one).measurements


def test_the_seed_says_what_is_built_and_the_global_generators_are_left_alone() -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]

    before = state()
    first, again, other = (build_task("own_tasks:dicts", None, job("dicts").factors, seed, 0) for seed in (0, 0, 1))
    assert state() == before
    assert torch.equal(first.model.head.weight, again.model.head.weight)  # type: ignore[arg-type, union-attr]
    assert not torch.equal(first.model.head.weight, other.model.head.weight)  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:build", "no module 'no_such_module'"),
        ("own_tasks:no_such_function", "has no function 'no_such_function'"),
    ],
)
def test_a_name_that_leads_nowhere_says_so(name: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        build_task(name, None, {"train_size": 40}, 0, 0)


def first_test_row(task: Any) -> list[float]:
    inputs, _ = next(examples_of(task.test(), "test").batches(1))
    return inputs[0].tolist()


def test_a_task_that_asks_for_it_is_told_the_replicate() -> None:
    """By the name of the argument; a function of two arguments is called with two, as ever."""
    for name, changes in (("drawn", True), ("keeps_its_test_part", False), ("tensors", False)):
        factors = job(name).factors
        here, again, there = (build_task(f"own_tasks:{name}", None, factors, 4, test_seed) for test_seed in (3, 3, 5))
        assert first_test_row(here) == first_test_row(again)
        assert (first_test_row(here) != first_test_row(there)) == changes
        assert torch.equal(here.train[0], there.train[0])  # type: ignore[index]
        assert torch.equal(here.model.head.weight, there.model.head.weight)  # type: ignore[arg-type, union-attr]
    runs = [completed(job("drawn", test_seed=root)) for root in (3, 3, 5)]
    assert runs[0].measurements == runs[1].measurements
    assert runs[0].run_id != runs[2].run_id
    final = [{m.weights: m for m in record.measurements if m.epoch == 3}["last"] for record in runs]
    assert final[0].val_loss == final[2].val_loss
    assert final[0].test_loss != final[2].test_loss


def test_the_run_tells_a_task_the_root_of_its_replicate(monkeypatch: pytest.MonkeyPatch) -> None:
    import own_tasks  # noqa: PLC0415  # on the path inside a test alone

    told: set[tuple[int, int]] = set()

    def watched(seed: int, factors: dict[str, Any], *, replicate: int) -> Any:
        told.add((seed, replicate))
        return own_tasks.tensors(seed, factors)

    monkeypatch.setattr(own_tasks, "tuples", watched)
    spec = spec_of("tuples", replicates=2, confirms=2)
    agenda = Agenda(spec)
    while planned := agenda.next_job():
        agenda.complete(completed(planned))
    assert told == {(seed, one.test) for one in replicates_of(spec) for seed in (one.tune, *one.confirm)}


@pytest.mark.parametrize(
    ("name", "found", "noted"),
    [
        ("drawn", "anew", ""),
        ("tensors", "same", ""),
        ("keeps_its_test_part", "same", "the same in two replicates"),
        ("draws_its_test_part_from_the_seed", "run", "other first test examples with another seed"),
    ],
)
def test_the_preflight_says_where_the_test_part_comes_from(name: str, found: str, noted: str) -> None:
    said = preflight(spec_of(name, replicates=2))
    assert said.spec.test_parts == {f"own_tasks:{name}": found}
    assert [noted in note and f"'own_tasks:{name}'" in note for note in said.notes] == [True] * bool(noted)
    if found == "same":
        assert preflight(spec_of(name, replicates=1)).notes == ()  # there is but one


def test_examples_in_two_parts_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    import own_tasks  # noqa: PLC0415  # on the path inside a test alone

    def build(seed: int, factors: dict[str, Any]) -> Any:
        task = own_tasks.tensors(seed, factors)
        (known, answers), (inputs, targets) = task.train, task.test()
        return replace(task, test=lambda: (torch.cat([inputs, known[:7]]), torch.cat([targets, answers[:7]])))

    monkeypatch.setattr(own_tasks, "leaks", build, raising=False)
    (note,) = preflight(spec_of("leaks")).notes
    assert f"7 of {len(own_tasks.tensors(1, {}).test()[0]) + 7} test inputs stand in the train part" in note


def test_inputs_of_any_type_and_shape_are_told_apart_bit_by_bit() -> None:
    rng = torch.Generator().manual_seed(3)
    numbers = torch.randint(-100, 100, (24, 2, 3), generator=rng)
    assert len(numbers.flatten(1).unique(dim=0)) == 24
    for kind in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int8, torch.complex64):
        inputs, targets = numbers.to(kind).transpose(1, 2), torch.zeros(24)
        one, two = (inputs[:14], targets[:14]), (inputs[12:], targets[12:])
        assert "2 of 12 test inputs stand in the train part" in shared_inputs("t", {"train": one, "test": two})
        assert not shared_inputs("t", {"train": (inputs[:12], targets[:12]), "test": two})
    flat = torch.arange(5.0), torch.zeros(5)
    assert "5 of 5 val inputs" in shared_inputs("t", {"train": flat, "val": flat})
    assert not shared_inputs("t", {"train": ({"x": flat[0]}, flat[1]), "val": ({"x": flat[0]}, flat[1])})


@pytest.mark.parametrize("name", ["raises_in_test", "raises_in_test_of_replicates"])
def test_the_preflight_opens_the_test_part_in_the_confirm_stage_alone(name: str) -> None:
    with pytest.raises(PreflightError, match=r"in miniature, the confirm stage of SGD, SWA in the cell .* KeyError"):
        preflight(spec_of(name, replicates=2))


def test_of_the_test_part_the_first_examples_alone_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    import own_tasks  # noqa: PLC0415  # on the path inside a test alone

    read: set[int] = set()

    class Watched(own_tasks.Rows):  # type: ignore[misc, name-defined]
        def __getitem__(self, index: int) -> Any:
            read.add(index)
            return super().__getitem__(index)

    def build(seed: int, factors: dict[str, Any], replicate: int) -> Any:
        task = own_tasks.drawn(seed, factors, replicate)
        return replace(task, test=lambda: Watched(*task.test(), pairs=True))

    monkeypatch.setattr(own_tasks, "drawn_rows", build, raising=False)
    preflight(spec_of("drawn_rows", replicates=2))
    assert read == set(range(SMALL.others))


def test_the_note_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        'name = "own"\nquestion = "?"\nreplicates = 2\n[search]\ntrials = 2\n'
        '[[problems]]\ntask = "own_tasks:keeps_its_test_part"\n'
        "factors = { train_size = 40, epochs = 2, batch_size = 10 }\n"
    )
    Path("own.toml").write_text(text)
    assert main(["own.toml", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("note: task = 'own_tasks:keeps_its_test_part' takes replicate") == 1


def test_the_test_part_of_an_own_task_opens_in_confirm_alone() -> None:
    """One that is not to be had ends no run of the tune stage."""
    tuned = completed(job("raises_in_test", stage="tune", trial=0, search="base"))
    assert all(m.test_loss is None and m.test_score is None for m in tuned.measurements)
    assert tuned.measurements[0].val_loss == completed(job("tensors")).measurements[0].val_loss
    failed = run(job("raises_in_test"), None, "cpu", "0")
    assert (failed.status, failed.measurements) == ("failed", ())
    assert "the test part" in (failed.error or "")


def test_the_record_says_what_an_own_task_is_judged_by() -> None:
    record = completed(job("in_units", replicate=4, family="adamw-sam", rho=0.1, learning_rate=0.01))
    assert (record.metric, record.unit, record.higher_is_better) == ("error", "k$", False)
    assert (record.replicate, record.method) == (4, "AdamW+SAM")
    assert all((m.val_score or 0) < 0 for m in record.measurements)  # so that higher is better
    best = next(m for m in record.measurements if m.weights == "best")
    assert best.val_score == max(m.val_score or 0 for m in record.measurements if m.weights == "last")


def test_a_run_that_diverges_is_the_tasks_guess_for_all_of_its_weights() -> None:
    record = run(job("in_units", learning_rate=1e30), None, "cpu", "0")
    assert record.status == "diverged"
    final = {m.weights: m for m in record.measurements if m.epoch == 3}
    assert set(final) == {"last", "best", "swa@0.5", "swa@0.4", "ema@0.9"}
    assert {(m.val_score, m.test_score, m.test_loss) for m in final.values()} == {(-2000.0, -2000.0, 6.0)}
    assert (record.metric, record.unit, record.higher_is_better) == ("error", "k$", False)


def test_label_noise_of_the_validation_part_is_no_factor_of_an_own_task() -> None:
    """Its labels are its own affair; a factor of that name is the user's."""
    assert "validation_label_noise" not in default_factors("own_tasks:tensors")
    plain = build_task("own_tasks:tensors", None, job("tensors").factors, 4, 0)
    named = build_task("own_tasks:tensors", None, job("tensors").factors | {"validation_label_noise": "none"}, 4, 0)
    assert torch.equal(plain.val[1], named.val[1])  # type: ignore[index]


@pytest.mark.parametrize("name", [*FORMS, *OTHERS])
def test_a_sound_task_passes_the_preflight(name: str) -> None:
    preflight(spec_of(name, probes=True, methods=["SGD", "SAM", "m-SAM", "AdamW", "AdamW+SAM"]))


def test_a_large_network_is_tried_on_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many cells as it takes to see each value of each factor."""
    made: list[tuple[Size, str, str]] = []
    run_one = miniature.run_in_miniature

    def watched(job: Job, task: Task, size: Size) -> RunRecord:
        made.append((size, job.cell, job.stage))
        return run_one(job, task, size)

    monkeypatch.setattr(miniature, "run_in_miniature", watched)
    monkeypatch.setattr(miniature, "_SLOW_S", math.inf)
    factors = {
        "train_size": 40,
        "epochs": 2,
        "batch_size": 10,
        "ascent_batch": 5,
        "depth": [1, 2, 3],
        "kind": ["a", "b"],
    }
    spec = spec_of("reads_everything", problems=[{"task": "own_tasks:reads_everything", "factors": factors}])
    assert preflight(spec).notes == ()
    assert {size for size, _, _ in made} == {SMALL}
    assert len(made) == 6 * 6  # as it is, then two families, each in two stages
    made.clear()
    monkeypatch.setattr(miniature, "_SLOW_S", 0.0)
    (note,) = preflight(spec).notes
    assert note.startswith("4 of 6 problems were tried")
    assert [size for size, _, _ in made] == [SMALL, SMALL, *[LIGHT] * 4 * 2]
    assert {stage for _, _, stage in made[1:]} == {"confirm"}
    shown = [cell.rpartition("own_tasks:reads_everything ")[2] for cell in dict.fromkeys(cell for _, cell, _ in made)]
    assert shown == ["depth=1 kind=a", "depth=1 kind=b", "depth=2 kind=a", "depth=3 kind=a"]


@pytest.mark.parametrize("name", ["knows_missing_numbers", "keeps_a_part_that_is_not_trained"])
def test_what_a_model_knows_is_no_mistake(name: str) -> None:
    preflight(spec_of(name))


@pytest.mark.parametrize("name", ["needs_a_rare_class", "needs_a_whole_batch"])
def test_what_a_few_examples_cannot_have_is_asked_of_more(name: str) -> None:
    preflight(spec_of(name))


@pytest.mark.parametrize(
    ("name", "message", "traced"),
    [
        ("raises_in_build", "building the task failed.* ZeroDivisionError", "1 // 0"),
        ("raises_in_forward", "a forward pass and its loss failed", "both[:, :1]"),
        (
            "raises_in_backward",
            "in miniature, the tune stage of SGD, SWA in the cell .* RuntimeError: no way back",
            "way back",
        ),
        ("raises_in_metric", "in miniature, the tune stage of SGD, SWA in the cell .* failed", '["logits"]'),
        ("raises_in_test", "in miniature, the confirm stage of SGD, SWA in the cell .* KeyError", '["the test part"]'),
        ("scores_nothing", "as in the tune stage, .* a loss or a score is not finite", ""),
        ("tests_on_nothing", "the confirm stage of .* failed: test: no examples were given", ""),
        ("tests_on_no_numbers", "as in the confirm stage, .* a loss or a score is not finite", ""),
        ("exits", "building the task failed .* SystemExit: that's it", "exits"),
        ("returns_a_model", "returned Joined; it must return a Task", ""),
        ("returns_too_few", "20 training examples, and the spec says factors.train_size = 40", ""),
        ("opens_the_test_part", "whose test is tuple; it must be a function", ""),
        ("has_no_parameters", "at least one parameter that is trained", ""),
        ("loses_the_mean", r"returned a tensor of shape \(8,\)", ""),
        ("loses_the_gradient", "without a gradient", ""),
        ("loses_finiteness", "a loss of inf", ""),
        ("loses_the_count", r"the loss is .* it is no mean over examples", ""),
        ("has_a_bare_metric", "it must be a study.tasks.Metric", ""),
        ("guesses_nothing", "finite numbers", ""),
        ("keeps_its_model", "the initial weights differ", ""),
        ("keeps_a_model_that_passes_leave_alone", "both have the same model", ""),
        *(
            (f"{part}_{name}", message.format(part), "")
            for part in ("train", "val", "test")
            for name, message in (
                ("has_a_class_too_many", "has a {} part with 1 targets such as 3, and outputs of 3 classes"),
                ("lacks_a_class", "has a {} part with 1 targets such as -1, and outputs of 3 classes"),
                ("lacks_a_number", r"has a {} part with 1 of \d+ inputs that are not finite.* their loss is nan"),
            )
        ),
        ("draws_without_a_seed", "the training examples differ", ""),
        ("ignores_its_seed", "neither the initial weights nor the training examples differ", ""),
    ],
)
def test_a_mistake_is_told_before_the_study(name: str, message: str, traced: str) -> None:
    with pytest.raises(PreflightError, match=message) as caught:
        preflight(spec_of(name))
    trace = caught.value.trace
    assert bool(trace) == bool(traced)
    assert traced in trace
    assert "preflight.py" not in trace
    assert "miniature.py" not in trace
    assert "_call_impl" not in trace


def test_a_training_loss_is_asked_for_its_count_where_batches_are_cut() -> None:
    preflight(spec_of("weighs_while_training", methods=["SGD", "SAM"]))
    with pytest.raises(PreflightError, match="no mean over examples"):
        preflight(spec_of("weighs_while_training", methods=["SGD", "m-SAM"]))


def test_a_model_that_cannot_be_probed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import own_tasks  # noqa: PLC0415  # on the path inside a test alone

    original = own_tasks.Joined.forward

    def fused(self: nn.Module, both: torch.Tensor) -> torch.Tensor:
        four = original(self, both)[None, None]
        found: torch.Tensor = nn.functional.scaled_dot_product_attention(four, four, four)[0, 0]
        return found

    monkeypatch.setattr(own_tasks.Joined, "forward", fused)
    preflight(spec_of("tensors"))
    with pytest.raises(PreflightError, match=r"a probe of task = .* failed: .*; leave probes out"):
        preflight(spec_of("tensors", probes=True))


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--fresh"]])
def test_a_broken_task_prints_the_users_frames_then_a_sentence_and_writes_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = tmp_path / "own.toml"
    spec.write_text(
        'name = "own"\nquestion = "?"\nreplicates = 1\nconfirms = 1\n[search]\ntrials = 2\n'
        '[[problems]]\ntask = "own_tasks:raises_in_forward"\n'
        "factors = { train_size = 40, epochs = 2, batch_size = 10 }\n"
    )
    assert main([str(spec), *arguments]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "own_tasks.py" in lines[1]
    assert sum("own_tasks.py" in text for text in lines) <= 3
    assert lines[-1].startswith("error: a forward pass and its loss failed for task = 'own_tasks:raises_in_forward'")
    assert sum(text.startswith("error: ") for text in lines) == 1
    assert list(tmp_path.iterdir()) == [spec]


def test_a_failed_record_begins_with_the_users_frames() -> None:
    record = run(job("raises_in_forward"), None, "cpu", "0")
    assert record.status == "failed"
    lines = (record.error or "").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "own_tasks.py" in lines[1]
    assert "trial.py" not in (record.error or "")
    assert "RuntimeError" in lines[-1]


def test_equal_errors_are_shown_once_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    agenda = Agenda(spec_of("raises_in_forward"))
    record = run(job("raises_in_forward"), None, "cpu", "0")
    display = Display(Console(soft_wrap=True), agenda, Tally(agenda), 1, quiet=False)
    for seed in range(5):
        display.finished(record.model_copy(update={"job": record.job.model_copy(update={"seed": seed})}))
    display.close()
    shown = capsys.readouterr().out
    assert shown.count("Traceback") == 1
    assert "5 runs failed with: RuntimeError" in shown


def transformers_like() -> SimpleNamespace:
    """Return a module with the two names that the example takes from transformers."""

    class BertForSequenceClassification(nn.Module):
        def __init__(self, config: SimpleNamespace) -> None:
            super().__init__()
            self.config = config
            self.words = nn.Embedding(config.vocab_size, config.hidden_size)
            self.head = nn.Linear(config.hidden_size, config.num_labels)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            words = self.words(input_ids) * attention_mask[..., None]
            return SimpleNamespace(logits=self.head(words.mean(dim=1)))

    return SimpleNamespace(BertConfig=SimpleNamespace, BertForSequenceClassification=BertForSequenceClassification)


def written(folder: Path, kind: str, before: str = "") -> StudySpec:
    """Write an example, and return its spec at the size of a test."""
    path = folder / f"task_{kind}.py"
    assert new.main([str(path), "--kind", kind]) == 0
    small = path.with_suffix(".toml").read_text()
    for key, value in {"replicates": 2, "confirms": 1, "trials": 2, "factors.epochs": 1}.items():
        assert f"\n{key} = " in small
        small = "\n".join(f"{key} = {value}" if row.startswith(f"{key} = ") else row for row in small.split("\n"))
    return parse_spec(before + small, kind)


@pytest.mark.parametrize("kind", [kind for kind, what in new.KINDS.items() if what.function == "build"])
@pytest.mark.slow
def test_each_example_runs_to_its_end(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    if kind == "transformers":
        monkeypatch.setitem(sys.modules, "transformers", transformers_like())  # type: ignore[arg-type]
    spec = written(tmp_path, kind)
    preflight(spec)
    agenda = Agenda(spec)
    while planned := agenda.next_job():
        agenda.complete(completed(planned))
    assert agenda.finished


@pytest.mark.parametrize("name", ["transformers", "timm"])
def test_real_models_of_others_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "task_transformers", raising=False)  # of the test before, with a stand-in
    if name == "transformers":
        spec = written(tmp_path, "transformers", "probes = true\n")
    else:
        (tmp_path / "with_timm.py").write_text(
            "import timm, torch\n"
            "from study.tasks import classification\n"
            "def build(seed, factors):\n"
            "    model = timm.create_model('test_resnet', num_classes=2, in_chans=1)\n"
            "    x, y = torch.randn(60, 1, 32, 32), torch.arange(60) % 2\n"
            "    return classification(model, (x[:20], y[:20]), (x[20:40], y[20:40]), lambda: (x[40:], y[40:]), "
            "classes=2)\n"
        )
        factors = {"train_size": 20, "epochs": 1, "batch_size": 10}
        spec = spec_of("tensors", probes=True, problems=[{"task": "with_timm:build", "factors": factors}])
    preflight(spec)
    planned = Agenda(spec).next_job()
    assert planned is not None
    for family in ("sam", "m-sam"):
        changes = {"stage": "confirm", "probed": ("last",), "family": family, "rho": 0.05}
        record = completed(planned.model_copy(update=changes))
        assert record.probes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-task.py", "the name of a Python module"),
        ("task.txt", "the name of a Python module"),
        ("class.py", "the name of a Python module"),
        ("json.py", "already"),
        ("nowhere/task.py", "there is no folder"),
    ],
)
def test_a_bad_name_writes_nothing(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert new.main([name]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [kind for kind, what in new.KINDS.items() if what.function == "build"])
def test_an_example_says_what_all_of_its_kind_say(kind: str, tmp_path: Path) -> None:
    """What is said in equal words stands in one place, and in every file that is written."""
    assert new.main([str(tmp_path / "mine_own.py"), "--kind", kind]) == 0
    text = (tmp_path / "mine_own.py").read_text()
    compile(text, "mine_own.py", "exec")
    if kind != "optimizer":
        assert text.count("Put your data and your model in the place of the example's.") == 1
        assert text.count("        seed: Of the run.") == text.count("        factors: The cell's factors") == 1


@pytest.mark.parametrize("taken", ["mine_own.py", "mine_own.toml"])
def test_nothing_is_overwritten(taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / taken).write_text("mine")
    assert new.main([str(tmp_path / "mine_own.py")]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")]


@pytest.mark.slow
def test_an_example_waits_for_nothing_but_the_command_line(tmp_path: Path) -> None:
    """Its module is found in the folder that the command is given in, and its preflight passes there."""

    def command(*arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "run it: python -m study.run the_example.toml" in command("study.new", "the_example.py")
    assert "the_example:build" in command("study.run", "the_example.toml", "--dry-run")
