"""Contenders under the names that the report gives them, the budgets that they meet in, and what is counted."""

from collections.abc import Iterable, Mapping

from study.findings import Findings
from study.plan.selection import Selection
from study.specs.budgets import BUDGETS, BudgetWords, named
from study.specs.methods import METHODS, is_baseline
from study.specs.spec import StudySpec
from study.stats import Effect
from study.stats.effects import Unit

_CEILING: float = StudySpec.model_fields["gradient_ceiling"].default


def method_of(role: str) -> str:
    """Return whose role it is: ``SGD`` of ``SGD best``, and a method's name for itself."""
    return role if role in METHODS else next((name for name in METHODS if role.startswith(f"{name} ")), role)


def keeps_last(role: str) -> bool:
    """Tell whether a role is that of a baseline which keeps its last weights; it is drawn open."""
    return role not in METHODS and role.endswith(" last")


def longer(name: str, length: float) -> str:
    """Add a training length to a name, where it is not the cell's own."""
    return name if length == 1 else f"{name}, {length:g}× epochs"


def label_of(chosen: Selection) -> str:
    """Name a contender by what it may use: ``SGD best, 2× epochs``, and ``SWA, up to 2× epochs``."""
    if chosen.lengths[-1] == 1 or (chosen.method in METHODS and is_baseline(chosen.method)):
        return chosen.contender
    return f"{chosen.contender}, up to {chosen.lengths[-1]:g}× epochs"


def budget_words(findings: Findings, budget: str) -> BudgetWords:
    """Return what a budget of this study is called; one that nobody knows goes by its letter."""
    if budget not in BUDGETS:
        return BudgetWords(budget, budget)
    given = findings.spec.get("gradient_ceiling")
    ceiling = float(given) if isinstance(given, int | float) else _CEILING
    return named(budget, None if findings.protocol == 1 else ceiling)


def budget_name(findings: Findings, budget: str) -> str:
    """Return what follows "at" in a sentence: "equal epochs", "up to 2× the gradient evaluations"."""
    return budget_words(findings, budget).name


def short_budgets(findings: Findings, budgets: Iterable[str]) -> str:
    """Return the words of budgets that coincide, short enough for a column."""
    return " and ".join(budget_words(findings, budget).short for budget in budgets)


def unit_of(findings: Findings) -> Unit:
    """Return what the intervals of a study are over."""
    return next((effect.unit for effect in findings.effects), "replicate")


def unit_words(findings: Findings) -> str:
    """Return it in the plural: "replicates", "seeds of one tuning"."""
    return {"replicate": "replicates", "seed": "seeds of one tuning"}[unit_of(findings)]


def runs_of_a_unit(findings: Findings) -> int:
    """Return the confirm seeds of a replicate; 1 where the seeds are the units."""
    confirms = findings.spec.get("confirms")
    return confirms if isinstance(confirms, int) and unit_of(findings) == "replicate" else 1


def delta_of(findings: Findings, task: str) -> float:
    """Return δ in a task's unit."""
    return findings.deltas.get(task, findings.delta)


def families_of(findings: Findings) -> Mapping[tuple[str, str], int]:
    """Return how many comparisons Holm's correction is for, by method and budget: one a problem."""
    sizes: dict[tuple[str, str], int] = {}
    for effect in findings.effects:
        sizes[effect.method, effect.budget] = sizes.get((effect.method, effect.budget), 0) + 1
    return sizes


def excludes_zero(effect: Effect) -> bool:
    """Tell whether the plain 95 % interval lies on one side of zero."""
    low, high = effect.ci95
    return low > 0 or high < 0
