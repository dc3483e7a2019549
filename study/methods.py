"""The methods: which gradient × which weights, one literal table.

SGD, SWA, SAM and WASAM are the four corners of a 2×2. A *family* is the trajectory that is trained: the
``base`` family follows the plain gradient, the ``sam`` family the sharpness-aware one. Averaging reads a
trajectory without changing it, so one run of a family answers for its last and for all of its averaged weights.
"""

from dataclasses import dataclass
from typing import Literal

Family = Literal["base", "sam"]
Weights = Literal["last", "averaged"]


@dataclass(frozen=True, slots=True)
class Method:
    """One corner of the 2×2.

    Attributes:
        name: The field's name for it.
        family: The trajectory it reads.
        weights: ``last``: the final iterate. ``averaged``: validation chooses among all averages *and* the
            final iterate, so that "no averaging" lies inside the space of every averaging method.
        gradients_per_step: Forward-backward passes per optimizer step.
    """

    name: str
    family: Family
    weights: Weights
    gradients_per_step: int


METHODS: dict[str, Method] = {
    "SGD": Method("SGD", "base", "last", 1),
    "SWA": Method("SWA", "base", "averaged", 1),
    "SAM": Method("SAM", "sam", "last", 2),
    "WASAM": Method("WASAM", "sam", "averaged", 2),
}
BASELINE = "SGD"


def epochs_factor_of_baseline(method: str, budget: str) -> int:
    """Return how many times the epochs the baseline gets when it is held against ``method``.

    Budget ``E`` (equal epochs): 1. Budget ``G`` (equal gradient evaluations): the number of forward-backward
    passes that ``method`` makes per step, so 1 for SWA (its two budgets coincide) and 2 for SAM and WASAM.
    """
    return METHODS[method].gradients_per_step if budget == "G" else 1
