"""Means as sums and counts: a loss or a metric is a mean over something, and batches are put together by that.

A mean per token, pixel, node or class-weighted example is not the mean of its batches' means, nor is it that mean
weighted by examples. The losses of torch are known by what they are; of a function that nobody knows it is taken for
granted that it is a mean over examples, and `Mean.check` refuses one that is not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.data.pool import TaskError
from study.tasks.nests import examples_in, mapped, rows_of

Loss = Callable[[Any, Any], Tensor]
IGNORED = -100  # torch's own sign for a target that does not count
_LEAST_COUNT = 1e-12  # divides the sum 0 where nothing counts: the mean is 0 then, and so is its gradient
_TOLERANCE = 1e-4  # of the rounding in 32 bits; what counts otherwise does more


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over whatever counts in the targets; call it for that of one batch.

    Example: pixels, of which those with target 255 are left out::

        Mean(
            partial(cross_entropy, ignore_index=255, reduction="sum"),
            lambda targets: (targets != 255).sum(),
        )

    Attributes:
        total: From outputs and targets of a batch to the sum over what counts, a scalar tensor.
        count: From the targets to how much that is, ≥ 0.
        mean: The mean of one batch as its owner has it; it may be NaN where nothing counts. None: total by count.
        assumed: Nobody knows what it is a mean over: it is taken for one over examples.
    """

    total: Loss
    count: Callable[[Any], Tensor | float]
    mean: Loss | None = field(default=None, repr=False)
    assumed: bool = field(default=False, repr=False)

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean of one batch; 0 where nothing counts, unless ``mean`` says otherwise."""
        if self.mean is not None:
            return self.mean(outputs, targets)
        total, count = self.total(outputs, targets), self.count(targets)
        if isinstance(count, Tensor):
            return total / count.to(total.dtype).clamp(min=_LEAST_COUNT)
        return total / max(count, _LEAST_COUNT)

    def check(self, outputs: Any, targets: Any) -> None:
        """Make sure, on one batch, that what is taken for a mean over examples is one.

        Raises:
            TaskError: its value on the batch is not the mean of those on two parts, weighted by their examples.
        """
        size = examples_in(targets)
        if not self.assumed or self.mean is None or size < 2:
            return
        ends = (0, size // 2), (size // 2, size)
        try:
            whole = float(self.mean(outputs, targets))
            parts = [float(self.mean(*rows_of((outputs, targets), size, slice(*end)))) for end in ends]
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise TaskError(_SENTENCE.format(f"could not be computed on a part of a batch ({error})")) from error
        mean = sum((end - begin) * part for (begin, end), part in zip(ends, parts, strict=True)) / size
        scale = max(map(abs, (whole, *parts)), default=0.0)
        # A whole that is not finite is a diverged run's; parts that are not, of a finite whole, had nothing to count.
        if math.isfinite(whole) and not abs(whole - mean) <= _TOLERANCE * scale:
            found = f"is {whole:.5g} on a batch of {size} examples, and {parts[0]:.5g} and {parts[1]:.5g} on its halves"
            raise TaskError(_SENTENCE.format(found))


_SENTENCE = (
    "the loss {}: it is no mean over examples, so nobody knows how the batches of an evaluation are put together; give "
    "the task loss = study.tasks.Mean(total, count), the sum over what counts (reduction=\"sum\") and from the targets "
    "how much that is, or study.tasks.over_examples(loss) to have batches weighted by their examples as they are"
)  # fmt: skip


def over_examples(loss: Loss) -> Mean:
    """Return a loss whose batches count by their examples, whatever it is a mean over, such as a contrastive one."""
    return Mean(partial(_times_examples, loss), examples_in, loss)


def mean_of(loss: Loss) -> Mean:
    """Return a loss as a `Mean`.

    Known are torch's losses that average, as functions, with options by `functools.partial`, and as modules. Any other
    function is taken for a mean over examples; see `Mean.check`.
    """
    if isinstance(loss, Mean):
        return loss
    function, options = _call_of(loss)
    if function in _BY_CLASS:
        total = partial(_on_device, function, {**options, "reduction": "sum"})
        return Mean(total, partial(_classes_counted, options), loss)
    if function in _BY_ELEMENT:
        total = partial(_of_one_shape, function, {**options, "reduction": "sum"})
        return Mean(total, torch.numel, partial(_of_one_shape, loss, {}))
    return Mean(partial(_times_examples, loss), examples_in, loss, assumed=True)


def _times_examples(loss: Loss, outputs: Any, targets: Any) -> Tensor:
    return loss(outputs, targets) * examples_in(targets)


_BY_CLASS = (functional.cross_entropy, functional.nll_loss)
_BY_ELEMENT = (
    functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss,
    functional.binary_cross_entropy, functional.binary_cross_entropy_with_logits, functional.poisson_nll_loss,
    functional.kl_div, functional.soft_margin_loss,
)  # fmt: skip
_MODULES: dict[type, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    nn.CrossEntropyLoss: (functional.cross_entropy, ("weight", "ignore_index", "label_smoothing")),
    nn.NLLLoss: (functional.nll_loss, ("weight", "ignore_index")),
    nn.MSELoss: (functional.mse_loss, ()),
    nn.L1Loss: (functional.l1_loss, ()),
    nn.SmoothL1Loss: (functional.smooth_l1_loss, ("beta",)),
    nn.HuberLoss: (functional.huber_loss, ("delta",)),
    nn.BCELoss: (functional.binary_cross_entropy, ("weight",)),
    nn.BCEWithLogitsLoss: (functional.binary_cross_entropy_with_logits, ("weight", "pos_weight")),
    nn.PoissonNLLLoss: (functional.poisson_nll_loss, ("log_input", "full", "eps")),
    nn.KLDivLoss: (functional.kl_div, ("log_target",)),
    nn.SoftMarginLoss: (functional.soft_margin_loss, ()),
}


def _call_of(loss: Loss) -> tuple[Callable[..., Tensor] | None, dict[str, Any]]:
    """Return the function of torch that a loss calls, with its options; None if it is none that averages."""
    if isinstance(loss, nn.Module):
        function, names = _MODULES.get(type(loss), (None, ()))
        known = function is not None and loss.reduction == "mean"
        return (function, {name: getattr(loss, name) for name in names}) if known else (None, {})
    if isinstance(loss, partial):
        known = not loss.args and loss.keywords.get("reduction", "mean") == "mean"
        return (loss.func, dict(loss.keywords)) if known else (None, {})
    return loss, {}


def _on_device(function: Callable[..., Tensor], options: Mapping[str, Any], outputs: Tensor, targets: Tensor) -> Tensor:
    return function(outputs, targets, **mapped(options, lambda option: option.to(outputs.device)))


def _of_one_shape(
    function: Callable[..., Tensor], options: Mapping[str, Any], outputs: Tensor, targets: Tensor
) -> Tensor:
    if outputs.shape != targets.shape:
        raise TaskError(
            f"outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)} were given to a loss "
            "that compares them one by one; make them equal, because torch would compare each with each"
        )
    return _on_device(function, options, outputs, targets)


def _classes_counted(options: Mapping[str, Any], targets: Tensor) -> Tensor | float:
    """Return how much the targets of a cross-entropy count: classes by their weight, probabilities one by one."""
    if targets.is_floating_point():
        return targets.numel() / len(targets.select(0, 0) if targets.dim() > 1 else targets)
    counted = targets != options.get("ignore_index", IGNORED)
    weight: Tensor | None = options.get("weight")
    total: Tensor = counted if weight is None else weight.to(targets.device)[targets.where(counted, 0)] * counted
    return total.sum()
