"""How steeply the loss rises round a set of weights: at worst, on average, and by its curvature.

All measures are taken on a `LossSurface`: fixed batches, eval mode, the BatchNorm statistics that the model has. To
compare sets of weights, recalibrate BatchNorm for each, and give each the same batches and a generator of the same
seed, so that they also share the random directions. For other measures than these, call `rises` and `curvature`.

Sharpness is a description, not a verdict: it depends on the scale of the weights (the adaptive rises of `rises` do
not), and flatter weights need not be better ones (Dinh et al. 2017, arXiv 1703.04933; Andriushchenko et al. 2023, arXiv
2302.07011).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from wasam_core.cost import Cost
from wasam_core.probes.curvature import (
    GRADIENTS_PER_PRODUCT,
    Eigenvalues,
    Hessian,
    Trace,
    hutchinson_trace,
    top_eigenvalues,
)
from wasam_core.probes.rises import AverageCase, WorstCase, average_case_rise, worst_case_rise
from wasam_core.probes.surface import Batch, LossFn, LossSurface, check_batches, count_examples, first_examples

# The effort without a budget; for the largest eigenvalue, products with the Hessian at most.
STEPS, DRAWS, PROBES, MOST_PRODUCTS = 5, 8, 4, 300
# Fewer draws or probes have no standard error. The largest eigenvalue of most nets is found in so many products: small
# conv nets took 19 to 23 after a few epochs of training, where the largest ones lie close together.
FEWEST_DRAWS = FEWEST_PROBES = 2
FEWEST_PRODUCTS = 25
# In gradient evaluations of an example, as `Cost.in_gradients` counts: of the loss alone, of its rises, and before
# anything is measured (the loss twice, for the check of determinism, and the graph of the gradient).
FORWARD = 1 / 3
SEARCH, DRAW = STEPS + FORWARD, 2 * FORWARD
BIRTH = 2 * FORWARD + 1


@dataclass(frozen=True, slots=True)
class Sharpness:
    """All measures of one set of weights.

    Attributes:
        loss: At the weights.
        worst_case, average_case: The rises in the ball of radius rho.
        eigenvalues: The largest one of the Hessian.
        trace: Of the Hessian.
    """

    loss: float
    worst_case: WorstCase
    average_case: AverageCase
    eigenvalues: Eigenvalues
    trace: Trace


def measure_sharpness(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Sequence[Batch],
    *,
    rho: float = 0.05,
    budget: float | None = None,
    generator: torch.Generator,
    cost: Cost | None = None,
) -> Sharpness:
    """Measure the sharpness of the model's weights in all ways; the model is left as it was.

    Costs, in evaluations of all n examples: 6 gradients and 19 forwards, and the products with the Hessian (5 to 10 for
    the eigenvalue, 4 for the trace), which count as 2 gradients each: about 36 n gradient evaluations in all.

    With a `budget`, effort is cut where that costs precision but leaves the meaning of a measure: the draws of the
    average rise go first, then the probes of the trace, both down to 2, and last the examples, of which the first ones
    stay. The steps of the worst rise are never cut, because fewer are another measure, nor is the eigenvalue: 25
    products are set aside for it, and it is nan (`converged` is False) if they do not suffice. The plan depends on the
    settings alone, not on the weights or the clock: equal budgets give all weights the same effort and the same random
    directions, and a repetition gives the same bits. The result names the effort: `trace.n`, `trace.probes`,
    `average_case.draws`.

    Args:
        model: The model, BatchNorm recalibrated if the weights are an average. Its mode, parameters, buffers and
            gradients stay as they are.
        loss_fn: Called as ``loss_fn(outputs, targets)``; returns the mean over the batch.
        batches: A list of (inputs, targets). With 256 examples, a convolutional net of 8,600 weights takes 0.3 s on one
            thread and an MLP of 15,000 takes 0.06 s; the time grows with the examples.
        rho: Radius of the rises, ≥ 0.
        budget: At most so many gradient evaluations, forwards counting as a third (`Cost.in_gradients`); None for no
            limit. Give one budget to all weights that are compared.
        generator: Draws all random directions; seed it alike for all weights that are compared.
        cost: Is billed with what the measurement took.

    Raises:
        TypeError, ValueError: For arguments out of range, a budget too small for one example among them, and if two
            evaluations of the loss disagree.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> batches = [(torch.ones(4, 2), torch.zeros(4, 1))]
        >>> generator = torch.Generator().manual_seed(0)
        >>> sharpness = measure_sharpness(model, nn.functional.mse_loss, batches, generator=generator)
        >>> round(sharpness.eigenvalues.values[0], 4)  # 2 * (1² + 1² + 1²)
        6.0
    """
    batches = check_batches(batches)
    effort = plan_effort(math.inf if budget is None else budget, count_examples(batches))
    surface = LossSurface(model, loss_fn, first_examples(batches, effort.examples), cost=cost)
    hessian = Hessian(surface)
    top = top_eigenvalues(hessian, generator=generator, max_products=effort.products)
    trace = hutchinson_trace(hessian, probes=effort.probes, generator=generator, known=top)
    worst_case = worst_case_rise(surface, rho=rho, steps=STEPS, generator=generator)
    average_case = average_case_rise(surface, rho=rho, draws=effort.draws, generator=generator)
    return Sharpness(surface.loss, worst_case, average_case, top, trace)


class Effort(NamedTuple):
    """Say how many examples, draws, probes and products for the eigenvalue a measurement takes."""

    examples: int
    draws: int
    probes: int
    products: int


def plan_effort(budget: float, examples: int) -> Effort:
    """Return the largest effort for at most `examples` that stays within the budget whatever the weights are.

    Args:
        budget: In gradient evaluations, forwards counting as a third; inf for no limit.
        examples: How many there are.

    Raises:
        ValueError: If one example is too many.
    """
    least = BIRTH + GRADIENTS_PER_PRODUCT * (FEWEST_PRODUCTS + FEWEST_PROBES) + SEARCH + FEWEST_DRAWS * DRAW
    if not budget >= least:
        raise ValueError(
            f"budget = {budget!r} gradient evaluations: one example alone takes {least:.1f}. Give a larger budget."
        )
    examples = int(min(examples, budget / least))
    # What is left beyond the least, in evaluations of all examples.
    room = budget / examples - least
    more_probes = int(min(PROBES - FEWEST_PROBES, room / GRADIENTS_PER_PRODUCT))
    room -= GRADIENTS_PER_PRODUCT * more_probes
    more_draws = int(min(DRAWS - FEWEST_DRAWS, room / DRAW))
    room -= DRAW * more_draws
    products = int(min(MOST_PRODUCTS, FEWEST_PRODUCTS + room / GRADIENTS_PER_PRODUCT))
    return Effort(examples, FEWEST_DRAWS + more_draws, FEWEST_PROBES + more_probes, products)
