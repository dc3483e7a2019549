"""A loop for `python -m study.run`: a Hugging Face Trainer (`pip install transformers accelerate`).

Put your model, your data and your arguments in the place of the example's. The study calls ``run`` once a run.
"""

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from study.streams import stream
from study.tasks import LoopMetric, Trial

metric = LoopMetric("accuracy", guess=0.5, unit="fraction")  # what is reported; a run that diverges counts as guess
VOCABULARY, LENGTH = 20, 12
disable_progress_bar()


class Sequences(Dataset[dict[str, torch.Tensor]]):
    """Which of two halves of the vocabulary is there more often?"""

    def __init__(self, seed: int, part: str, count: int) -> None:
        self.tokens = torch.from_numpy(stream(seed, part).integers(0, VOCABULARY, size=(count, LENGTH)))
        self.labels = (self.tokens >= VOCABULARY // 2).float().mean(1).gt(0.5).long()

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.labels[index]}


class PerturbedTrainer(Trainer):
    """A Trainer that goes through the batches of a step once more where the method perturbs: it has no closure."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seen, self.window = 0, list[Any]()  # examples that went forward and backward; the batches of this step

    def training_step(self, model: Any, inputs: Any, *arguments: Any) -> Any:
        loss = super().training_step(model, inputs, *arguments)
        self.seen += len(inputs["labels"])
        self.window.append(inputs)
        if self.accelerator.sync_gradients:  # the last batch of the step: one of gradient_accumulation_steps
            optimizer = self.optimizer.optimizer  # inside accelerate's; its own step() follows, and is the second
            if getattr(optimizer, "will_perturb", False):
                optimizer.first_step(zero_grad=True)
                for again in self.window:
                    super().training_step(model, again, *arguments)
                    self.seen += len(again["labels"])
            self.window.clear()
        return loss


class Reports(TrainerCallback):
    """Reports after every epoch, keeps the best checkpoint, and saves all that a lost run needs to go on."""

    trainer: PerturbedTrainer
    training = True  # evaluations that follow the training are asked for below

    def __init__(self, trial: Trial, model: torch.nn.Module) -> None:
        self.trial, self.averages = trial, trial.build_averages(model)
        self.best_val, self.best = -1.0, dict[str, torch.Tensor]()

    def report(self, weights: str, epoch: int, found: dict[str, float]) -> float:
        val, loss = found["eval_accuracy"], found["eval_loss"]
        self.trial.report(weights=weights, epoch=epoch, val=val, val_loss=loss, gradient_evaluations=self.trainer.seen)
        return val

    def on_epoch_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self.averages.update(round(state.epoch))

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, model: Any = None, **_: Any
    ) -> None:
        epoch = round(state.epoch) - 1
        if not self.training:
            return
        if (val := self.report("last", epoch, metrics)) >= self.best_val:
            self.best_val, self.best = val, {name: value.clone() for name, value in model.state_dict().items()}
            self.report("best", epoch, metrics)

    def on_save(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Hand the files of the Trainer's own checkpoint to the study; it is saved after the evaluation."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        own = {"seen": self.trainer.seen, "best_val": self.best_val, "best": self.best}
        self.trial.save(
            lambda: (
                own
                | {"averages": self.averages.state_dict(), "folder": folder.name}
                | {"files": {file.name: file.read_bytes() for file in folder.iterdir()}}
            )
        )


def run(trial: Trial) -> None:
    """Train one model, report how its weights do on validation, and test those that validation prefers."""
    size, batch, hidden = (int(trial.factors[name]) for name in ("train_size", "batch_size", "hidden"))
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2, num_labels=2,
            intermediate_size=2 * hidden, max_position_embeddings=LENGTH,
        )
    )  # fmt: skip
    optimizer = trial.build_optimizer(model)
    if not isinstance(optimizer, torch.optim.Optimizer):  # one that is neither built in nor perturbed, as it is
        optimizer = optimizer.base_optimizer
    every = int(trial.factors.get("gradient_accumulation_steps", 1))
    steps, factor = trial.epochs * -(-size // (batch * every)), trial.schedule  # of the method, or factors.schedule
    some = 30 if trial.miniature else 300
    val, test = Sequences(trial.seed, "val", some), Sequences(trial.replicate, "test", some)
    reports = Reports(trial, model)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=trial.epochs, per_device_train_batch_size=batch, per_device_eval_batch_size=100,
            eval_strategy="epoch", save_strategy="epoch", save_total_limit=1, max_grad_norm=0.0,
            gradient_accumulation_steps=every, seed=trial.seed % 2**31, use_cpu=trial.device == "cpu",
            report_to="none", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = PerturbedTrainer(
            model, arguments, train_dataset=Sequences(trial.seed, "train", size), callbacks=[reports],
            eval_dataset=val,
            compute_metrics=lambda found: {"accuracy": float((found[0].argmax(-1) == found[1]).mean())},
            optimizers=(optimizer, LambdaLR(optimizer, lambda step: factor(min(1.0, step / steps)))),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        reports.trainer, resumed = trainer, None
        if trial.saved:
            resumed = Path(folder) / trial.saved["folder"]
            resumed.mkdir()
            for name, content in trial.saved["files"].items():
                (resumed / name).write_bytes(content)
            reports.averages.load_state_dict(trial.saved["averages"])
            reports.best_val, reports.best, trainer.seen = (trial.saved[name] for name in ("best_val", "best", "seen"))
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        reports.training = False
        for name in trial.averages:  # such as swa@0.75: empty, unless somebody reads them
            with reports.averages.average_parameters(name):
                reports.report(name, trial.epochs - 1, trainer.evaluate())
        if trial.stage == "confirm":  # one test, of the weights that validation prefers in this run
            if (chosen := trial.chosen) == "best":
                model.load_state_dict(reports.best)
            with reports.averages.average_parameters(chosen) if chosen in trial.averages else nullcontext():
                found = trainer.evaluate(test)
            trial.report(weights=chosen, test=found["eval_accuracy"], test_loss=found["eval_loss"])
