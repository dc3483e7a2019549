"""What an evaluation adds up batch by batch, so that it needs no more memory than the loop that it runs in.

Means and streaming metrics take a batch in and forget it. A function of a whole split is given one: its outputs are
kept on the CPU.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from study.data.pool import TaskError
from study.tasks.means import IGNORED, Mean, mean_of
from study.tasks.nests import device_of, examples_in, joined, leaves, mapped, rows_of
from study.tasks.task import Metric, is_streaming
from study.training.heap import give_back_free_memory

CALIBRATION_BINS = 15
_LARGE = 2**22  # bytes of outputs that are kept before anybody asks whether they have to be
_BESIDE = 2  # examples that are put beside one of the first batch
_TOLERANCE = 1e-5  # of a mean's rounding in 32 bits


_Part = tuple[Any, Any]  # outputs and targets


class NotAMeanError(Exception):
    """A metric that was taken for a mean over examples isn't one: the split has to be gone through again."""


class OfMean:
    """A mean, as the sums of what it is made of."""

    def __init__(self, mean: Mean) -> None:
        self._mean = mean
        self._total: Tensor | float = 0.0
        self._count: Tensor | float = 0

    def update(self, outputs: Any, targets: Any) -> None:
        """Add the sum and the count of a batch."""
        self._mean.check(outputs, targets)
        self._total = self._total + _number(self._mean.total(outputs, targets).double())
        self._count = self._count + _number(self._mean.count(targets))

    def result(self) -> float:
        """Return the mean over all batches.

        Raises:
            TaskError: nothing counts in any of them.
        """
        total, count = float(self._total), float(self._count)
        if not count > 0:
            raise TaskError("a part of the data has no target that counts; loss and score need at least one")
        return total / count


def _number(value: Tensor | float) -> Tensor | float:
    """Return a value that lives on: on the CPU as a number, as a small tensor would leave holes between large ones."""
    return value.item() if isinstance(value, Tensor) and value.device.type == "cpu" else value


class OfStream:
    """A metric that adds up by itself."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric.of
        self._number = metric.number
        self._metric.reset()

    def update(self, outputs: Any, targets: Any) -> None:
        """Hand a batch over, on whatever device it is."""
        if hasattr(self._metric, "to"):
            self._metric.to(device_of((outputs, targets)))
        self._metric.update(outputs, targets)

    def result(self) -> float:
        """Return the metric of all batches."""
        return self._number(self._metric.compute())


class OfWhole:
    """A function of a whole split.

    Large outputs are folded into one number as they come, if the function turns out to be a mean over examples: its
    value on whatever is folded has to be that of the parts, weighted by their examples, and so on a few of its examples
    beside one of the first batch; and once the parts have to differ, or nothing would be shown.

    Args:
        metric: The task's, ``of`` a function from outputs and targets to a number.
        keep: Keep all outputs, whatever the function is.
    """

    def __init__(self, metric: Metric, *, keep: bool) -> None:
        self._metric, self._name, self._keep = metric, metric.name, keep
        self._kept: list[_Part] = []
        self._ask_at = _LARGE
        self._sample: list[_Part] = []
        self._total, self._count = 0.0, 0

    def update(self, outputs: Any, targets: Any) -> None:
        """Keep a batch on the CPU, or fold it in.

        Raises:
            NotAMeanError: batches before it are folded in already, and should not be.
        """
        self._kept.append(mapped((outputs, targets), Tensor.cpu))
        held = sum(tensor.nbytes for kept, _ in self._kept for tensor in leaves(kept))
        if not self._keep and held > self._ask_at:
            self._fold()
            give_back_free_memory()
            self._ask_at = _LARGE if self._count else 2 * held

    def result(self) -> float:
        """Return the function of the whole split; errors as of `update`."""
        if not self._count:
            return self._value(_joined(self._kept, self._name))
        if self._kept:
            self._fold()
        return self._total / self._count

    def _value(self, part: _Part) -> float:
        return self._metric.number(self._metric.of(*part))

    def _fold(self) -> None:
        """Put what is kept into one number if that can be done."""
        parts = self._kept if len(self._kept) > 1 else _halves(self._kept[0])
        try:
            whole = _joined(self._kept, self._name)
            values = self._checked(parts, whole)
            if self._sample:
                some = [*self._sample, _first(whole, _BESIDE)]
                self._checked(some, _joined(some, self._name))
        except Exception as error:  # whatever a function raises that wants more than a few examples
            if self._count:
                raise NotAMeanError from error
            self._keep = True
            return
        if self._count or max(values) - min(values) > 10 * _TOLERANCE * max(map(abs, values)):
            sizes = [examples_in(targets) for _, targets in parts]
            self._total += sum(map(mul, sizes, values))
            self._count += sum(sizes)
            self._sample = self._sample or [mapped(_first(parts[0], 1), Tensor.clone)]
            self._kept = []

    def _checked(self, parts: Sequence[_Part], whole: _Part) -> list[float]:
        """Return the values of parts, if that of the whole is their mean by examples."""
        sizes = [examples_in(targets) for _, targets in parts]
        values = [self._value(part) for part in parts]
        found, mean = self._value(whole), sum(map(mul, sizes, values)) / sum(sizes)
        if not (math.isfinite(found) and abs(found - mean) <= _TOLERANCE * max(map(abs, values))):
            raise NotAMeanError
        return values


def _first(part: _Part, count: int) -> _Part:
    found: _Part = rows_of(part, examples_in(part[1]), slice(count))
    return found


def _halves(part: _Part) -> list[_Part]:
    size = examples_in(part[1])
    ends = (0, size // 2), (size // 2, size)
    return [rows_of(part, size, slice(*end)) for end in ends] if size > 1 else [part]


def _joined(parts: Sequence[_Part], name: str) -> _Part:
    """Return several batches as one.

    Raises:
        TaskError: they don't fit together, as those that a collate function pads.
    """
    if len(parts) == 1:
        return parts[0]
    try:
        found: _Part = joined(parts, [examples_in(targets) for _, targets in parts])
    except RuntimeError as error:
        shapes = sorted({str(tuple(tensor.shape[1:])) for part in parts for tensor in leaves(part)})
        raise TaskError(
            f"the metric {name!r} is a function of a whole split, whose batches don't fit together: their examples "
            f"have shapes such as {' and '.join(shapes[:2])}; give it as study.tasks.Mean(total, count), as an object "
            "with reset, update and compute, or pad all examples to one length"
        ) from error
    return found


class OfCalibration:
    """The confidence of a classifier, in bins; positions of a sequence count one by one."""

    def __init__(self) -> None:
        self._bins: Tensor | None = None  # (3, bins): examples, and sums of confidence and of right answers
        self._applies = True

    def update(self, logits: Any, targets: Any) -> None:
        """Bin the predictions of a batch: logits ``(n, classes)`` or ``(n, positions, classes)``."""
        self._applies = self._applies and are_classes(logits, targets)
        if not self._applies:
            return
        flat, wanted = logits.flatten(0, -2), targets.flatten()
        counted = wanted != IGNORED
        confidence, predicted = functional.softmax(flat[counted].double(), -1).max(-1)
        right = (predicted == wanted[counted]).double()
        places = (confidence.nan_to_num() * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
        found = torch.stack(
            [
                torch.bincount(places, values, CALIBRATION_BINS)
                for values in (right.new_ones(len(right)), confidence, right)
            ]
        )
        self._bins = found if self._bins is None else self._bins + found

    def result(self) -> float | None:
        """Return the expected calibration error, in [0, 1]: the mean gap between confidence and accuracy over examples.

        None where targets are no classes, outputs no numbers, or no example counts.

        Source: Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3, with 15 equal bins.
        """
        if not self._applies or self._bins is None or not self._bins.isfinite().all():
            return None
        counts, *sums = self._bins.cpu()
        gaps = zip(counts.tolist(), *((values / counts.clamp(min=1)).tolist() for values in sums), strict=True)
        total = float(counts.sum())
        return sum(count * abs(confidence - right) for count, confidence, right in gaps) / total if total else None


def are_classes(logits: Any, targets: Any) -> bool:
    """Tell whether each set of logits has one whole number as its target."""
    tensors = isinstance(logits, Tensor) and isinstance(targets, Tensor)
    return tensors and not targets.is_floating_point() and targets.shape == logits.shape[:-1]


Sum = OfMean | OfStream | OfWhole | OfCalibration


def sum_of(metric: Metric, *, keep: bool) -> Sum:
    """Return what adds a metric up.

    Args:
        metric: The task's.
        keep: Keep all outputs of a function of a whole split, though it looked like a mean.
    """
    if is_streaming(metric.of):
        return OfStream(metric)
    mean = mean_of(metric.of)
    return OfWhole(metric, keep=keep) if mean.assumed else OfMean(mean)
