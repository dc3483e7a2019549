"""Tuned effects without repetition: where two budgets coincide, one comparison stands for both."""

from collections.abc import Iterable
from dataclasses import dataclass

from dashboards.cells import short_budget
from study.stats import Effect


@dataclass(frozen=True, slots=True)
class Distinct:
    """An effect and the budgets it stands for, the primary one first."""

    effect: Effect
    budgets: tuple[str, ...]

    @property
    def budget_words(self) -> str:
        """Say the budgets after "at equal": ``epochs``, or both where they coincide."""
        return " and ".join(short_budget(budget) for budget in self.budgets)


def distinct(effects: Iterable[Effect], primary_budget: str) -> tuple[Distinct, ...]:
    """Merge effects of one cell and method whose gains and verdicts are equal; keeps their order otherwise."""
    found: dict[tuple[object, ...], Distinct] = {}
    for effect in sorted(effects, key=lambda effect: effect.budget != primary_budget):
        key = (effect.cell, effect.method, effect.differences, effect.planned, effect.verdict)
        if key in found:
            found[key] = Distinct(found[key].effect, (*found[key].budgets, effect.budget))
        else:
            found[key] = Distinct(effect, (effect.budget,))
    return tuple(found.values())
