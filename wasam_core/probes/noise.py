"""How much gradients differ between examples, beside the gradient that they share."""

import math
from dataclasses import dataclass

from torch import Tensor

from wasam_core.options import whole
from wasam_core.probes.surface import LossSurface


@dataclass(frozen=True, slots=True)
class GradientNoise:
    """What a gradient is made of, at fixed weights.

    Attributes:
        noise: Trace of the covariance of the gradient of one example, ≥ 0; unbiased.
        signal: Squared length of the expected gradient; unbiased, so below 0 where noise hides it.
        micro_batch: Examples whose mean gradient was taken at a time.
        n: Examples in all.
    """

    noise: float
    signal: float
    micro_batch: int
    n: int


def gradient_noise(surface: LossSurface, *, micro_batch: int = 1) -> GradientNoise:
    """Estimate how much the gradients of examples differ, from the mean gradients of micro-batches.

    With g_b the mean gradient of m examples and g their mean over all n,
        E|g_b|² = |G|² + S / m,   E|g|² = |G|² + S / n,
    are two equations for the expected gradient G and the trace S of the covariance.

    Costs n gradient evaluations.

    Args:
        surface: The loss and the weights.
        micro_batch: m ≥ 1; examples that are left over at the end of a batch are left out. There have to be two.

    Raises:
        ValueError: For a micro-batch out of range.

    Source: McCandlish et al. 2018, arXiv 1812.06162, appendix A.1.
    Differs from: the paper, which averages over steps of training: here the weights stay where they are.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.data.fill_(0.0)
        >>> inputs, targets = torch.ones(4, 1), torch.tensor([[1.0], [3.0], [1.0], [3.0]])
        >>> found = gradient_noise(LossSurface(model, torch.nn.functional.mse_loss, [(inputs, targets)]))
        >>> round(found.noise, 4), round(found.signal, 4)  # gradients −2 and −6: variance 16 / 3, mean −4
        (5.3333, 14.6667)
    """
    whole("micro_batch", micro_batch, least=1)
    squares: list[float] = []
    total: list[Tensor] = []
    for inputs, targets in surface.batches:
        for part in zip(inputs.split(micro_batch), targets.split(micro_batch), strict=True):
            if len(part[1]) == micro_batch:
                gradient = [one.double() for one in surface.gradient_at(surface.weights, [part])[1]]
                squares.append(_square(gradient))
                total = [a + b for a, b in zip(total, gradient, strict=True)] if total else gradient
    groups = len(squares)
    if groups < 2:
        raise ValueError(
            f"micro_batch = {micro_batch} was given for {surface.examples} examples: give one that fits in twice."
        )
    n = groups * micro_batch
    together = _square(total) / groups**2
    noise = (math.fsum(squares) / groups - together) / (1 / micro_batch - 1 / n)
    return GradientNoise(noise, together - noise / n, micro_batch, n)


def _square(vector: list[Tensor]) -> float:
    return math.fsum(float((part * part).sum()) for part in vector)
