"""A loop for `python -m study.run`: your own training, here of a classifier of two moons.

Put your training in the place of the example's. The study calls ``run`` once a run, with all that it is to do.
"""

from contextlib import nullcontext
from typing import Any

from sklearn.datasets import make_moons
from torch import Tensor, float32, from_numpy, int64, nn, no_grad, optim, tensor
from torch.nn.functional import cross_entropy

from study.streams import stream
from study.tasks import LoopMetric, Trial

# What is reported: guess is what somebody gets who learns nothing, which is how a run counts that diverges.
metric = LoopMetric("accuracy", guess=0.5, unit="fraction")  # higher_is_better=False for an error
INPUTS, CLASSES = make_moons(1100, noise=0.3, random_state=0)


def run(trial: Trial) -> None:
    """Train one model, report how its weights do on validation, and test those that validation prefers."""
    x, y = tensor(INPUTS, dtype=float32).to(trial.device), tensor(CLASSES, dtype=int64).to(trial.device)
    size, batch, hidden = (int(trial.factors[name]) for name in ("train_size", "batch_size", "hidden"))
    # Each replicate has a test part of its own; the seed splits the rest: equal seeds, equal data.
    mine = stream(trial.replicate, "test part").permutation(1100)
    rest, test = mine[stream(trial.seed, "split").permutation(600)], mine[600:]
    val, train = rest[:400], from_numpy(rest[400 : 400 + size])

    # torch is seeded with trial.seed already: equal seeds, equal initial weights.
    model = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    model.to(trial.device)
    # The method's optimizer (trial.method says which, if you build it yourself), and the averages that it may read.
    optimizer, averages = trial.build_optimizer(model), trial.build_averages(model)
    steps, factor = trial.epochs * (size // batch), trial.schedule  # of the method, or factors.schedule
    schedule = optim.lr_scheduler.LambdaLR(optimizer.base_optimizer, lambda step: factor(min(1.0, step / steps)))
    start, best_val, best = 0, -1.0, dict[str, Tensor]()
    parts: dict[str, Any] = {"model": model, "averages": averages, "schedule": schedule, "optimizer": optimizer}
    if trial.saved:  # an earlier attempt was interrupted: go on where it had saved
        start, best_val, best = (trial.saved[name] for name in ("epochs", "best_val", "best"))
        for name, part in parts.items():
            part.load_state_dict(trial.saved[name])

    @no_grad()
    def scores(part: Any) -> tuple[float, float]:
        outputs = model.eval()(x[part])
        return float((outputs.argmax(1) == y[part]).float().mean()), float(cross_entropy(outputs, y[part]))

    def report(epoch: int, weights: str) -> float:
        score, loss = scores(val)
        seen = optimizer.cost.gradient_evaluations  # examples forward and backward, since the run began
        trial.report(epoch=epoch, weights=weights, val=score, val_loss=loss, gradient_evaluations=seen)
        return score

    for epoch in range(start, trial.epochs):
        model.train()
        order = from_numpy(stream(trial.seed, f"order of epoch {epoch}").permutation(size))
        for rows in order[: size // batch * batch].split(batch):

            def closure(rows: Tensor = train[rows]) -> Tensor:
                loss = cross_entropy(model(x[rows]), y[rows])
                loss.backward()
                return loss

            optimizer.step(closure, examples=batch)  # SAM calls it twice
            schedule.step()
        averages.update(epoch + 1)
        if (score := report(epoch, "last")) >= best_val:  # of equal ones the later, for all methods
            best_val, best = score, {name: value.clone() for name, value in model.state_dict().items()}
            report(epoch, "best")  # leave "best" out if you keep no checkpoint: the page will say so
        kept = {"epochs": epoch + 1, "best_val": best_val, "best": best}
        # Optional. What is given as a function is called when the run is being saved, every minute or so.
        trial.save(lambda kept=kept: kept | {name: part.state_dict() for name, part in parts.items()})
    for name in trial.averages:  # such as swa@0.75: empty, unless somebody reads them
        with averages.average_parameters(name):
            report(trial.epochs - 1, name)
    if trial.stage == "confirm":  # one test, of the weights that validation prefers in this run
        if (chosen := trial.chosen) == "best":
            model.load_state_dict(best)
        with averages.average_parameters(chosen) if chosen in trial.averages else nullcontext():
            score, loss = scores(test)
        trial.report(weights=chosen, test=score, test_loss=loss)
