"""The rules of perturbation by name: plain, and adaptive in the two ways that are in use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Variant = Literal["sam", "asam", "asam-common"]


@dataclass(frozen=True)
class Rule:
    """Say which parameters are rescaled by their own size before the ascent step.

    With T = |w| + eta for rescaled parameters and T = 1 for the others, the perturbation is
    rho * T² g / ||T g||, and the norm runs over all perturbed parameters together.
    """

    rescales: Callable[[str], bool] | None
    eta: float
    source: str


RULES: dict[str, Rule] = {
    "sam": Rule(None, 0.0, "Foret 2021, eq. 2"),
    "asam": Rule(lambda name: "weight" in name, 0.01, "Kwon 2021, eq. 10; the authors' code"),
    "asam-common": Rule(lambda name: True, 0.0, "Kwon 2021 without eta and on every parameter"),
}


def find_rule(variant: str) -> Rule:
    """Return the rule called `variant`, or say which ones exist."""
    if variant not in RULES:
        raise ValueError(f"variant = {variant!r}: choose one of {', '.join(map(repr, RULES))}.")
    return RULES[variant]
