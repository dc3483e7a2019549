"""Measuring a set of weights: loss, score and calibration in evaluation mode, and the probes of its sharpness.

What one run has measured so far, the weights that it keeps and the time that it took stand in its `Meter`.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional

from study.records import METRICS, Measurement, Probe, Reliability
from study.streams import torch_seed
from study.tasks.adapted import numbered
from study.tasks.examples import Examples
from study.tasks.task import Task
from study.training.train import arithmetic
from wasam_core import Cost
from wasam_core.modes import eval_mode

EVALUATION_BATCH = 1000
CALIBRATION_BINS = 15
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


def measure(
    weights: str, epoch: int, sets: Mapping[str, Examples], task: Task, model: nn.Module, cost: Cost, precision: str
) -> tuple[Measurement, Reliability | None]:
    """Measure what the model holds on every set, and how reliable its confidence is on test, if test is among them.

    Args:
        weights: Name of the weights that the model holds.
        epoch: Epochs behind them.
        sets: Examples by name: ``train``, ``val``, ``test``.
        task: Says what loss and score are.
        model: Each of its modules is left in the mode that it was in.
        cost: Billed with the forward evaluations.
        precision: As in training.

    Raises:
        DivergedError: a loss or a score is not finite.
    """
    metrics: dict[str, Any] = {}
    reliability = None
    for name, examples in sets.items():
        outputs, targets, loss = evaluate(model, examples, task, precision)
        cost.bill_forwards(len(examples))
        score = task.metric.score(outputs, targets)
        if not (math.isfinite(loss) and math.isfinite(score)):
            raise DivergedError
        metrics |= {f"{name}_loss": loss, f"{name}_score": score}
        if task.classifies and name != "train":
            counted = reliability_of(weights, outputs, targets)
            metrics[f"{name}_calibration_error"] = calibration_error(counted)
            reliability = counted if name == "test" else None
    return Measurement(weights=weights, epoch=epoch, **metrics), reliability


@torch.inference_mode()
def evaluate(model: nn.Module, examples: Examples, task: Task, precision: str = "float32") -> tuple[Any, Tensor, float]:
    """Return the outputs and targets of all examples and their mean loss, in evaluation mode.

    Args:
        model: Each of its modules is left in the mode that it was in.
        examples: On the model's device. Losses of batches count by their size.
        task: Says what the loss is.
        precision: Arithmetic of the forward passes; outputs come back in float32.
    """
    outputs, targets, losses = [], [], []
    with eval_mode(model):
        for inputs, wanted in examples.batches(EVALUATION_BATCH):
            with arithmetic(precision, wanted.device):
                found = model(inputs)
            outputs.append(found.float() if found.is_floating_point() else found)
            targets.append(wanted)
            losses.append(task.loss(outputs[-1], wanted).double() * len(wanted))
    return torch.cat(outputs), torch.cat(targets), float(torch.stack(losses).sum()) / len(examples)


def reliability_of(weights: str, logits: Tensor, targets: Tensor) -> Reliability:
    """Bin the predictions of a classifier by their confidence; positions of a sequence count one by one.

    Args:
        weights: Name of the weights.
        logits: ``(n, classes)`` or ``(n, positions, classes)``. targets: ``(n,)`` or ``(n, positions)``; those of -100
            are left out.
    """
    flat, wanted = logits.flatten(0, -2), targets.flatten()
    counted = wanted != -100
    confidence, predicted = functional.softmax(flat[counted].double(), -1).max(-1)
    right = (predicted == wanted[counted]).double()
    bins = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    counts = torch.bincount(bins, minlength=CALIBRATION_BINS)
    means = [
        (torch.bincount(bins, values, CALIBRATION_BINS) / counts.clamp(min=1)).tolist()
        for values in (confidence, right)
    ]
    return Reliability(
        weights=weights, counts=tuple(counts.tolist()), confidence=tuple(means[0]), accuracy=tuple(means[1])
    )


def calibration_error(reliability: Reliability) -> float:
    """Return the expected calibration error, in [0, 1]: the mean gap between confidence and accuracy over examples.

    Source: Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3, with 15 equal bins.
    """
    bins = zip(reliability.counts, reliability.confidence, reliability.accuracy, strict=True)
    total = sum(reliability.counts)
    return sum(count * abs(confidence - right) for count, confidence, right in bins) / total if total else math.nan


def probe(
    weights: str, model: nn.Module, examples: Examples, task: Task, seed: int, budget: int, cost: Cost
) -> list[Probe]:
    """Return the sharpness of the weights that the model holds, on the examples of its training metrics.

    Args:
        weights: Name of the weights that the model holds.
        model, examples, task: What is measured; the examples on the model's device.
        seed: Root seed of the run.
        budget: Gradient evaluations that it may take at most; 0: as many as it wants.
        cost: Billed, apart from the run's own: a probe describes the result and is no part of getting it.
    """
    from wasam_core.probes.sharpness import measure_sharpness  # noqa: PLC0415  # SciPy's part takes a worker half a second

    batches = list(examples.batches(EVALUATION_BATCH))
    generator = torch.Generator(batches[0][1].device).manual_seed(torch_seed(seed, "probes"))
    with numbered(model, batches) as (tensors,):
        found = measure_sharpness(
            model, task.loss, tensors, rho=PROBE_RHO, budget=budget or None, generator=generator, cost=cost
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
        measurements, probes, reliability: As they go into the record.
        weights: CPU copies of parameters by ``name/parameter``.
        probing: What the probes cost.
        wall_s, evaluate_s: Seconds in all, and seconds of these spent on measuring.
    """

    measurements: list[Measurement] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
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
        self.reliability += [
            one.model_copy(update={"weights": name}) for one in self.reliability if one.weights == known
        ]

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
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.measurements = [loaded(text) for text in state["measurements"]]
        self.wall_s, self.evaluate_s = state["seconds"]
        self.weights = state["weights"]
