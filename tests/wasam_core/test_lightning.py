"""Lightning's trainer, with its own steps and with the loop's own, in each of its precisions."""

import logging
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from wasam_core import WASAM, WeightAverages, recalibrate_batchnorm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("lightning") is None, reason="needs lightning: pip install -e '.[test]'"),
]
DTYPES = {"32-true": torch.float32, "64-true": torch.float64, "bf16-true": torch.bfloat16, "bf16-mixed": torch.float32}
SGD = {"lr": 0.05, "momentum": 0.9}


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 1))


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    return TensorDataset(torch.randn(24, 4, generator=generator), torch.randn(24, 1, generator=generator))


@cache
def module_class() -> Any:
    """Return the module to train; whoever collects tests does not wait for Lightning's imports."""
    import lightning  # noqa: PLC0415

    class Module(lightning.LightningModule):
        """A regression, trained by Lightning's own steps or by those of the loop."""

        def __init__(self, *, automatic: bool, **options: Any) -> None:
            super().__init__()
            self.automatic_optimization = automatic
            self.net, self.options = net(), options
            self.validated: list[float] = []

        def configure_optimizers(self) -> WASAM:
            return WASAM(self.net.parameters(), torch.optim.SGD, rho=0.3, model=self.net, **SGD, **self.options)

        def loss(self, batch: Any) -> torch.Tensor:
            x, y = (t.to(next(self.parameters()).dtype) for t in batch)
            return mse_loss(self.net(x), y)

        def on_train_batch_start(self, batch: Any, index: int) -> None:
            torch.manual_seed(10 * self.current_epoch + index)  # the trainer draws between batches, too

        def training_step(self, batch: Any, index: int) -> torch.Tensor | None:
            if self.automatic_optimization:
                return self.loss(batch)

            def closure() -> torch.Tensor:
                loss = self.loss(batch)
                self.manual_backward(loss)
                return loss

            self.optimizers().step(closure=closure)
            return None

        def on_fit_start(self) -> None:
            self.averages = WeightAverages(self.net, swa_starts=(0.0,), max_epochs=2)

        def on_validation_epoch_end(self) -> None:
            """Take the weights in and evaluate their average, in Lightning's inference mode."""
            self.averages.update(self.current_epoch + 1)
            modes = [module.training for module in self.net.modules()]
            with self.averages.average_parameters("swa@0.0"):
                recalibrate_batchnorm(self.net, DataLoader(data(), 8), forward_fn=lambda model, batch: self.loss(batch))
                self.validated.append(float(self.loss(data()[:])))
            assert [module.training for module in self.net.modules()] == modes

        def validation_step(self, batch: Any, index: int) -> None:
            self.loss(batch)

    return Module


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # its advice on workers and loggers
        yield


def fitted(module: Any, **options: Any) -> Any:
    import lightning  # noqa: PLC0415

    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data(), 8), DataLoader(data(), 24))
    return module


def plainly(precision: str) -> tuple[nn.Module, list[float]]:
    """Train the same in a loop of one's own."""
    model = net().to(DTYPES[precision])
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.3, model=model, **SGD)
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=2)
    validated = []

    def loss_of(batch: Any, mixed: bool = False) -> torch.Tensor:
        x, y = (t.to(DTYPES[precision]) for t in batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            return mse_loss(model(x), y)

    for epoch in (1, 2):
        for index, batch in enumerate(DataLoader(data(), 8)):
            torch.manual_seed(10 * (epoch - 1) + index)

            def closure(batch: Any = batch) -> torch.Tensor:
                loss = loss_of(batch, precision == "bf16-mixed")
                loss.backward()
                return loss

            optimizer.step(closure)
        averages.update(epoch)
        with averages.average_parameters("swa@0.0"), torch.no_grad():
            recalibrate_batchnorm(model, DataLoader(data(), 8), forward_fn=lambda _, batch: loss_of(batch))
            model.eval()
            validated.append(float(loss_of(data()[:])))
            model.train()
    return model, validated


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("automatic", [True, False])
def test_the_trainer_takes_the_steps_of_a_plain_loop(automatic: bool, precision: str) -> None:
    module = fitted(module_class()(automatic=automatic), precision=precision)
    model, validated = plainly(precision)
    for a, b in zip(module.net.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert module.validated == validated


@pytest.mark.parametrize("automatic", [True, False])
def test_a_scaler_of_the_trainers_own_is_refused(automatic: bool) -> None:
    from lightning.pytorch.plugins import MixedPrecision  # noqa: PLC0415

    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    module = module_class()(automatic=automatic)
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.raises(RuntimeError, match=r"step\(\) needs a closure"):
        fitted(module, plugins=[scaled])
    assert all(map(torch.equal, before, module.parameters()))


def test_accumulation_is_refused_until_the_optimizer_is_told_of_it() -> None:
    with pytest.raises(RuntimeError, match="gradient_accumulation_steps"):
        fitted(module_class()(automatic=True), accumulate_grad_batches=3)
    module = fitted(module_class()(automatic=True, gradient_accumulation_steps=3), accumulate_grad_batches=3)
    assert module.trainer.optimizers[0].cost.steps == 2
