"""Loops of one's own that the tests run: a tiny one, whose reports may be changed, and the twin of a task."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from study.streams import stream
from study.tasks import LoopMetric, Task, Trial, classification

metric = LoopMetric("accuracy", guess=0.5, unit="fraction")


def points(seed: int, name: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(stream(seed, name).normal(size=(count, 2)).astype("float32"))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def run(trial: Trial, change: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda what, told: told) -> None:
    """Classify points; ``change`` may change what is reported, or leave it out."""
    size, batch = int(trial.factors["train_size"]), int(trial.factors["batch_size"])
    x, y = points(trial.seed, "train", size)
    val = points(trial.seed, "val", 60)
    model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 2))
    optimizer, averages = trial.build_optimizer(model), trial.build_averages(model)
    best: tuple[float, dict[str, torch.Tensor]] = (-1.0, {})

    def score(part: tuple[torch.Tensor, torch.Tensor]) -> dict[str, float]:
        model.eval()
        with torch.no_grad():
            outputs = model(part[0])
        return {
            "val": float((outputs.argmax(1) == part[1]).float().mean()),
            "val_loss": float(cross_entropy(outputs, part[1])),
        }

    def report(**told: Any) -> None:
        changed = change("report", told | {"gradient_evaluations": optimizer.cost.gradient_evaluations})
        if changed is not None:
            trial.report(**changed)

    start = 0
    if trial.saved:
        start, best = trial.saved["epochs"], tuple(trial.saved["best"])
        model.load_state_dict(trial.saved["model"])
        averages.load_state_dict(trial.saved["averages"])
        optimizer.load_state_dict(trial.saved["optimizer"])
    for epoch in range(start, trial.epochs):
        model.train()
        order = stream(trial.seed, f"order of epoch {epoch}").permutation(size)
        for first in range(0, size - batch + 1, batch):
            rows = torch.from_numpy(order[first : first + batch])

            def closure(a: torch.Tensor = x[rows], b: torch.Tensor = y[rows]) -> torch.Tensor:
                loss = cross_entropy(model(a), b)
                loss.backward()
                return loss

            optimizer.step(closure, examples=batch)
        averages.update(epoch + 1)
        found = score(val)
        report(epoch=epoch, weights="last", **found)
        if found["val"] >= best[0]:
            best = found["val"], {name: tensor.clone() for name, tensor in model.state_dict().items()}
            report(epoch=epoch, weights="best", **found)
        if change("save", {}) is not None:
            trial.save(
                lambda epoch=epoch, best=best: {
                    "epochs": epoch + 1, "best": list(best), "model": model.state_dict(),
                    "averages": averages.state_dict(), "optimizer": optimizer.state_dict(),
                }
            )  # fmt: skip
    for name in trial.averages:
        with averages.average_parameters(name):
            report(epoch=trial.epochs - 1, weights=name, **score(val))
    if trial.stage == "confirm":
        chosen = trial.chosen
        test = points(trial.replicate, "test", 100)
        if chosen == "best":
            model.load_state_dict(best[1])
            found = score(test)
        elif chosen == "last":
            found = score(test)
        else:
            with averages.average_parameters(chosen):
                found = score(test)
        report(weights=chosen, test=found["val"], test_loss=found["val_loss"])


def twin_parts(seed: int, size: int, replicate: int) -> tuple[nn.Module, Any, Any, Any]:
    """Return the model and the parts of `twin_task`."""
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    return model, points(seed, "train", size), points(seed, "val", 60), points(replicate, "test", 100)


def twin_task(seed: int, factors: dict[str, Any], replicate: int) -> Task:
    model, train, val, test = twin_parts(seed, factors["train_size"], replicate)
    return classification(model, train, val, lambda: test, classes=2)


def twin(trial: Trial) -> None:
    """Do what a study of `twin_task` does, by hand: a constant rate, every epoch validated."""
    size, batch = int(trial.factors["train_size"]), int(trial.factors["batch_size"])
    model, (x, y), val, test = twin_parts(trial.seed, size, trial.replicate)
    optimizer, averages, order = (
        trial.build_optimizer(model),
        trial.build_averages(model),
        stream(trial.seed, "data order"),
    )
    kept: dict[str, Any] = {}
    best = -1.0

    @torch.no_grad()
    def measured(part: Any) -> tuple[float, float]:
        outputs = model(part[0])
        return float((outputs.argmax(1) == part[1]).double().mean()), float(cross_entropy(outputs, part[1]))

    def report(epoch: int, name: str) -> float:
        score, loss = measured(val)
        seen = optimizer.cost.gradient_evaluations
        trial.report(epoch=epoch, weights=name, val=score, val_loss=loss, gradient_evaluations=seen)
        return score

    for epoch in range(trial.epochs):
        shuffled = torch.from_numpy(order.permutation(size))
        for rows in shuffled[: size // batch * batch].split(batch):

            def closure(rows: torch.Tensor = rows) -> torch.Tensor:
                loss = cross_entropy(model(x[rows]), y[rows])
                loss.backward()
                return loss

            optimizer.step(closure, examples=batch)
            averages.update_step()
        averages.update(epoch + 1)
        if (score := report(epoch, "last")) >= best:
            best, kept["best"] = score, {name: value.clone() for name, value in model.state_dict().items()}
            report(epoch, "best")
    kept["last"] = {name: value.clone() for name, value in model.state_dict().items()}
    for name in trial.averages:
        with averages.average_parameters(name):
            report(trial.epochs - 1, name)
            kept[name] = {name: value.clone() for name, value in model.state_dict().items()}
    if trial.stage == "confirm":
        model.load_state_dict(kept[trial.chosen])
        score, loss = measured(test)
        trial.report(weights=trial.chosen, test=score, test_loss=loss)
