"""How steeply the loss rises round a set of weights: at worst, on average, and by its curvature.

All measures are taken on a `LossSurface`: fixed batches, eval mode, the BatchNorm statistics that the model has. To
compare sets of weights, recalibrate BatchNorm for each, and give each the same batches and a generator of the same
seed, so that they also share the random directions.

Sharpness is a description, not a verdict: it depends on the scale of the weights unless `adaptive`, and flatter
weights need not be better ones (Dinh et al. 2017, arXiv 1703.04933; Andriushchenko et al. 2023, arXiv 2302.07011).

How much work a measurement may take is planned in advance from a number of gradient evaluations.
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
    enough_products,
    hutchinson_trace,
    top_eigenvalues,
)
from wasam_core.probes.rises import AverageCase, WorstCase, average_case_rise, worst_case_rise
from wasam_core.probes.surface import (
    Batch,
    LossFn,
    LossSurface,
    check_batches,
    count_examples,
    first_examples,
)

# In gradient evaluations of an example, as `Cost.in_gradients` counts.
FORWARD = 1 / 3
# The loss twice, for the check of determinism, and the graph of the gradient.
BIRTH = 2 * FORWARD + 1
# Fewer of these have no standard error.
FEWEST_DRAWS = FEWEST_PROBES = 2
MOST_PRODUCTS = 300


@dataclass(frozen=True, slots=True)
class Sharpness:
    """All measures of one set of weights, with what they cost.

    Attributes:
        loss: At the weights.
        worst_case, average_case: In the ball of radius `rho`.
        adaptive_worst_case, adaptive_average_case: In that of radius `adaptive_rho`; None if that was None.
        eigenvalues: The largest ones of the Hessian.
        trace: Of the Hessian.
        parameters: Number of weights moved, d.
        n: Examples in the loss.
        gradient_evaluations, forward_evaluations: As in `Cost`.
    """

    loss: float
    worst_case: WorstCase
    average_case: AverageCase
    adaptive_worst_case: WorstCase | None
    adaptive_average_case: AverageCase | None
    eigenvalues: Eigenvalues
    trace: Trace
    parameters: int
    n: int
    gradient_evaluations: int
    forward_evaluations: int

    def numbers(self) -> dict[str, float]:
        """Return the measured values by name, flat, for a table or a record; what was left out is left out."""
        found = {
            "loss": self.loss,
            "worst_case_rise": self.worst_case.rise,
            "average_case_rise": self.average_case.rise,
            "average_case_rise_se": self.average_case.standard_error,
            "trace": self.trace.value,
            "trace_se": self.trace.standard_error,
        }
        found |= {f"eigenvalue_{rank}": value for rank, value in enumerate(self.eigenvalues.values, start=1)}
        if self.adaptive_worst_case is not None and self.adaptive_average_case is not None:
            found |= {
                "adaptive_worst_case_rise": self.adaptive_worst_case.rise,
                "adaptive_average_case_rise": self.adaptive_average_case.rise,
                "adaptive_average_case_rise_se": self.adaptive_average_case.standard_error,
            }
        return found


def measure_sharpness(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Sequence[Batch],
    *,
    rho: float = 0.05,
    adaptive_rho: float | None = None,
    steps: int = 5,
    restarts: int = 0,
    micro_batch: int | None = None,
    draws: int = 8,
    eigenvalues: int = 1,
    probes: int = 4,
    budget: float | None = None,
    generator: torch.Generator,
    cost: Cost | None = None,
) -> Sharpness:
    """Measure the sharpness of the model's weights in all ways; the model is left as it was.

    Costs, in evaluations of all n examples, by default: 6 gradients and 19 forwards, and the products with the
    Hessian (5 to 10 for the eigenvalue, 4 for the trace), which count as 2 gradients each: about 36 n gradient
    evaluations in all, as `Cost.in_gradients` counts. `adaptive_rho` adds 5 gradients and 17 forwards.

    With a `budget`, effort is cut where that costs precision but leaves the meaning of a measure: the restarts go
    first, then the draws, then the probes, both down to 2, and last the examples, of which the first ones stay. Radii
    and steps are never cut, because other ones are another measure, nor are the eigenvalues: 25 products are set
    aside for one, and it is nan (`converged` is False) if they do not suffice. The plan depends on the settings
    alone, not on the weights or the clock: equal budgets give all weights the same effort and the same random
    directions, and a repetition gives the same bits. The result names the effort: `n`, `worst_case.restarts`,
    `average_case.draws`, `trace.probes`.

    Args:
        model: The model, BatchNorm recalibrated if the weights are an average. Its mode, parameters, buffers and
            gradients stay as they are.
        loss_fn: Called as ``loss_fn(outputs, targets)``; returns the mean over the batch.
        batches: A list of (inputs, targets). With 256 examples, a convolutional net of 8,600 weights takes 0.3 s on one
            thread and an MLP of 15,000 takes 0.06 s; the time grows with the examples.
        rho: Radius of the rises, ≥ 0.
        adaptive_rho: Radius of the adaptive rises, ≥ 0, as a share of the weights; None leaves them out.
        steps, restarts, micro_batch: See `worst_case_rise`.
        draws: See `average_case_rise`.
        eigenvalues: How many of the largest, from 1 to d - 1; see `top_eigenvalues`.
        probes: For the trace, ≥ 2; see `hutchinson_trace`.
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
        >>> sharpness = measure_sharpness(
        ...     model, nn.functional.mse_loss, batches, generator=torch.Generator().manual_seed(0)
        ... )
        >>> round(sharpness.numbers()["eigenvalue_1"], 4)  # 2 * (1² + 1² + 1²)
        6.0
    """
    batches = check_batches(batches)
    effort = plan_effort(
        math.inf if budget is None else budget,
        examples=count_examples(batches),
        restarts=restarts,
        draws=draws,
        probes=probes,
        steps=steps,
        eigenvalues=eigenvalues,
        radii=1 if adaptive_rho is None else 2,
    )
    spent = Cost()
    surface = LossSurface(model, loss_fn, first_examples(batches, effort.examples), cost=spent)
    hessian = Hessian(surface)
    top = top_eigenvalues(hessian, eigenvalues, generator=generator, max_products=effort.max_products)
    trace = hutchinson_trace(hessian, probes=effort.probes, generator=generator, known=top)

    def rises(radius: float, adaptive: bool) -> tuple[WorstCase, AverageCase]:
        worst = worst_case_rise(
            surface,
            rho=radius,
            adaptive=adaptive,
            steps=steps,
            restarts=effort.restarts,
            micro_batch=micro_batch,
            generator=generator,
        )
        average = average_case_rise(surface, rho=radius, adaptive=adaptive, draws=effort.draws, generator=generator)
        return worst, average

    worst_case, average_case = rises(rho, adaptive=False)
    adaptive_worst, adaptive_average = (None, None) if adaptive_rho is None else rises(adaptive_rho, adaptive=True)
    if cost is not None:
        cost.bill_gradients(spent.gradient_evaluations)
        cost.bill_forwards(spent.forward_evaluations)
    return Sharpness(
        loss=surface.loss,
        worst_case=worst_case,
        average_case=average_case,
        adaptive_worst_case=adaptive_worst,
        adaptive_average_case=adaptive_average,
        eigenvalues=top,
        trace=trace,
        parameters=surface.size,
        n=surface.examples,
        gradient_evaluations=spent.gradient_evaluations,
        forward_evaluations=spent.forward_evaluations,
    )


class Effort(NamedTuple):
    """Say how many examples, random directions and products a measurement takes; see `measure_sharpness`."""

    examples: int
    restarts: int
    draws: int
    probes: int
    max_products: int


def plan_effort(
    budget: float, *, examples: int, restarts: int, draws: int, probes: int, steps: int, eigenvalues: int, radii: int
) -> Effort:
    """Return the largest effort, up to the one asked for, that stays within the budget whatever the weights are.

    Args:
        budget: In gradient evaluations, forwards counting as a third; inf for no limit.
        examples, restarts, draws, probes: What is asked for; draws give way to the probes, and so on to the left.
        steps, eigenvalues: Are never cut.
        radii: Number of balls searched, 1 or 2.

    Raises:
        ValueError: If one example is too many.

    Example:
        >>> asked = {"examples": 256, "restarts": 0, "draws": 8, "probes": 4}
        >>> plan_effort(8000, **asked, steps=5, eigenvalues=1, radii=1)
        Effort(examples=128, restarts=0, draws=2, probes=2, max_products=25)
    """
    search, draw = radii * (steps + FORWARD), radii * 2 * FORWARD
    products = enough_products(eigenvalues)
    least = BIRTH + GRADIENTS_PER_PRODUCT * (products + FEWEST_PROBES) + search + FEWEST_DRAWS * draw
    if not budget >= least:
        raise ValueError(
            f"budget = {budget!r} gradient evaluations: one example alone takes {least:.1f} with these settings. Give "
            "a larger budget, or ask for fewer steps or eigenvalues."
        )
    examples = int(min(examples, budget / least))
    # What is left beyond the least, in evaluations of all examples.
    room = budget / examples - least
    more_probes = int(min(probes - FEWEST_PROBES, room / GRADIENTS_PER_PRODUCT))
    room -= GRADIENTS_PER_PRODUCT * more_probes
    more_draws = int(min(draws - FEWEST_DRAWS, room / draw))
    room -= draw * more_draws
    restarts = int(min(restarts, room / search))
    room -= search * max(restarts, 0)
    return Effort(
        examples,
        restarts,
        FEWEST_DRAWS + more_draws,
        FEWEST_PROBES + more_probes,
        int(min(MOST_PRODUCTS, products + room / GRADIENTS_PER_PRODUCT)),
    )
