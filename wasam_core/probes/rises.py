"""How far the loss rises within a radius of the weights: at worst, and on average."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wasam_core.norms import global_norm
from wasam_core.options import check_rho, whole
from wasam_core.probes.surface import Batch, LossSurface, count_examples

Vector = list[Tensor]


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The largest rise of the loss found in a ball of radius rho; the true maximum is at least as large.

    Attributes:
        rise: In the unit of the loss, ≥ 0; inf if the loss is not finite somewhere on the way.
        rho: The radius.
        adaptive: Whether the ball is scaled by the size of each weight.
        steps: Gradients of the search.
        micro_batch: Examples that share a perturbation; None for all together.
        n: Examples in the loss.
    """

    rise: float
    rho: float
    adaptive: bool
    steps: int
    micro_batch: int | None
    n: int


@dataclass(frozen=True, slots=True)
class AverageCase:
    """The mean rise of the loss under random perturbations of mean squared length rho².

    Attributes:
        rise: In the unit of the loss; negative where the loss bends down on average.
        standard_error: Over the draws, at these examples.
        rho: The root-mean-square length.
        adaptive: Whether perturbations are scaled by the size of each weight.
        draws: Directions, each taken forth and back.
        n: Examples in the loss.
    """

    rise: float
    standard_error: float
    rho: float
    adaptive: bool
    draws: int
    n: int


def worst_case_rise(
    surface: LossSurface,
    *,
    rho: float = 0.05,
    adaptive: bool = False,
    steps: int = 5,
    micro_batch: int | None = None,
    generator: torch.Generator,
) -> WorstCase:
    """Search the ball of radius rho round the weights for the largest rise of the loss.

    With T = 1, or T = |w| if `adaptive`, the maximum over ||e / T|| ≤ rho of L(w + e) - L(w) is approached from e = 0
    by steps that each go to the best point of the ball for the loss's linear part,
        e <- rho * T² g / ||T g||,   g = gradient of L at w + e,
    and the highest loss on the way counts. The first step is SAM's; on a convex loss each one goes up. A zero gradient
    (at an exact minimum) is followed by a random point of the sphere.

    Costs steps * n gradient and n forward evaluations.

    Args:
        surface: The loss and the weights.
        rho: Radius ≥ 0, in the unit of the weights, or as a share of them if `adaptive`.
        adaptive: Scale the ball by |w|; weights that are 0 stay.
        steps: Gradients (≥ 1); 1 is SAM's own estimate.
        micro_batch: m ≥ 1: search for each m examples of a batch on their own and average the rises ("m-sharpness").
            None: one perturbation for all examples.
        generator: Draws a random point; untouched if none is needed.

    Raises:
        ValueError: For arguments out of range.

    Source: Foret et al. 2021 (arXiv 2010.01412): the definition of sharpness, and m-sharpness; Kwon et al. 2021 (arXiv
        2102.11600): adaptive sharpness; Andriushchenko et al. 2023 (arXiv 2302.07011): both, in one notation.

    Differs from: Andriushchenko et al., who search by Auto-PGD, whose steps are shorter; and Kwon et al., whose offset
        of |w| is 0 here.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.data.fill_(2.0)
        >>> surface = LossSurface(model, torch.nn.functional.mse_loss, [(torch.ones(4, 1), torch.zeros(4, 1))])
        >>> worst_case_rise(surface, rho=1.0, generator=torch.Generator()).rise  # 3² - 2²
        5.0
    """
    check_rho(rho)
    whole("steps", steps, least=1)
    groups: list[Sequence[Batch]] = [surface.batches]
    if micro_batch is not None:
        whole("micro_batch", micro_batch, least=1)
        groups = [[part] for batch in surface.batches for part in _split(batch, micro_batch)]
    scale = _scale(surface, adaptive)
    rises = [_search(surface, group, scale, rho, steps, generator) for group in groups]
    sizes = [count_examples(group) for group in groups]
    rise = math.fsum(size * value for size, value in zip(sizes, rises, strict=True)) / surface.examples
    return WorstCase(rise, rho, adaptive, steps, micro_batch, surface.examples)


def average_case_rise(
    surface: LossSurface,
    *,
    rho: float = 0.05,
    adaptive: bool = False,
    draws: int = 8,
    generator: torch.Generator,
) -> AverageCase:
    """Estimate the mean rise of the loss under Gaussian perturbations of the weights.

    With T = 1, or T = |w| if `adaptive`, d weights and z ~ N(0, I),
        e = rho / sqrt(d) * T z,   rise = E[L(w + e)] - L(w) ≈ rho² / (2 d) * tr(T H T),
    so that E||e / T||² = rho², and the rise compares with the worst one at the same rho. Each direction is taken forth
    and back, which removes the slope from the noise.

    Costs 2 * draws * n forward evaluations. In float32 a loss resolves about 1e-7 of itself: choose rho so large that
    the rise is well above that, or use a float64 model.

    Args:
        surface: The loss and the weights.
        rho: Root-mean-square length ≥ 0, in the unit of the weights, or as a share of them if `adaptive`.
        adaptive: Scale by |w|.
        draws: Directions (≥ 2).
        generator: Draws them.

    Raises:
        ValueError: For arguments out of range.

    Source: Andriushchenko et al. 2023 (arXiv 2302.07011): average-case sharpness.

    Differs from: the paper, where e = rho * T z: its rho is ours divided by sqrt(d).
    """
    check_rho(rho)
    whole("draws", draws, least=2)
    scale = _scale(surface, adaptive)
    rises = []
    for _ in range(draws):
        direction = _times(scale, _draw(surface, generator))
        there, back = (
            surface.loss_at(_moved(surface, direction, sign * rho / math.sqrt(surface.size))) for sign in (1, -1)
        )
        rises.append((there + back) / 2 - surface.loss)
    rise = math.fsum(rises) / draws
    error = math.sqrt(math.fsum((found - rise) ** 2 for found in rises) / (draws - 1) / draws)
    return AverageCase(rise, error, rho, adaptive, draws, surface.examples)


def _search(
    surface: LossSurface,
    batches: Sequence[Batch],
    scale: Vector | None,
    rho: float,
    steps: int,
    generator: torch.Generator,
) -> float:
    """Return the highest rise found on `batches`."""
    losses: list[float] = []
    unit = [torch.zeros_like(w) for w in surface.weights]
    for _ in range(steps):
        loss, gradient = surface.gradient_at(_moved(surface, _times(scale, unit), rho), batches)
        losses.append(loss)
        # A zero gradient names no direction, and any will do.
        unit = _unit(_times(scale, gradient)) or _unit(_draw(surface, generator))
    losses.append(surface.loss_at(_moved(surface, _times(scale, unit), rho), batches))
    if not all(map(math.isfinite, losses)):
        return math.inf
    return max(losses) - losses[0]


def _unit(vector: Vector) -> Vector:
    """Scale the vector to length 1; return an empty one if its length is 0 or not finite."""
    norm = global_norm(vector)
    return [v / norm for v in vector] if 0.0 < norm < math.inf else []


def _moved(surface: LossSurface, direction: Vector, length: float) -> Sequence[Tensor]:
    return torch._foreach_add(surface.weights, direction, alpha=length)


def _scale(surface: LossSurface, adaptive: bool) -> Vector | None:
    return list(torch._foreach_abs(surface.weights)) if adaptive else None


def _times(scale: Vector | None, vector: Vector) -> Vector:
    return vector if scale is None else list(torch._foreach_mul(vector, scale))


def _draw(surface: LossSurface, generator: torch.Generator) -> Vector:
    return [
        torch.randn(w.shape, generator=generator, device=generator.device, dtype=torch.float64).to(w)
        for w in surface.weights
    ]


def _split(batch: Batch, size: int) -> Iterator[Batch]:
    inputs, targets = batch
    return zip(inputs.split(size), targets.split(size), strict=True)
