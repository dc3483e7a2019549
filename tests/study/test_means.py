"""Losses and metrics of a split are means over what they are means of, however its examples are cut and ordered."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from study.data import TaskError
from study.tasks import Guess, Mean, Metric, Task, over_examples
from study.tasks.adapted import by_number, numbered
from study.tasks.examples import examples_of
from study.tasks.means import mean_of
from study.tasks.task import ACCURACY, accuracy, classification, token_cross_entropy
from study.training import scores
from study.training.measure import Evaluator, put_together
from study.training.scores import OfMean, OfWhole, sum_of
from study.training.train import Draws, Recipe, take_step, train
from wasam_core import WASAM, WeightAverages
from wasam_core.probes.surface import LossSurface

N, CLASSES, LENGTH = 23, 4, 5
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.0])


def classes(rng: torch.Generator) -> Tensor:
    return torch.randint(CLASSES, (N,), generator=rng)


def padded(rng: torch.Generator) -> Tensor:
    """Sequences of all lengths, some of none."""
    targets = torch.randint(CLASSES, (N, LENGTH), generator=rng)
    targets[torch.arange(LENGTH) >= torch.randint(LENGTH + 1, (N, 1), generator=rng)] = -100
    targets[0, 0] = 1
    return targets


def masked(rng: torch.Generator) -> Tensor:
    targets = padded(rng)
    return targets.where(targets >= 0, 255)


def soft(rng: torch.Generator) -> Tensor:
    return torch.rand(N, CLASSES, generator=rng).softmax(1)


def numbers(rng: torch.Generator) -> Tensor:
    return torch.rand(N, CLASSES, generator=rng)


def of_positions(outputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
    return functional.cross_entropy(outputs.transpose(1, 2), targets, **options)


# Each loss as its owner gives it, its targets, and torch's own mean of the whole split.
LOSSES: dict[str, tuple[Any, Callable[[torch.Generator], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "function": (functional.cross_entropy, classes, functional.cross_entropy),
    "weighted": (nn.CrossEntropyLoss(weight=WEIGHT), classes, partial(functional.cross_entropy, weight=WEIGHT)),
    "weighted and smoothed": (
        partial(functional.cross_entropy, weight=WEIGHT, label_smoothing=0.2), classes,
        partial(functional.cross_entropy, weight=WEIGHT, label_smoothing=0.2),
    ),
    "ignored class": (
        nn.CrossEntropyLoss(ignore_index=2), classes, partial(functional.cross_entropy, ignore_index=2)
    ),
    "soft": (functional.cross_entropy, soft, functional.cross_entropy),
    "log-likelihood": (nn.NLLLoss(weight=WEIGHT), classes, partial(functional.nll_loss, weight=WEIGHT)),
    "tokens": (token_cross_entropy, padded, of_positions),
    "pixels": (
        Mean(partial(of_positions, ignore_index=255, reduction="sum"), lambda targets: (targets != 255).sum()), masked,
        partial(of_positions, ignore_index=255),
    ),
    "squares": (nn.MSELoss(), numbers, functional.mse_loss),
    "huber": (partial(functional.huber_loss, delta=0.3), numbers, partial(functional.huber_loss, delta=0.3)),
    "multi-label": (
        nn.BCEWithLogitsLoss(pos_weight=WEIGHT), numbers,
        partial(functional.binary_cross_entropy_with_logits, pos_weight=WEIGHT),
    ),
    "own": (lambda o, t: (o - t).abs().mean(), numbers, functional.l1_loss),
}  # fmt: skip


def drawn(name: str, seed: int) -> tuple[Any, Tensor, Tensor, Tensor]:
    """Return a loss, outputs, targets and the mean over the whole split."""
    loss, targets_of, whole = LOSSES[name]
    rng = torch.Generator().manual_seed(seed)
    targets = targets_of(rng)
    shape = (*targets.shape, CLASSES) if targets.dtype == torch.int64 else targets.shape
    outputs = 3 * torch.randn(shape, generator=rng)
    return loss, outputs, targets, whole(outputs, targets)


@pytest.mark.parametrize("name", LOSSES)
@given(size=st.integers(1, N), seed=st.integers(0, 50))
def test_a_mean_over_a_split_does_not_depend_on_its_batches(name: str, size: int, seed: int) -> None:
    loss, outputs, targets, whole = drawn(name, seed)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    added = OfMean(mean_of(loss))
    for chosen in order.split(size):
        added.update(outputs[chosen], targets[chosen])
    assert added.result() == pytest.approx(float(whole), rel=1e-5)
    assert float(mean_of(loss)(outputs, targets)) == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("size", [1, 4, 7, N])
@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_give_the_step_of_one_batch(name: str, size: int) -> None:
    """With a radius that hardly moves anything, the average over micro-batches is the gradient of the whole batch."""
    loss, inputs, targets, _ = drawn(name, 3)

    def stepped(m: int | None, loss_of: Any) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(CLASSES, CLASSES)
        optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=1e-7, lr=1.0, m=m, model=model)
        found = take_step(model, optimizer, inputs, targets, loss_of)
        return found, torch.cat([p.detach().flatten() for p in model.parameters()])

    wanted, weights = stepped(None, LOSSES[name][2])
    clean, found = stepped(size, loss)
    assert clean == pytest.approx(float(wanted), rel=1e-5)
    torch.testing.assert_close(found, weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "own"])
def test_a_probe_sees_the_mean_of_all_batches(name: str) -> None:
    loss, inputs, targets, _ = drawn(name, 5)
    model = nn.Linear(CLASSES, CLASSES)
    batches = list(examples_of((inputs, targets), "train").batches(4))
    with numbered(model, batches) as (tensors,):
        found = LossSurface(model, by_number(loss, batches), tensors).loss
    assert found == pytest.approx(LOSSES[name][2](model(inputs), targets).item(), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: functional.cross_entropy(o.flatten(0, 1), t.flatten()),
        nn.CrossEntropyLoss(reduction="sum"),
        lambda o, t: (o.sum() ** 2).sqrt(),
        lambda o, t: functional.cross_entropy(o.flatten(0, 1), t.flatten(), reduction="sum") / 10,
    ],
)
def test_a_loss_that_is_no_mean_over_examples_is_refused_in_one_sentence(loss: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    targets = padded(rng)
    outputs = torch.randn(N, LENGTH, CLASSES, generator=rng)
    if isinstance(loss, nn.CrossEntropyLoss):
        outputs, targets = outputs[:, 0], targets[:, 0].clamp(min=0)
    added = OfMean(mean_of(loss))
    with pytest.raises(TaskError, match=r"Mean\(total, count\)"):
        added.update(outputs, targets)
    OfMean(over_examples(loss)).update(outputs, targets)  # on its owner's word


def test_outputs_that_torch_would_broadcast_are_refused() -> None:
    with pytest.raises(TaskError, match="make them equal"):
        mean_of(functional.mse_loss)(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(TaskError, match="whole number"):
        sum_of(ACCURACY, keep=False).update(torch.zeros(2, 2), torch.zeros(2, 2))


def test_a_batch_without_a_token_that_counts_moves_nothing_and_ends_nothing() -> None:
    ids = torch.randint(3, (8, LENGTH), generator=torch.Generator().manual_seed(0))
    targets = ids.clone()
    targets[4:] = -100
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 3))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=0.1, model=model)
    assert float(take_step(model, optimizer, ids[4:], targets[4:], token_cross_entropy)) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    recipe = Recipe(2, 4, 0.1, lambda share: 1.0, token_cross_entropy)
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=2)
    losses = [*train(model, optimizer, averages, examples_of((ids, targets), "train"), recipe, Draws(0))]
    assert all(0 < loss < 2 for loss in losses)
    assert optimizer.cost.skipped == 0


def test_a_batch_without_a_class_that_counts_is_left_out_of_an_epoch() -> None:
    """torch's own mean of nothing is no number: the step is skipped, and the run goes on."""
    inputs = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 0, 1, -100, -100, -100, -100])
    model = nn.Linear(2, 2)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=0.1, model=model)
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=3)
    recipe = Recipe(3, 2, 0.1, lambda share: 1.0, functional.cross_entropy)
    data = examples_of((inputs, targets), "train")
    found = [*train(model, optimizer, averages, data, recipe, Draws(3))]
    assert all(0 < loss < 3 for loss in found)
    assert all(p.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        expected = functional.cross_entropy(model(inputs), targets)
    task = Task(model, data, data, lambda: data, functional.cross_entropy, ACCURACY, Guess(1.0, 0.5))  # type: ignore[arg-type]
    assert Evaluator(model, task, batch_size=2).evaluate(data).loss == pytest.approx(expected.item(), rel=1e-6)


# Metrics as functions of a whole split: some are means over examples, some only look like it for a while.


def rank(outputs: Tensor, targets: Tensor) -> Tensor:
    """The area under the ROC curve of class 0."""
    scores, first = outputs[:, 0], targets == 0
    if first.all() or not first.any():
        raise ValueError("one class alone")
    return (scores[first][:, None] > scores[~first][None]).double().mean()


def recall(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean recall of the classes that are there."""
    right = (outputs.argmax(1) == targets).double()
    return torch.stack([right[targets == c].mean() for c in targets.unique()]).mean()


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "accuracy": lambda o, t: (o.argmax(1) == t).double().mean(),
    "likelihood": lambda o, t: float(o.softmax(1).double().gather(1, t[:, None]).mean()),
    "rank": rank,
    "recall": recall,
    "worst": lambda o, t: (o.argmax(1) == t).double().min(),
    "root": lambda o, t: (o.double() - t[:, None]).square().mean().sqrt(),
    "constant": lambda o, t: 1.0,
    "hits": lambda o, t: (o.argmax(1) == t).sum(),
    "median": lambda o, t: o.double().median(),
}


@pytest.mark.parametrize("order", ["drawn", "sorted", "right first"])
@pytest.mark.parametrize("size", [2, 5, N])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_a_split_has_its_value_though_outputs_are_forgotten(
    name: str, size: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "_LARGE", 0)
    rng = torch.Generator().manual_seed(1)
    targets = classes(rng)
    outputs = torch.randn(N, CLASSES, generator=rng) + 2 * functional.one_hot(targets, CLASSES)
    if order != "drawn":
        key = targets if order == "sorted" else (outputs.argmax(1) != targets).long()
        outputs, targets = outputs[key.argsort()], targets[key.argsort()]
    data = (outputs, targets)
    metric = Metric(name, FUNCTIONS[name])
    task = Task(nn.Linear(1, 1), data, data, lambda: data, functional.cross_entropy, metric, Guess(1.0, 0.0))
    found = Evaluator(nn.Identity(), task, batch_size=size).evaluate(examples_of(data, "val")).score
    assert found == pytest.approx(float(FUNCTIONS[name](outputs, targets)), rel=1e-9)


def test_means_are_forgotten_and_others_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_LARGE", 0)
    rng = torch.Generator().manual_seed(1)
    outputs, targets = torch.randn(40, CLASSES, generator=rng), torch.randint(CLASSES, (40,), generator=rng)
    held = {}
    for name in ("likelihood", "root"):
        added = OfWhole(Metric(name, FUNCTIONS[name]), keep=False)
        for batch in range(0, 40, 8):
            added.update(outputs[batch : batch + 8], targets[batch : batch + 8])
        held[name] = len(added._kept)
    assert held == {"likelihood": 0, "root": 5}


class Counter:
    """A metric as torchmetrics has them."""

    def reset(self) -> None:
        self.right = self.total = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.right += int((outputs.argmax(1) == targets).sum())
        self.total += len(targets)

    def compute(self) -> float:
        return self.right / self.total


@pytest.mark.parametrize("of", [accuracy, Counter(), FUNCTIONS["accuracy"]])
def test_a_metric_is_the_same_in_every_form(of: Any) -> None:
    rng = torch.Generator().manual_seed(2)
    outputs, targets = data = torch.randn(N, CLASSES, generator=rng), classes(rng)
    for metric in (Metric("hits", of), Metric("hits", of, higher_is_better=False)):
        task = Task(nn.Linear(1, 1), data, data, lambda: data, functional.cross_entropy, metric, Guess(1.0, 0.0))
        found = [
            Evaluator(nn.Identity(), task, batch_size=size).evaluate(examples_of(data, "val")).score for size in (3, 50)
        ]
        sign = 1 if metric.higher_is_better else -1
        assert found == pytest.approx([sign * float(FUNCTIONS["accuracy"](outputs, targets))] * 2)


@given(right=st.integers(0, 900), size=st.integers(1, 1000))
def test_an_accuracy_is_a_share_to_the_last_bit(right: int, size: int) -> None:
    """Equal accuracies of two methods are equal numbers, however their hits are spread over batches."""
    targets = torch.zeros(900, dtype=torch.int64)
    outputs = functional.one_hot((torch.randperm(900) >= right).long(), 2).float()
    data = (outputs, targets)
    task = Task(nn.Linear(1, 1), data, data, lambda: data, functional.cross_entropy, ACCURACY, Guess(1.0, 0.0))
    assert Evaluator(nn.Identity(), task, batch_size=size).evaluate(examples_of(data, "val")).score == right / 900


def test_batches_that_do_not_fit_together_are_told_apart_from_those_that_need_not() -> None:
    """A collate function pads each batch to its own length; only a function of the whole split minds."""
    rows = [(torch.arange(length), torch.arange(length)) for length in (2, 3, 5, 4)]

    def pad(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        inputs, targets = zip(*batch, strict=True)
        fill = nn.utils.rnn.pad_sequence
        return fill(list(inputs), True), fill(list(targets), True, padding_value=-100)

    loader = DataLoader(rows, batch_size=2, collate_fn=pad)  # type: ignore[arg-type]
    task = Task(
        nn.Embedding(6, 6), loader, loader, lambda: loader, token_cross_entropy, Metric("hits", accuracy),
        Guess(1.0, 0.0), classifies=True,
    )  # fmt: skip
    found = Evaluator(task.model, task).evaluate(examples_of(loader, "val"))
    assert found.calibration_error is not None
    assert 0 <= found.calibration_error <= 1
    whole = replace(task, metric=Metric("hits", lambda o, t: (o.argmax(2) == t).double().mean()))
    with pytest.raises(TaskError, match="don't fit together"):
        Evaluator(task.model, whole).evaluate(examples_of(loader, "val"))


@pytest.mark.parametrize(("given", "size"), [(None, 4), (1, 4), (3, 3)])
def test_an_evaluation_takes_as_many_examples_at_a_time_as_its_owner(given: int | None, size: int) -> None:
    data = TensorDataset(torch.zeros(10, 2), torch.zeros(10, dtype=torch.int64))
    part: Any = data if given is None else DataLoader(data, batch_size=given)
    seen: list[int] = []

    class Net(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(len(inputs))
            return inputs

    task = Task(Net(), part, part, lambda: part, functional.cross_entropy, ACCURACY, Guess(1.0, 0.5))
    Evaluator(task.model, task, batch_size=4).evaluate(examples_of(part, "val"))
    assert max(seen) == size
    seen.clear()
    Evaluator(task.model, replace(task, evaluation_batch=10), batch_size=4).evaluate(examples_of(part, "val"))
    assert seen == [10]


@pytest.mark.parametrize(
    ("wanted", "width", "sizes"), [(0, 3, [4] * 5), (7, 3, [8, 8, 4]), (99, 3, [20]), (99, 2**17, [4] * 5)]
)
def test_loss_and_metric_see_small_outputs_together(wanted: int, width: int, sizes: list[int]) -> None:
    """As many batches as make the wanted number of examples, or till they are large; all in order, whatever it is."""
    rng = torch.Generator().manual_seed(5)
    batches = [(torch.randn(4, width, generator=rng), torch.arange(4) + 4 * number) for number in range(5)]
    found = list(put_together(iter(batches), wanted))
    assert [len(targets) for _, targets in found] == sizes
    for part in (0, 1):
        assert torch.equal(torch.cat([pair[part] for pair in found]), torch.cat([pair[part] for pair in batches]))


def test_what_is_put_together_changes_no_number() -> None:
    rng = torch.Generator().manual_seed(6)
    part = torch.randn(50, 3, generator=rng), torch.randint(3, (50,), generator=rng)
    task = classification(nn.Identity(), part, part, lambda: part, classes=3)
    alone, together = (
        Evaluator(task.model, replace(task, evaluation_batch=7, metric_batch=size)).evaluate(examples_of(part, "val"))
        for size in (0, 20)
    )
    assert together == pytest.approx(alone, rel=1e-6)
    assert together.score == alone.score == accuracy(*part)
