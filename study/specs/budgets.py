"""Budgets: what a method and its baselines may spend at most, and its words: one table for whoever names a budget.

A budget is a ceiling, tuning included. **E**: the cell's epochs. **G**: ``gradient_ceiling`` times the gradient
evaluations of the base at the cell's epochs, a number of the spec. **T**: the time that the method itself takes.
"""

from dataclasses import dataclass
from typing import Final, Literal

Budget = Literal["E", "G", "T"]
OWN_COST: Final[Literal["own cost"]] = "own cost"
Spending = Budget | Literal["own cost"]
"""What a comparison is at: a budget of a study, or, of results made elsewhere, whatever each side's runs spent."""


@dataclass(frozen=True, slots=True)
class BudgetWords:
    """What a budget is called: in full, as after "at", and short enough for a column."""

    name: str
    short: str


# ``{ceiling}`` is the spec's: `named` fills it in.
BUDGETS: dict[Budget, BudgetWords] = {
    "E": BudgetWords("equal epochs", "equal epochs"),
    "G": BudgetWords("up to {ceiling:g}× the gradient evaluations", "≤ {ceiling:g}× gradients"),
    "T": BudgetWords("up to the method's own reference time", "≤ its time"),
}
# Under protocol 1 a budget was not a ceiling but an amount, which the baseline had to spend.
_SPENT: dict[Budget, BudgetWords] = {
    "G": BudgetWords("equal gradient evaluations, all of them spent", "equal gradients"),
    "T": BudgetWords("equal reference time, all of it spent", "equal time"),
}


def named(budget: Spending, ceiling: float | None) -> BudgetWords:
    """Return the words of a budget of a study, or of what results made elsewhere have in place of one.

    Args:
        budget: The budget.
        ceiling: The spec's ``gradient_ceiling``; None under protocol 1, which had none.
    """
    if budget == OWN_COST:
        return BudgetWords("each method's own cost", OWN_COST)
    if ceiling is None:
        return _SPENT.get(budget, BUDGETS[budget])
    words = BUDGETS[budget]
    return BudgetWords(words.name.format(ceiling=ceiling), words.short.format(ceiling=ceiling))
