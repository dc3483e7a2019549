"""A loop for `python -m study.run`: a Lightning module and its Trainer (`pip install lightning`).

Put your module and your data in the place of the example's. The study calls ``run`` once a run.
"""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Sampler, TensorDataset

from study.streams import stream
from study.tasks import LoopMetric, Trial

metric = LoopMetric("accuracy", guess=0.5, unit="fraction")  # what is reported; a run that diverges counts as guess
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
INPUTS, CLASSES = make_moons(1100, noise=0.3, random_state=0)


class Module(lightning.LightningModule):
    """A classifier under Lightning's automatic optimization: WASAM calls the closure that Lightning hands it."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        hidden = int(trial.factors["hidden"])
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 2)
        self.trial = trial
        # Examples that went forward and backward; no buffer, as a perturbed pass leaves buffers as they were.
        self.seen = 0

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the method; it has to know of gradients that are accumulated."""
        every = int(self.trial.factors["gradient_accumulation_steps"])
        optimizer = self.trial.build_optimizer(self, gradient_accumulation_steps=every)
        if not isinstance(optimizer, torch.optim.Optimizer):  # one that is neither built in nor perturbed, as it is
            optimizer = optimizer.base_optimizer
        factor, epochs = self.trial.schedule, self.trial.epochs  # of the method, or factors.schedule
        return [optimizer], [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: factor(min(1.0, epoch / epochs)))
        ]

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        x, y = batch
        self.seen += len(x)  # SAM goes through it twice
        return cross_entropy(self.head(self.net(x)), y)

    def validation_step(self, batch: Any, index: int) -> None:
        outputs = self.head(self.net(batch[0]))
        self.log("accuracy", (outputs.argmax(1) == batch[1]).float().mean(), batch_size=len(outputs))
        self.log("loss", cross_entropy(outputs, batch[1]), batch_size=len(outputs))

    test_step = validation_step


class Order(Sampler[int]):
    """The order of the examples, a new one every epoch, the same for all methods; Lightning tells it the epoch."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size, self.epoch = seed, size, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(stream(self.seed, f"order of epoch {self.epoch}").permutation(self.size).tolist())

    def __len__(self) -> int:
        return self.size


class Reports(lightning.Callback):
    """Reports after every epoch, keeps the best checkpoint, and saves all that a lost run needs to go on."""

    def __init__(self, trial: Trial, module: Module) -> None:
        self.trial, self.module, self.averages = trial, module, trial.build_averages(module)
        self.best_val, self.best = -1.0, dict[str, torch.Tensor]()

    def report(self, weights: str, epoch: int, found: Any) -> float:
        val, loss, seen = float(found["accuracy"]), float(found["loss"]), self.module.seen
        self.trial.report(weights=weights, epoch=epoch, val=val, val_loss=loss, gradient_evaluations=seen)
        return val

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        epoch = trainer.current_epoch
        self.averages.update(epoch + 1)
        if (val := self.report("last", epoch, trainer.callback_metrics)) >= self.best_val:
            self.best_val, self.best = val, {name: value.clone() for name, value in module.state_dict().items()}
            self.report("best", epoch, trainer.callback_metrics)

        def state() -> bytes:
            with TemporaryDirectory() as folder:
                trainer.save_checkpoint(Path(folder) / "run.ckpt")
                return (Path(folder) / "run.ckpt").read_bytes()

        self.trial.save(state)

    def state_dict(self) -> dict[str, Any]:
        own = {"best_val": self.best_val, "best": self.best, "seen": self.module.seen}
        return own | {"averages": self.averages.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.averages.load_state_dict(state_dict["averages"])
        self.best_val, self.best, self.module.seen = (state_dict[name] for name in ("best_val", "best", "seen"))


def run(trial: Trial) -> None:
    """Train one module, report how its weights do on validation, and test those that validation prefers."""
    size, batch = int(trial.factors["train_size"]), int(trial.factors["batch_size"])
    data = TensorDataset(torch.tensor(INPUTS, dtype=torch.float32), torch.tensor(CLASSES))
    mine = stream(trial.replicate, "test part").permutation(1100)  # each replicate has a test part of its own
    rest = mine[stream(trial.seed, "split").permutation(600)]
    val, test, train = (torch.utils.data.Subset(data, rows.tolist()) for rows in (rest[:400], mine[600:], rest[400:]))
    loader = DataLoader(train, batch, sampler=Order(trial.seed, size), drop_last=True)
    module = Module(trial)
    reports = Reports(trial, module)
    trainer = lightning.Trainer(
        max_epochs=trial.epochs,
        accumulate_grad_batches=int(trial.factors["gradient_accumulation_steps"]),
        accelerator="cpu" if trial.device == "cpu" else "gpu", devices=1,
        limit_val_batches=1 if trial.miniature else 1.0,
        callbacks=[reports], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        if trial.saved:
            (Path(folder) / "run.ckpt").write_bytes(trial.saved)
        trainer.fit(module, loader, DataLoader(val, 100), ckpt_path=Path(folder) / "run.ckpt" if trial.saved else None)
    for name in trial.averages:  # such as swa@0.75: empty, unless somebody reads them
        with reports.averages.average_parameters(name):
            (found,) = trainer.validate(module, DataLoader(val, 100), verbose=False)
            reports.report(name, trial.epochs - 1, found)
    if trial.stage == "confirm":  # one test, of the weights that validation prefers in this run
        if (chosen := trial.chosen) == "best":
            module.load_state_dict(reports.best)
        with reports.averages.average_parameters(chosen) if chosen in trial.averages else nullcontext():
            (found,) = trainer.test(module, DataLoader(test, 100), verbose=False)
        trial.report(weights=chosen, test=found["accuracy"], test_loss=found["loss"])
