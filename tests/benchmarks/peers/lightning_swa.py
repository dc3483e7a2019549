"""The problem with Lightning and `torch.optim.swa_utils`: its loop, its loaders, two processes side by side.

Lightning's own callback for SWA sets a learning rate of its own; the average is kept in a hook instead, so that all
peers train with the same rates. SAM needs two passes, so its module steps by hand.
"""

import logging
import math
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import lightning
import torch
from benchmarks.peers.problem import (
    BATCH,
    EPOCHS,
    MOMENTUM,
    WEIGHT_DECAY,
    Configuration,
    Problem,
    Scores,
    accuracy,
    problem_of,
    solve,
)  # fmt: skip
from pytorch_optimizer import SAM
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(lightning.LightningModule):
    """The net, its optimizer and its average."""

    def __init__(self, problem: Problem, configuration: Configuration) -> None:
        super().__init__()
        self.net, self.wanted = problem.model, configuration
        self.average = AveragedModel(self.net)
        self.automatic_optimization = configuration.rho == 0

    def configure_optimizers(self) -> Any:
        options = {"lr": self.wanted.learning_rate, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
        if self.automatic_optimization:
            return torch.optim.SGD(self.net.parameters(), **options)
        return SAM(self.net.parameters(), torch.optim.SGD, rho=self.wanted.rho, **options)

    def training_step(self, batch: Any, index: int) -> Tensor:
        x, y = batch
        done = (self.current_epoch + index / self.trainer.num_training_batches) / EPOCHS
        optimizer = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self.wanted.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        loss = functional.cross_entropy(self.net(x), y)
        if not self.automatic_optimization:
            self.manual_backward(loss)

            def closure() -> Tensor:
                second = functional.cross_entropy(self.net(x), y)
                self.manual_backward(second)
                return second

            optimizer.step(closure=closure)
            optimizer.zero_grad()
        return loss

    def on_train_epoch_end(self) -> None:
        if self.current_epoch + 1 >= int(self.wanted.average_start * EPOCHS):
            self.average.update_parameters(self.net)

    def validation_step(self, batch: Any, index: int) -> None:
        x, y = batch
        self.log("val", (self.net(x).argmax(1) == y).float().mean())


def fit(wanted: tuple[Configuration, int]) -> Scores:
    """Train one configuration and score its last and its averaged weights."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    configuration, seed = wanted
    problem = problem_of(configuration, seed)
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(*problem.train), BATCH, shuffle=True, drop_last=True, generator=order)
    module = Classifier(problem, configuration)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader, DataLoader(TensorDataset(*problem.val), 1000))
    update_bn(DataLoader(TensorDataset(*problem.train), BATCH), module.average)
    nets = {"last": module.net, "average": module.average.module}
    val = {name: accuracy(net, problem.val) for name, net in nets.items()}
    test = {name: accuracy(net, problem.test) for name, net in nets.items()}
    return Scores(val["last"], val["average"], test["last"], test["average"])


def sweep(wanted: list[tuple[Configuration, int]]) -> list[Scores]:
    """Train a list of configurations, two side by side, and return their scores in its order."""
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(fit, wanted))


if __name__ == "__main__":
    solve(sweep)
