"""Own tasks for the tests: one small problem in every form that a user may bring it in."""

import itertools
import os
from collections import namedtuple
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter, itemgetter
from random import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from study.streams import stream
from study.tasks import Guess, Mean, Metric, Task, classification, next_token, regression

TRAIN, VAL, TEST = 40, 30, 30


class Net(nn.Module):
    """Normalization, dropout and two layers over two inputs of a batch."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(6, 16), nn.BatchNorm1d(16)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(16, outputs)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``(n, outputs)``."""
        mixed = self.enter(torch.cat([left, right], dim=1))
        logits: Tensor = self.head(self.dropout(torch.relu(self.norm(mixed))))
        return logits


class Joined(Net):
    """The same net over one tensor."""

    def forward(self, both: Tensor) -> Tensor:  # type: ignore[override]
        """Return ``(n, outputs)``."""
        return super().forward(both[:, :2], both[:, 2:])


class LikeHuggingFace(Net):
    """The same net as models of transformers are: a config, keyword arguments, an output with logits."""

    config = SimpleNamespace(model_type="tiny")

    def forward(self, left: Tensor, right: Tensor) -> Any:
        """Return an output with ``logits``."""
        return SimpleNamespace(logits=super().forward(left, right), hidden_states=None)


class Rows(Dataset[Any]):
    """Examples one by one, as a dict with labels or as a pair."""

    def __init__(self, x: Tensor, y: Tensor, *, pairs: bool = False) -> None:
        self.x, self.y, self.pairs = x, y, pairs

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        if self.pairs:
            return self.x[index], self.y[index]
        return {"left": self.x[index, :2], "right": self.x[index, 2:], "labels": self.y[index]}


def _parts(seed: int) -> list[tuple[Tensor, Tensor]]:
    rng = stream(0, "own data")
    x = torch.from_numpy(rng.standard_normal((TRAIN + VAL + TEST, 6))).float()
    y = (x[:, 0] + x[:, 3] > 0).long() + (x[:, 1] > 0.5).long()
    order = torch.from_numpy(stream(seed, "split").permutation(TRAIN + VAL))
    return [(x[part], y[part]) for part in (order[:TRAIN], order[TRAIN:], slice(TRAIN + VAL, None))]  # type: ignore[index]


def _classification(seed: int, model: nn.Module, form: Any) -> Task:
    train, val, test = (form(*part) for part in _parts(seed))
    return classification(model, train, val, lambda: test, classes=3)


def tensors(seed: int, factors: dict[str, Any]) -> Task:
    """One tensor a batch."""
    return _classification(seed, Joined(), lambda x, y: (x, y))


def pairs(seed: int, factors: dict[str, Any]) -> Task:
    """A dataset of pairs."""
    return _classification(seed, Joined(), lambda x, y: Rows(x, y, pairs=True))


def loaders(seed: int, factors: dict[str, Any]) -> Task:
    """Loaders that shuffle, which the study does instead."""
    return _classification(seed, Joined(), lambda x, y: DataLoader(Rows(x, y, pairs=True), batch_size=7, shuffle=True))


def tuples(seed: int, factors: dict[str, Any]) -> Task:
    """Two tensors a batch, which become two arguments."""
    return _classification(seed, Net(), lambda x, y: ((x[:, :2], x[:, 2:]), y))


def dicts(seed: int, factors: dict[str, Any]) -> Task:
    """Named tensors, which become named arguments."""
    return _classification(seed, Net(), lambda x, y: ({"left": x[:, :2], "right": x[:, 2:]}, y))


class Listed(Joined):
    """The same net over a list with an entry for each example."""

    def forward(self, rows: list[Tensor]) -> Tensor:  # type: ignore[override]
        """Return ``(n, outputs)``."""
        return super().forward(torch.stack(rows))


def _listed(items: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], Tensor]:
    x, y = zip(*items, strict=True)
    return list(x), torch.stack(y)


def lists(seed: int, factors: dict[str, Any]) -> Task:
    """A list of inputs a batch, by a collate function."""
    return _classification(seed, Listed(), lambda x, y: DataLoader(Rows(x, y, pairs=True), collate_fn=_listed))


def entries(seed: int, factors: dict[str, Any]) -> Task:
    """Lists of inputs and of targets, which are made of parts themselves."""

    def stacked(targets: list[dict[str, Tensor]]) -> Tensor:
        return torch.stack([target["class"] for target in targets])

    def form(x: Tensor, y: Tensor) -> Any:
        return list(x), [{"class": of, "name": "an example"} for of in y]

    def right(outputs: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        return (outputs.argmax(1) == stacked(targets)).double().mean()

    def loss(outputs: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        return nn.functional.cross_entropy(outputs, stacked(targets))

    task = _classification(seed, Listed(), form)
    return replace(task, loss=loss, metric=Metric("accuracy", right), classifies=False)


@dataclass
class Both:
    """An output of one's own: ``logits`` are no more than a part of it."""

    logits: Tensor
    size: Tensor


class InParts(Joined):
    """The same net, with an output of several parts."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made

    def forward(self, both: Tensor) -> Any:  # type: ignore[override]
        """Return the logits, and what nobody asks for."""
        logits = super().forward(both)
        return self.made(logits, logits.sum(1))


OUTPUTS: dict[str, tuple[Any, Any]] = {  # what is made of the parts of an output, and what gets the first back
    "a dataclass": (Both, attrgetter("logits")),
    "a tuple": (lambda *parts: parts, itemgetter(0)),
    "a list of parts": (lambda *parts: list(parts), itemgetter(0)),
    "a dict": (lambda logits, size: {"logits": logits, "size": size}, itemgetter("logits")),
    "a named tuple": (namedtuple("Named", ["logits", "size"]), attrgetter("logits")),
    "nested": (lambda logits, size: {"a": (Both(logits, size), None)}, lambda o: o["a"][0].logits),
}


def of_parts(name: str, seed: int, factors: dict[str, Any]) -> Task:
    """Outputs that are a nest, of which loss and metric take the logits."""
    made, logits = OUTPUTS[name]
    task = tensors(seed, factors)
    loss = Mean(
        lambda o, t: nn.functional.cross_entropy(logits(o), t, reduction="sum"),
        len,
        lambda o, t: nn.functional.cross_entropy(logits(o), t),
    )
    metric = Metric("accuracy", lambda o, t: (logits(o).argmax(1) == t).double().mean())
    model = InParts(made)
    model.load_state_dict(task.model.state_dict())
    return replace(task, model=model, loss=loss, metric=metric, classifies=False)


for _name in OUTPUTS:
    globals()[_name.replace(" ", "_")] = partial(of_parts, _name)


class Endless(IterableDataset[Any]):
    """Examples without an end, as the seed says; a ``random`` one says otherwise whenever it is made."""

    def __init__(self, seed: int, *, random: bool = False, count: int = 0) -> None:
        self.rng = np.random.default_rng() if random else stream(seed, "endless")
        self.count = count

    def __iter__(self) -> Any:
        """Yield pairs; of ``count`` and no more, where that is given."""
        for _ in range(self.count) if self.count else itertools.count():
            x = torch.from_numpy(self.rng.standard_normal(6)).float()
            yield x + 0.01 * torch.randn(6) + 0.01 * random(), (x[0] > 0).long()


def endless(seed: int, factors: dict[str, Any]) -> Task:
    """A stream, which also draws from the global generators."""
    return replace(tensors(seed, factors), train=Endless(seed))


def ends(seed: int, factors: dict[str, Any]) -> Task:
    """A stream that begins again in the middle of an epoch."""
    return replace(tensors(seed, factors), train=DataLoader(Endless(seed, count=33)))


def unrepeatable(seed: int, factors: dict[str, Any]) -> Task:
    """A stream of other examples each time."""
    return replace(tensors(seed, factors), train=Endless(seed, random=True))


def like_huggingface(seed: int, factors: dict[str, Any]) -> Task:
    """A dataset of dicts with labels, and a model whose output has logits."""
    return _classification(seed, LikeHuggingFace(), Rows)


def numbers(seed: int, factors: dict[str, Any]) -> Task:
    """A regression."""
    train, val, test = ((x, x.sum(dim=1, keepdim=True)) for x, _ in _parts(seed))
    return regression(Joined(1), train, val, lambda: test, variance=6.0)


def tokens(seed: int, factors: dict[str, Any]) -> Task:
    """Next tokens, some of which don't count."""
    rng = stream(seed, "tokens")

    def part(count: int) -> tuple[Tensor, Tensor]:
        ids = torch.from_numpy(rng.integers(5, size=(count, 7)))
        targets = ids.roll(-1, 1)
        targets[:, -1] = -100
        return ids, targets

    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5))
    return next_token(model, part(TRAIN), part(VAL), lambda: part(TEST), vocabulary=5)


def tied(seed: int, factors: dict[str, Any]) -> Task:
    """A model that uses one matrix twice."""
    task = tokens(seed, factors)
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5))
    model[1].weight = model[0].weight
    return replace(task, model=model)


def drawn(seed: int, factors: dict[str, Any], replicate: int) -> Task:
    """Test data of each replicate's own."""
    x = torch.from_numpy(stream(replicate, "test part").standard_normal((TEST, 6))).float()
    return replace(tensors(seed, factors), test=lambda: (x, (x[:, 0] > 0).long()))


def reads_everything(seed: int, factors: dict[str, Any]) -> Task:
    """A task that asks for each of its factors."""
    assert all(factors[name] == factors[name] for name in factors)
    return tensors(seed, factors)


def walks_away(seed: int, factors: dict[str, Any]) -> Task:
    """A task that leaves the process in another folder."""
    os.chdir("/")
    return tensors(seed, factors)


def draws_its_test_part_from_the_seed(seed: int, factors: dict[str, Any]) -> Task:
    """Test data of each run's own."""
    return drawn(seed, factors, seed)


def keeps_its_test_part(seed: int, factors: dict[str, Any], replicate: int) -> Task:
    """Told the replicate, and makes nothing of it."""
    return tensors(seed, factors)


def raises_in_test(seed: int, factors: dict[str, Any]) -> Task:
    """Test data that are not to be had."""
    return replace(tensors(seed, factors), test=lambda: {}["the test part"])


def raises_in_test_of_replicates(seed: int, factors: dict[str, Any], replicate: int) -> Task:
    """The same, by a task that is told the replicate."""
    return raises_in_test(seed, factors)


def in_units(seed: int, factors: dict[str, Any]) -> Task:
    """A metric in a unit, of which less is better."""
    metric = Metric("error", lambda o, t: (o - t).abs().mean() * 1000, higher_is_better=False, unit="k$")
    return replace(numbers(seed, factors), metric=metric, guess=Guess(6.0, -2000.0))


def needs_a_rare_class(seed: int, factors: dict[str, Any]) -> Task:
    """A metric that a few examples may not have, as the AUROC of a rare class."""
    task = tensors(seed, factors)

    def of(outputs: Tensor, targets: Tensor) -> float:
        if len(targets) < VAL:
            raise ValueError("only one class is present")
        return float((outputs.argmax(1) == targets).double().mean())

    return replace(task, metric=replace(task.metric, of=of))


def needs_a_whole_batch(seed: int, factors: dict[str, Any]) -> Task:
    """A loss of pairs within a batch."""
    task = tensors(seed, factors)
    return replace(task, training_loss=lambda o, t: task.loss(o, t) + o.topk(10, dim=0).values.mean())


FORMS = ("tensors", "pairs", "loaders", "tuples", "dicts", "lists", "like_huggingface")
OTHERS = ("numbers", "tokens", "tied")


# What users get wrong: each is called by its name in the tests of the preflight.

_KEPT_WEIGHT, _TRUNK = nn.Parameter(torch.ones(3, 6)), nn.Linear(6, 4).requires_grad_(False)
_KEPT = Joined()


def raises_in_build(seed: int, factors: dict[str, Any]) -> Task:
    """A division by zero."""
    return tensors(seed, {"share": 1 // 0})


class _Raises(Joined):
    def forward(self, both: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(both[:, :1])


def raises_in_forward(seed: int, factors: dict[str, Any]) -> Task:
    """A shape that does not fit, noticed inside torch."""
    return replace(tensors(seed, factors), model=_Raises())


class _NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        raise RuntimeError("no way back")


def raises_in_backward(seed: int, factors: dict[str, Any]) -> Task:
    """A gradient that can't be had."""
    task = tensors(seed, factors)
    return replace(task, loss=lambda o, t: task.loss(_NoWayBack.apply(o), t))  # type: ignore[no-untyped-call]


def tests_on_nothing(seed: int, factors: dict[str, Any]) -> Task:
    """A test part without examples."""
    task = tensors(seed, factors)
    return replace(task, test=lambda: (torch.empty(0, 6), torch.empty(0, dtype=torch.long)))


def tests_on_no_numbers(seed: int, factors: dict[str, Any]) -> Task:
    """A test part with a number that is none."""
    task = tensors(seed, factors)
    return replace(task, test=lambda: (torch.full((5, 6), float("nan")), torch.zeros(5, dtype=torch.long)))


def exits(seed: int, factors: dict[str, Any]) -> Task:
    """A function that ends the process."""
    raise SystemExit("that's it")


class _Once(Joined):
    """Takes each batch of training once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0.0

    def forward(self, both: Tensor) -> Tensor:  # type: ignore[override]
        """Return ``(n, outputs)``."""
        if self.training:
            total = float(both.sum())
            if total == self.seen:
                raise RuntimeError("the same batch again")
            self.seen = total
        return super().forward(both)


def allows_one_pass(seed: int, factors: dict[str, Any]) -> Task:
    """A model that takes a batch once, and so no second pass at perturbed weights."""
    return replace(tensors(seed, factors), model=_Once())


def scores_nothing(seed: int, factors: dict[str, Any]) -> Task:
    """A metric that is never a number."""
    task = tensors(seed, factors)
    return replace(task, metric=replace(task.metric, of=lambda o, t: o.sum() * float("nan")))


def raises_in_metric(seed: int, factors: dict[str, Any]) -> Task:
    """A metric for another output."""
    task = tensors(seed, factors)

    def top2(outputs: Tensor, targets: Tensor) -> float:
        return float(outputs[0]["logits"])  # type: ignore[call-overload]

    return replace(task, metric=replace(task.metric, of=top2))


def returns_a_model(seed: int, factors: dict[str, Any]) -> Any:
    """No task."""
    return Joined()


def returns_too_few(seed: int, factors: dict[str, Any]) -> Task:
    """Half of the training examples."""
    task = tensors(seed, factors)
    x, y = task.train  # type: ignore[misc]
    return replace(task, train=(x[:20], y[:20]))


def opens_the_test_part(seed: int, factors: dict[str, Any]) -> Task:
    """Test data instead of a function."""
    task = tensors(seed, factors)
    return replace(task, test=task.test())


def has_no_parameters(seed: int, factors: dict[str, Any]) -> Task:
    """Nothing to train."""
    return replace(tensors(seed, factors), model=nn.Flatten())


def loses_the_mean(seed: int, factors: dict[str, Any]) -> Task:
    """A loss for each example."""
    return replace(tensors(seed, factors), loss=nn.CrossEntropyLoss(reduction="none"))


def loses_the_gradient(seed: int, factors: dict[str, Any]) -> Task:
    """A loss that can't be differentiated."""
    return replace(tensors(seed, factors), loss=lambda o, t: (o.argmax(1) != t).double().mean())


def loses_finiteness(seed: int, factors: dict[str, Any]) -> Task:
    """An infinite loss."""
    return replace(tensors(seed, factors), loss=lambda o, t: o.exp().sum() * float("inf"))


def keeps_a_model_that_passes_leave_alone(seed: int, factors: dict[str, Any]) -> Task:
    """One model for all runs, which a forward pass does not give away; its weights lie in copies of one module."""
    task = tensors(seed, factors)
    model = nn.Sequential(nn.Linear(6, 3))
    model[0].weight = _KEPT_WEIGHT
    return replace(task, model=model)


def keeps_a_part_that_is_not_trained(seed: int, factors: dict[str, Any]) -> Task:
    """A frozen trunk that is loaded once, and a new head."""
    return replace(tensors(seed, factors), model=nn.Sequential(_TRUNK, nn.Linear(4, 3)))


def knows_missing_numbers(seed: int, factors: dict[str, Any]) -> Task:
    """Inputs without a number, which the model knows, and targets that don't count."""

    class Knowing(Joined):
        def forward(self, both: Tensor) -> Tensor:
            return super().forward(both.nan_to_num())

    return _changed(replace(tensors(seed, factors), model=Knowing()), "all", number=float("nan"), target=-100)


def _changed(task: Task, part: str, *, number: float | None = None, target: int | None = None) -> Task:
    """Put a number and a target into the last example of a part, which no miniature sees."""

    def of(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = x.clone(), y.clone()
        if number is not None:
            x[-1, 0] = number
        if target is not None:
            y[-1] = target
        return x, y

    train, val, test = (of(*data) for data in (task.train, task.val, task.test()))  # type: ignore[misc]
    changed = {"train": train, "val": val, "test": lambda: test}
    return replace(task, **(changed if part == "all" else {part: changed[part]}))  # type: ignore[arg-type]


def wrong_in(part: str, **what: float) -> Any:
    """Return a task with one wrong example in a part."""
    return lambda seed, factors: _changed(tensors(seed, factors), part, **what)  # type: ignore[arg-type]


train_has_a_class_too_many, val_has_a_class_too_many, test_has_a_class_too_many = (
    wrong_in(part, target=3) for part in ("train", "val", "test")
)
train_lacks_a_class, val_lacks_a_class, test_lacks_a_class = (
    wrong_in(part, target=-1) for part in ("train", "val", "test")
)
train_lacks_a_number, val_lacks_a_number, test_lacks_a_number = (
    wrong_in(part, number=float("nan")) for part in ("train", "val", "test")
)


def keeps_its_model(seed: int, factors: dict[str, Any]) -> Task:
    """One model for all runs, trained on and on."""
    return replace(tensors(seed, factors), model=_KEPT)


def draws_without_a_seed(seed: int, factors: dict[str, Any]) -> Task:
    """Data of another draw each time."""
    task = tensors(seed, factors)
    x, y = task.train  # type: ignore[misc]
    entropy = torch.Generator()
    entropy.seed()
    order = torch.randperm(TRAIN, generator=entropy)
    return replace(task, train=(x[order], y[order]))


def has_a_bare_metric(seed: int, factors: dict[str, Any]) -> Task:
    """A function instead of a metric."""
    return replace(tensors(seed, factors), metric=lambda o, t: 1.0)


def guesses_nothing(seed: int, factors: dict[str, Any]) -> Task:
    """A level of guessing that is no number."""
    return replace(tensors(seed, factors), guess=Guess(float("nan"), 0.3))


def weighs_while_training(seed: int, factors: dict[str, Any]) -> Task:
    """A class-weighted mean that nobody knows of, in training alone."""
    weight = torch.tensor([0.01, 1.0, 100.0])
    return replace(tensors(seed, factors), training_loss=lambda o, t: nn.functional.cross_entropy(o, t, weight=weight))


def loses_the_count(seed: int, factors: dict[str, Any]) -> Task:
    """A mean over tokens, of which nobody knows."""
    task = tokens(seed, factors)
    (ids, targets), counted = task.val, torch.arange(7) < torch.arange(VAL)[:, None] % 7 + 1  # type: ignore[misc]

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    return replace(task, loss=loss, val=(ids, targets.where(counted, -100)))


def ignores_its_seed(seed: int, factors: dict[str, Any]) -> Task:
    """The same weights and data for every seed."""
    torch.manual_seed(3)
    return tensors(0, factors)


# Targets that are no classes while training: the loss of training knows them, loss and metric may not.


def _mixed(batch: Any) -> tuple[Tensor, Any]:
    x, y = (torch.stack(part) for part in zip(*batch, strict=True))
    other, share = torch.randperm(len(x)), torch.rand(())
    return share * x + (1 - share) * x[other], (y, y[other], share)


def _softly(batch: Any) -> tuple[Tensor, Tensor]:
    x, (y, other, share) = _mixed(batch)
    one_hot = nn.functional.one_hot
    return x, share * one_hot(y, 3).float() + (1 - share) * one_hot(other, 3).float()


def _mixture(outputs: Tensor, targets: Any) -> Tensor:
    first, second, share = targets
    cross_entropy = nn.functional.cross_entropy
    return share * cross_entropy(outputs, first) + (1 - share) * cross_entropy(outputs, second)


def mixed(seed: int, factors: dict[str, Any]) -> Task:
    """Mixup with two sets of targets and a share, while training alone."""
    task = pairs(seed, factors)
    return replace(task, train=DataLoader(task.train, collate_fn=_mixed), training_loss=_mixture)  # type: ignore[arg-type]


def softly(seed: int, factors: dict[str, Any]) -> Task:
    """Mixup with probabilities as targets, while training alone."""
    task = pairs(seed, factors)
    return replace(task, train=DataLoader(task.train, collate_fn=_softly))  # type: ignore[arg-type]


def soft_everywhere(seed: int, factors: dict[str, Any]) -> Task:
    """Probabilities as targets of all parts, as in distillation, and a metric of one's own."""
    task = pairs(seed, factors)
    parts = [DataLoader(part, collate_fn=_softly) for part in (task.train, task.val, task.test())]  # type: ignore[arg-type]
    metric = Metric("agreement", lambda o, t: (o.argmax(1) == t.argmax(1)).double().mean())
    return replace(task, train=parts[0], val=parts[1], test=lambda: parts[2], metric=metric)


def named_targets(seed: int, factors: dict[str, Any]) -> Task:
    """Two targets by name: a class and a number."""
    x, y = tensors(seed, factors).train  # type: ignore[misc]
    held = tensors(seed, factors)

    def both(part: Any) -> Any:
        return part[0], {"class": part[1], "sum": part[0].sum(1)}

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        number = nn.functional.mse_loss(outputs[:, 3], targets["sum"])
        return nn.functional.cross_entropy(outputs[:, :3], targets["class"]) + number

    metric = Metric("hits", lambda o, t: (o[:, :3].argmax(1) == t["class"]).double().mean())
    return replace(
        held, model=Joined(4), train=both((x, y)), val=both(held.val), test=lambda: both(held.test()), loss=loss,
        metric=metric,
    )  # fmt: skip


def ranked(seed: int, factors: dict[str, Any]) -> Task:
    """A metric that few examples may be too few for."""

    def area(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) < VAL:
            raise ValueError("only one class present")
        first = targets == 0
        return (outputs[first, 0][:, None] > outputs[~first, 0][None]).double().mean()

    return replace(tensors(seed, factors), metric=Metric("area", area))


TARGETS = ("mixed", "softly", "soft_everywhere", "named_targets", "ranked")


def reads_late(seed: int, factors: dict[str, Any]) -> Task:
    """A factor that only the loss reads."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs * factors["hidden"], targets)

    return replace(tensors(seed, factors), loss=loss)


def guesses_upwards(seed: int, factors: dict[str, Any]) -> Task:
    """A level of guessing that is the metric, where less is better, and not the score."""
    return replace(in_units(seed, factors), guess=Guess(6.0, 2000.0))


def of_torchmetrics(seed: int, factors: dict[str, Any]) -> Task:
    """A metric of torchmetrics, as it is."""
    from torchmetrics.classification import MulticlassJaccardIndex  # noqa: PLC0415  # which not everybody has

    return replace(tensors(seed, factors), metric=Metric("IoU", MulticlassJaccardIndex(3), unit="fraction"))
