"""Contenders under the names that the report gives them, the budgets that they meet in, and what is counted."""

from collections import Counter
from collections.abc import Iterable, Mapping

from dashboards import theme
from study.findings import Findings
from study.plan.selection import Selection
from study.specs.budgets import BUDGETS, OWN_COST, BudgetWords, named
from study.specs.spec import StudySpec
from study.stats import Effect
from study.stats.effects import Unit

_CEILING: float = StudySpec.model_fields["gradient_ceiling"].default


def method_of(role: str) -> str:
    """Return whose role it is: ``SGD`` of ``SGD best``, and a method's name for itself."""
    if role in theme.methods():
        return role
    whose = (name for name in theme.methods() if role in (f"{name} last", f"{name} best"))
    return next(whose, role)


def keeps_last(role: str) -> bool:
    """Tell whether a role is that of a baseline which keeps its last weights; it is drawn open."""
    return role not in theme.methods() and role.endswith(" last")


def longer(name: str, length: float) -> str:
    """Add a training length to a name, where it is not the cell's own."""
    return name if length == 1 else f"{name}, {length:g}× epochs"


def in_epochs(name: str, epochs: int, best_at: float | None = None) -> str:
    """Say a baseline with its length: "SGD best, 2× epochs" of 15 epochs is "SGD, 30 epochs, best epoch".

    Args:
        name: A baseline by its role and length; a method's name stays.
        epochs: The cell's; 0 where they are not known, and the name stays.
        best_at: The epoch that validation prefers in the median run, where that is known.
    """
    role, _, length = name.partition(", ")
    method, _, weights = role.rpartition(" ")
    if not method or weights not in ("best", "last") or not epochs:
        return name
    factor = float(length.partition("×")[0]) if "×" in length else 1.0
    kept = "last weights" if weights == "last" else f"best at {best_at:.3g}" if best_at else "best epoch"
    return f"{method}, {factor * epochs:.4g} epochs, {kept}"


def lengths_under(effect: Effect) -> tuple[float, ...]:
    """Return the training lengths that an effect's baselines have, in multiples of the cell's epochs."""
    found = {float(one.baseline.rpartition(", ")[2].partition("×")[0]) for one in effect.against if "×" in one.baseline}
    return tuple(sorted({1.0, *found} if any("×" not in one.baseline for one in effect.against) else found))


def label_of(chosen: Selection) -> str:
    """Name a contender by what it may use: ``SGD best, 2× epochs``, and ``SWA, up to 2× epochs``."""
    known = chosen.method in theme.methods()
    if chosen.lengths[-1] == 1 or (known and theme.methods().is_baseline(chosen.method)):
        return chosen.contender
    return f"{chosen.contender}, up to {chosen.lengths[-1]:g}× epochs"


def budget_words(findings: Findings, budget: str) -> BudgetWords:
    """Return what a budget of this study is called; one that nobody knows goes by its letter."""
    if budget == OWN_COST:
        return named(OWN_COST, None)
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
    return {"replicate": "replicates", "seed": "seeds of one tuning", "run": "runs"}[unit_of(findings)]


def delta_of(findings: Findings, task: str) -> float:
    """Return δ in a task's unit."""
    return findings.deltas.get(task, findings.delta)


def families_of(findings: Findings) -> Mapping[tuple[str, str], int]:
    """Return how many comparisons Holm's correction is for, by method and budget: one a problem."""
    return Counter((effect.method, effect.budget) for effect in findings.effects)


def excludes_zero(effect: Effect) -> bool:
    """Tell whether the plain 95 % interval lies on one side of zero."""
    low, high = effect.ci95
    return low > 0 or high < 0
