"""Measuring a set of weights: loss, score and calibration in evaluation mode, and the probes of its sharpness."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from study.records import Measurement, Probe
from study.streams import torch_seed
from study.tasks import EVALUATION_BATCH
from study.tasks.adapted import by_number, numbered
from study.tasks.examples import Examples
from study.tasks.loaded import Pair
from study.tasks.means import mean_of
from study.tasks.nests import device_of, examples_in, joined, leaves, mapped
from study.tasks.task import Task
from study.training.scores import NotAMeanError, OfCalibration, OfMean, Sum, sum_of
from study.training.train import arithmetic
from wasam_core import Cost
from wasam_core.modes import eval_mode

_LARGEST = 1e300  # losses and scores beyond it are no numbers to calculate with
_FLOAT32 = 4  # bytes
_TOGETHER = 2**20  # bytes of outputs that are put together at most
PROBE_RHO = 0.05  # radius of the probed rises; one for all methods, so that they can be compared


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


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Measures what a model holds, on examples of the model's device.

    Attributes:
        model: Each of its modules is left in the mode that it was in.
        task: Says what loss and metric are.
        precision: Arithmetic of the forward passes; losses and metrics get their outputs in float32.
        batch_size: Examples at a time, where neither the task nor its examples say how many.
    """

    model: nn.Module
    task: Task
    precision: str = "float32"
    batch_size: int | None = None

    def batches(self, examples: Examples) -> Iterator[Pair]:
        """Yield batches of as many as the task says, as its loader reads, or as in training."""
        own = self.task.evaluation_batch or examples.batch_size or self.batch_size
        return examples.batches(own or EVALUATION_BATCH)

    def measure(self, weights: str, epoch: int, sets: Mapping[str, Examples], cost: Cost) -> Measurement:
        """Measure what the model holds on every set.

        Args:
            weights, epoch: Name of the weights that the model holds, and epochs behind them.
            sets: Examples by name: ``train``, ``val``, ``test``. Those of training may have targets that loss or metric
                make nothing of, such as mixtures of two classes: what describes and decides nothing is left out then.
            cost: Billed with the forward evaluations.

        Raises:
            DivergedError: a loss or a score is not finite.
        """
        metrics: dict[str, Any] = {}
        for name, examples in sets.items():
            found = self.evaluate(examples, describes=name == "train")
            cost.bill_forwards(len(examples))
            if not all(abs(value) < _LARGEST for value in (found.loss, found.score) if value is not None):
                raise DivergedError
            metrics |= {f"{name}_loss": found.loss, f"{name}_score": found.score}
            if name != "train":
                metrics[f"{name}_calibration_error"] = found.calibration_error
        return Measurement(weights=weights, epoch=epoch, **metrics)

    @torch.inference_mode()
    def evaluate(self, examples: Examples, *, describes: bool = False) -> Evaluated:
        """Return loss, score and calibration error of all examples, in evaluation mode.

        No output outlives its batch, but small ones that the task has put together, and those that a metric of the
        whole split needs, on the CPU; a mean is over what it is a mean of, whatever the batches.

        Args:
            examples: What is evaluated.
            describes: Leave out what can't be computed, instead of raising the error.

        Raises:
            TaskError: the loss is no mean over examples, and nobody says over what it is one; or nothing counts.
        """
        with eval_mode(self.model):
            try:
                return self._evaluated(examples, describes=describes, keep=False)
            except NotAMeanError:
                return self._evaluated(examples, describes=describes, keep=True)

    def _evaluated(self, examples: Examples, *, describes: bool, keep: bool) -> Evaluated:
        task = self.task
        sums: dict[str, Sum] = {"loss": OfMean(mean_of(task.loss)), "score": sum_of(task.metric, keep=keep)}
        if task.classifies:
            sums["calibration_error"] = OfCalibration()
        for outputs, targets in put_together(self._outputs(examples), task.metric_batch):
            for name in list(sums):
                with _left_out(sums, name, if_wanted=describes):
                    sums[name].update(outputs, targets)
            del outputs, targets
        found: dict[str, Any] = {}
        for name in list(sums):
            with _left_out(sums, name, if_wanted=describes):
                found[name] = sums[name].result()
        score = found.get("score")
        signed = None if score is None else task.metric.signed(score)
        return Evaluated(signed, found.get("calibration_error"), found.get("loss"))

    def _outputs(self, examples: Examples) -> Iterator[Pair]:
        """Yield outputs and targets, batch by batch."""
        for inputs, targets in self.batches(examples):
            with arithmetic(self.precision, device_of((targets, inputs))):
                outputs = self.model(inputs)
            outputs = mapped(outputs, lambda t: t.float() if t.is_floating_point() and t.itemsize < _FLOAT32 else t)
            del inputs
            yield outputs, targets
            del outputs, targets  # before the next ones are made

    def probe(self, weights: str, examples: Examples, seed: int, budget: int, cost: Cost) -> list[Probe]:
        """Return the sharpness of the weights that the model holds.

        Args:
            weights, examples: Name of the weights, and what the loss is measured on.
            seed: Root seed of the run.
            budget: Gradient evaluations that it may take at most; 0: as many as it wants.
            cost: Billed, apart from the run's own: a probe describes the result and is no part of getting it.
        """
        from wasam_core.probes.sharpness import measure_sharpness  # noqa: PLC0415  # SciPy takes a worker half a second

        batches = list(self.batches(examples))
        generator = torch.Generator(device_of(batches[0])).manual_seed(torch_seed(seed, "probes"))
        loss = by_number(self.task.loss, batches)
        with numbered(self.model, batches) as (tensors,):
            found = measure_sharpness(
                self.model, loss, tensors, rho=PROBE_RHO, budget=budget or None, generator=generator, cost=cost
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


def put_together(batches: Iterable[Pair], size: int) -> Iterator[Pair]:
    """Yield outputs and targets of several batches as those of one, until they have ``size`` examples or are large."""
    held: list[Pair] = []
    for batch in batches:
        held.append(batch)
        sizes = [examples_in(targets) for _, targets in held]
        if sum(sizes) >= size or sum(tensor.nbytes for outputs, _ in held for tensor in leaves(outputs)) > _TOGETHER:
            yield joined(held, sizes) if len(held) > 1 else batch
            held = []
        del batch
    if held:
        yield joined(held, [examples_in(targets) for _, targets in held])
