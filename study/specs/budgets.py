"""Budgets: what a method and its baseline may spend alike, and its words: one table for whoever names a budget."""

from dataclasses import dataclass
from typing import Literal

Budget = Literal["E", "G", "T"]


@dataclass(frozen=True, slots=True)
class BudgetWords:
    """What a budget is called: in full, as in "at equal epochs", and in a column where "equal" is understood."""

    name: str
    short: str


BUDGETS: dict[Budget, BudgetWords] = {
    "E": BudgetWords("equal epochs", "epochs"),
    "G": BudgetWords("equal gradient evaluations", "gradients"),
    "T": BudgetWords("equal reference time", "time"),
}
