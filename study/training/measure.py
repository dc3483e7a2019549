"""Measuring a set of weights: loss, score and calibration in evaluation mode, and the probes of its sharpness.

What one run has measured so far, the weights that it keeps and the time that it took stand in its `Meter`.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from study.records import METRICS, Measurement, Probe
from study.streams import torch_seed
from study.tasks import EVALUATION_BATCH
from study.tasks.adapted import by_number, numbered
from study.tasks.examples import Examples
from study.tasks.means import mean_of
from study.tasks.nests import device_of, mapped
from study.tasks.task import Task
from study.training.scores import NotAMeanError, OfCalibration, OfMean, Sum, sum_of
from study.training.train import arithmetic
from wasam_core import Cost
from wasam_core.modes import eval_mode

_LARGEST = 1e300  # losses and scores beyond it are no numbers to calculate with
_FLOAT32 = 4  # bytes
PROBE_RHO = 0.05  # radius of the probed rises; one for all methods, so that they can be compared
_MEASUREMENT = TypeAdapter(Measurement)


def dumped(found: Measurement) -> str:
    """Return a measurement as JSON; `loaded` gives it back."""
    return _MEASUREMENT.dump_json(found).decode()


def loaded(text: str) -> Measurement:
    """Return what `dumped` was given."""
    return _MEASUREMENT.validate_json(text)


class DivergedError(Exception):
    """A loss or a score is not finite."""


class Evaluated(NamedTuple):
    """What an evaluation found; a part that was not to be had is None.

    ``score`` is the metric with the sign that makes higher better, ``calibration_error`` that of a
    classifier, ``loss`` the mean loss.
    """

    score: float | None
    calibration_error: float | None
    loss: float | None


def measure(
    weights: str,
    epoch: int,
    sets: Mapping[str, Examples],
    task: Task,
    model: nn.Module,
    cost: Cost,
    precision: str,
    batch_size: int | None = None,
) -> Measurement:
    """Measure what the model holds on every set.

    Args:
        weights: Name of the weights that the model holds.
        epoch: Epochs behind them.
        sets: Examples by name: ``train``, ``val``, ``test``. Those of training may have targets that loss or metric
            make nothing of, such as mixtures of two classes: what describes and decides nothing is left out then.
        task: Says what loss and score are.
        model: Each of its modules is left in the mode that it was in.
        cost: Billed with the forward evaluations.
        precision, batch_size: As in training.

    Raises:
        DivergedError: a loss or a score is not finite.
    """
    metrics: dict[str, Any] = {}
    for name, examples in sets.items():
        found = evaluate(model, examples, task, precision, batch_size, describes=name == "train")
        cost.bill_forwards(len(examples))
        if not all(abs(value) < _LARGEST for value in (found.loss, found.score) if value is not None):
            raise DivergedError
        metrics |= {f"{name}_loss": found.loss, f"{name}_score": found.score}
        if name != "train":
            metrics[f"{name}_calibration_error"] = found.calibration_error
    return Measurement(weights=weights, epoch=epoch, **metrics)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    examples: Examples,
    task: Task,
    precision: str = "float32",
    batch_size: int | None = None,
    *,
    describes: bool = False,
) -> Evaluated:
    """Return loss, score and calibration error of all examples, in evaluation mode.

    No output outlives its batch, but those that a metric of the whole split needs, on the CPU; a mean is over what it
    is a mean of, whatever the batches.

    Args:
        model: Each of its modules is left in the mode that it was in.
        examples: On the model's device.
        task: Says what loss and metric are.
        precision: Arithmetic of the forward passes; losses and metrics get their outputs in float32.
        batch_size: Examples at a time, where neither the task nor its examples say how many.
        describes: Leave out what can't be computed, instead of raising the error.

    Raises:
        TaskError: the loss is no mean over examples, and nobody says over what it is one; or nothing counts.
    """
    size = evaluation_size(examples, task, batch_size)
    with eval_mode(model):
        try:
            return _evaluated(model, examples, task, precision, size, describes=describes, keep=False)
        except NotAMeanError:
            return _evaluated(model, examples, task, precision, size, describes=describes, keep=True)


def evaluation_size(examples: Examples, task: Task, batch_size: int | None) -> int:
    """Return how many examples are evaluated at a time: as the task says, as its loader reads, or as in training."""
    return task.evaluation_batch or examples.batch_size or batch_size or EVALUATION_BATCH


def _evaluated(
    model: nn.Module, examples: Examples, task: Task, precision: str, size: int, *, describes: bool, keep: bool
) -> Evaluated:
    sums: dict[str, Sum] = {"loss": OfMean(mean_of(task.loss)), "score": sum_of(task.metric, keep=keep)}
    if task.classifies:
        sums["calibration_error"] = OfCalibration()
    for inputs, targets in examples.batches(size):
        with arithmetic(precision, device_of((targets, inputs))):
            outputs = model(inputs)
        outputs = mapped(outputs, lambda t: t.float() if t.is_floating_point() and t.itemsize < _FLOAT32 else t)
        for name in list(sums):
            with _left_out(sums, name, if_wanted=describes):
                sums[name].update(outputs, targets)
        del inputs, outputs, targets  # before the next ones are made
    found: dict[str, Any] = {}
    for name in list(sums):
        with _left_out(sums, name, if_wanted=describes):
            found[name] = sums[name].result()
    score = found.get("score")
    signed = None if score is None else task.metric.signed(score)
    return Evaluated(signed, found.get("calibration_error"), found.get("loss"))


@contextmanager
def _left_out(sums: dict[str, Sum], name: str, *, if_wanted: bool) -> Iterator[None]:
    """Leave a sum out that fails inside the block, if that is wanted; not for want of memory."""
    try:
        yield
    except (NotAMeanError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:  # whatever a loss or a metric raises
        if not if_wanted:
            raise
        del sums[name]


def probe(
    weights: str,
    model: nn.Module,
    examples: Examples,
    task: Task,
    seed: int,
    budget: int,
    cost: Cost,
    batch_size: int | None = None,
) -> list[Probe]:
    """Return the sharpness of the weights that the model holds, on the examples of its training metrics.

    Args:
        weights: Name of the weights that the model holds.
        model, examples, task: What is measured; the examples on the model's device.
        seed: Root seed of the run.
        budget: Gradient evaluations that it may take at most; 0: as many as it wants.
        cost: Billed, apart from the run's own: a probe describes the result and is no part of getting it.
        batch_size: As for `evaluate`.
    """
    from wasam_core.probes.sharpness import measure_sharpness  # noqa: PLC0415  # SciPy's part takes a worker half a second

    batches = list(examples.batches(evaluation_size(examples, task, batch_size)))
    generator = torch.Generator(device_of(batches[0])).manual_seed(torch_seed(seed, "probes"))
    with numbered(model, batches, targets_too=True) as (tensors,):
        loss = by_number(task.loss, batches)
        found = measure_sharpness(
            model, loss, tensors, rho=PROBE_RHO, budget=budget or None, generator=generator, cost=cost
        )
    values: Iterable[tuple[str, float, float | None, float | None]] = (
        ("top_eigenvalue", found.eigenvalues.values[0], None, None),
        ("trace", found.trace.value, found.trace.low, found.trace.high),
        ("worst_case_rise", found.worst_case.rise, None, None),
        ("average_case_rise", found.average_case.rise, None, None),
    )
    return [
        Probe(weights=weights, name=name, value=value, low=low, high=high)
        for name, value, low, high in values
        if math.isfinite(value)  # an eigenvalue that was not found is not reported
    ]


@dataclass(slots=True)
class Meter:
    """Filled as a run goes on; plain data, so that a run that was interrupted goes on with it.

    Attributes:
        measurements, probes, features: As they go into the record.
        weights: CPU copies of parameters by ``name/parameter``.
        probing: What the probes cost.
        wall_s, evaluate_s: Seconds in all, and seconds of these spent on measuring.
    """

    measurements: list[Measurement] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    features: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    probing: Cost = field(default_factory=Cost)
    wall_s: float = 0.0
    evaluate_s: float = 0.0

    def take_as(self, known: str, name: str, epoch: int) -> None:
        """Take what was just measured of an average for another of the same epochs: it would be the same bits."""
        self.measurements += [
            replace(one, weights=name) for one in self.measurements if one.weights == known and one.epoch == epoch
        ]

    def complete(self, tested: Measurement) -> None:
        """Add what was measured on the training subset and on test to what validation said of the same weights."""
        more = {name: value for name in METRICS if (value := getattr(tested, name)) is not None}
        self.measurements = [
            replace(one, **more) if (one.weights, one.epoch) == (tested.weights, tested.epoch) else one
            for one in self.measurements
        ]

    def complete_as(self, known: str, name: str, epoch: int) -> None:
        """Complete what validation said of weights by what was measured of the same weights under another name."""
        (tested,) = (one for one in self.measurements if (one.weights, one.epoch) == (known, epoch))
        self.complete(replace(tested, weights=name))

    def keep(self, name: str, model: nn.Module) -> None:
        """Keep a copy of the parameters that the model holds."""
        self.weights |= {
            f"{name}/{key}": p.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, p in model.named_parameters()
        }

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Count the time of the block as time of measuring."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.evaluate_s += time.perf_counter() - began

    def state(self) -> dict[str, Any]:
        """Return what a run between two epochs has to remember of it."""
        return {
            "measurements": [dumped(one) for one in self.measurements],
            "seconds": [self.wall_s, self.evaluate_s],
            "weights": self.weights,
            "features": self.features,
            "probing": self.probing.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.measurements = [loaded(text) for text in state["measurements"]]
        self.wall_s, self.evaluate_s = state["seconds"]
        self.weights = state["weights"]
        self.features = state["features"]
        self.probing.load_state_dict(state["probing"])
