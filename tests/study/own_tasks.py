"""Own tasks for the tests: one small problem in every form that a user may bring it in."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from study.streams import stream
from study.tasks import Task, classification, next_token, regression
from study.tasks.task import Guess, Metric

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


FORMS = ("tensors", "pairs", "loaders", "tuples", "dicts", "like_huggingface")
OTHERS = ("numbers", "tokens", "tied")


# What users get wrong: each is called by its name in the tests of the preflight.

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


def ignores_its_seed(seed: int, factors: dict[str, Any]) -> Task:
    """The same weights and data for every seed."""
    torch.manual_seed(3)
    return tensors(0, factors)
