"""The training loop itself, without a run around it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from study.specs.schedules import schedule_of
from study.tasks.examples import examples_of
from study.training.train import Draws, Recipe, train
from wasam_core import WASAM, WeightAverages
from wasam_core.verdicts import Verdict


class _Counting(WeightAverages):
    """Averages that count how often they are told of a step."""

    told = 0

    def update_step(self, updated: Verdict = True) -> None:
        self.told += bool(updated)
        super().update_step(updated)


def test_a_step_that_is_skipped_is_fed_to_no_average() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    averages = _Counting(model, max_epochs=2, ema_decays=(0.5,))
    optimizer = WASAM(model.named_parameters(), torch.optim.SGD, rho=0.0, lr=0.1, model=model)
    seen = []

    def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(len(targets))
        scale = math.inf if len(seen) == 3 else 1.0  # one batch of eight has no finite gradient
        return (scale * (outputs - targets)).square().mean()

    examples = examples_of((torch.randn(16, 2), torch.randn(16, 1)), "train")
    recipe = Recipe(2, 4, 0.1, schedule_of("constant", 0.0), loss_of)
    for _ in train(model, optimizer, averages, examples, recipe, Draws(0)):
        pass
    assert optimizer.cost.skipped == 1
    assert averages.told == len(seen) - 1


class _Reads(TorchDispatchMode):
    """Count how often the host reads a value of a tensor."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "equal", "is_nonzero", "nonzero")
        return func(*args, **(kwargs or {}))


def _reads(monkeypatch: pytest.MonkeyPatch, batch_size: int) -> list[int]:
    """Return the reads of each epoch where tensors are treated like those of an accelerator."""
    monkeypatch.setattr("wasam_core.verdicts.LOOKED_AT", frozenset())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 3))
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=3, ema_decays=(0.5, 0.9), lawa_windows=(2,))
    optimizer = WASAM(
        model.named_parameters(), torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9, clip_norm=1.0, model=model
    )
    examples = examples_of((torch.randn(32, 2), torch.arange(32) % 3), "train")
    recipe = Recipe(3, batch_size, 0.1, schedule_of("cosine", 0.1), functional.cross_entropy)
    found = []
    tolist = Tensor.tolist
    with _Reads() as reads:

        def counted_tolist(tensor: Tensor) -> Any:  # on the CPU no call of torch's own tells of it
            reads.count += 1
            return tolist(tensor)

        monkeypatch.setattr(Tensor, "tolist", counted_tolist)
        for _ in train(model, optimizer, averages, examples, recipe, Draws(0)):
            found.append(reads.count)
            reads.count = 0
    monkeypatch.undo()
    return found


def test_an_epoch_is_read_back_once_however_many_steps_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _reads(monkeypatch, 4) == _reads(monkeypatch, 16) == [1, 1, 1]
