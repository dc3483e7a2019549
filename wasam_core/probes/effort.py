"""How much work a measurement of sharpness may take, planned in advance from a number of gradient evaluations."""

from typing import NamedTuple

from wasam_core.probes.curvature import GRADIENTS_PER_PRODUCT, enough_products

# In gradient evaluations of an example, as `Cost.in_gradients` counts.
FORWARD = 1 / 3
# The loss twice, for the check of determinism, and the graph of the gradient.
BIRTH = 2 * FORWARD + 1
# Fewer of these have no standard error.
FEWEST_DRAWS = FEWEST_PROBES = 2
MOST_PRODUCTS = 300


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
