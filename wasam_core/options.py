"""Check a number that a caller gave: one sentence says what it was and what it may be."""

import math


def whole(name: str, value: float, least: int) -> int:
    """Return `value` as an int, or say that it must be one ≥ `least`."""
    if isinstance(value, bool) or not value >= least or value % 1:
        raise ValueError(f"{name} = {value!r}: give an int >= {least}.")
    return int(value)


def check_rho(rho: float) -> float:
    """Return `rho`, or say what it must be."""
    if not 0.0 <= rho < math.inf:
        raise ValueError(
            f"rho = {rho!r}: the radius of the perturbation must be a finite number >= 0; 0 turns the perturbation off."
        )
    return rho
