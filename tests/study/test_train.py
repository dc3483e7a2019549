"""The training loop itself, without a run around it."""

import math

import torch
from torch import Tensor, nn

from study.specs.schedules import schedule_of
from study.tasks.examples import examples_of
from study.training.train import Draws, Recipe, train
from wasam_core import WASAM, WeightAverages


class _Counting(WeightAverages):
    """Averages that count how often they are told of a step."""

    told = 0

    def update_step(self) -> None:
        self.told += 1
        super().update_step()


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
