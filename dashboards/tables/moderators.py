"""What a method's gain moves with, over problems: slopes with their intervals, and the exploratory rule in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dashboards import prose, theme
from dashboards.contenders import budget_name
from dashboards.score import Score, pooled_score
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.findings import Findings
from study.stats import Effect, Moderator, ModeratorRule
from study.stats.clustered import MIN_TASKS

_BASELINE_SCORE = "baseline score"  # as findings call it


@dataclass(frozen=True, slots=True)
class Slope:
    """A moderator that has a slope, under the primary budget.

    ``span`` is the distance from the lowest to the highest value among the problems, NaN where findings do not hold
    the values; 1 for a level against the first. ``across`` and its interval are the slope times that distance.
    """

    moderator: Moderator
    span: float

    @property
    def across(self) -> float:
        """How much the gain changes from the lowest to the highest value, as a fraction."""
        return self.moderator.slope * self.span

    @property
    def across95(self) -> tuple[float, float]:
        """The interval of ``across``."""
        low, high = self.moderator.ci95
        return low * self.span, high * self.span

    @property
    def words(self) -> str:
        """Name the factor, and the level where it is one."""
        name = self.moderator.factor.replace("_", " ")
        return f"{name}: {self.moderator.level}" if self.moderator.level else name


def slopes_of(findings: Findings) -> tuple[Slope, ...]:
    """Return the moderators with a slope, in the findings' order."""
    primary = [effect for effect in findings.effects if effect.budget == findings.primary_budget]
    score = pooled_score(findings)
    return tuple(
        Slope(
            _as_measured(moderator, score),
            _span(moderator, [effect for effect in primary if effect.method == moderator.method]),
        )
        for moderator in findings.moderators
        if moderator.budget == findings.primary_budget and theme.known(moderator.slope)
    )


def _as_measured(moderator: Moderator, score: Score) -> Moderator:
    """Return the slope over the baseline's score under the name and in the direction of its metric."""
    if moderator.factor != _BASELINE_SCORE:
        return moderator
    slope, ends = score.measured(moderator.slope), score.ends(moderator.ci95)
    return replace(moderator, factor=f"baseline {score.name}", slope=slope, ci95=ends)


def _span(moderator: Moderator, effects: Sequence[Effect]) -> float:
    if moderator.level:
        return 1.0
    if moderator.kind == "factor":
        values = [dict(effect.factors).get(moderator.factor) for effect in effects]
    elif moderator.factor == _BASELINE_SCORE:
        # As the study measures it: in the replicates (or seeds) that the gain leaves out.
        halves = [effect.baseline_values[::2] for effect in effects if effect.baseline_values]
        values = [sum(half) / len(half) for half in halves]
    else:
        return math.nan
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return max(numbers) - min(numbers) if numbers else math.nan


def slope_table(findings: Findings) -> Table:
    """Return one row a method and factor."""
    slopes, score = slopes_of(findings), pooled_score(findings)
    found = [slope.moderator for slope in slopes]
    return columns.table_of(
        "moderators",
        "How the gain moves with what differs between problems; the task is the unit.",
        (
            columns.methods("Method", "method", [m.method for m in found]),
            columns.words("Factor", "factor", [slope.words for slope in slopes]),
            *columns.estimates(
                f"Slope per unit, {theme.unit()}",
                "slope",
                [(m.slope, m.ci95) for m in found],
                lambda slope: theme.signed(theme.in_points(slope)),
            ),
            *columns.estimates(
                f"Lowest to highest, {theme.unit()}",
                "across",
                [(slope.across, slope.across95) for slope in slopes],
                ends="across_ci95",
            ),
            columns.numbers("p", "p", [m.p for m in found], theme.p_value),
            columns.counts("n", "tasks", [m.tasks for m in found], list(map(_witnesses, found))),
            columns.words(
                "Adjusted for",
                "adjusted_for",
                [prose.listed([name.replace("_", " ") for name in m.adjusted_for]) or "nothing" for m in found],
            ),
            columns.units([score] * len(found)),
        ),
        groups=[m.method for m in found],
    )


def _witnesses(moderator: Moderator) -> str:
    where = "within" if moderator.within else "between"
    return f"{where} {prose.things(moderator.tasks, 'task')}, {prose.things(moderator.cells, 'cell')}"


def slope_heading(findings: Findings) -> str:
    """State which gains move with which factors, by the 95 % interval."""
    slopes = slopes_of(findings)
    sure = [s for s in slopes if s.moderator.ci95[0] > 0 or s.moderator.ci95[1] < 0]
    if not sure:
        return f"None of {prose.things(len(slopes), 'slope')} over problems has a 95 % interval that excludes zero"
    clauses = [f"{s.moderator.method} with {s.words} ({'up' if s.moderator.slope > 0 else 'down'})" for s in sure[:4]]
    rest = f" and {len(sure) - 4} more" if len(sure) > 4 else ""
    told = ", ".join(clauses) + rest if rest else prose.listed(clauses)
    return f"{len(sure)} of {prose.things(len(slopes), 'slope')} have a 95 % interval that excludes zero: {told}"


def slope_reading(findings: Findings) -> str:
    """Say how the table is read."""
    return (
        f"Gains at {budget_name(findings, findings.primary_budget)}, one mean a problem. Above "
        "zero the method gains more where the factor is higher (or at the named level rather than the first). "
        "A factor that varies within tasks is read within them, and its interval is what leaving out tasks changes; "
        "one that is the same in all problems of a task is read over the means of tasks, which differ in much else. "
        "Student's t, unadjusted for the number of slopes. "
        "What was measured on the baseline comes from other "
        f"replicates (or seeds) than the gain. A slope needs {MIN_TASKS} tasks that tell something of it."
    )


def rule_sentences(findings: Findings) -> list[str]:
    """Say the exploratory rule of every method, or that there is none to rely on."""
    return [_rule_sentence(rule) for rule in findings.rules]


def _rule_sentence(rule: ModeratorRule) -> str:
    if not rule.reliable:
        if math.isnan(rule.r2):
            return (
                f"{rule.method}: no reliable rule found ({prose.things(rule.tasks, 'task')} with "
                f"{prose.things(rule.cells, 'cell')}; {MIN_TASKS} tasks and something that varies are needed)."
            )
        return (
            f"{rule.method}: no reliable rule found (it is not shown to predict tasks that it has not seen better than "
            f"their mean; p {theme.p_value(rule.p)})."
        )
    leaves = "; ".join(
        f"{' and '.join(leaf.conditions).replace('_', ' ') or 'everywhere'}: {theme.gain(leaf.gain)} {theme.unit()} "
        f"({prose.things(leaf.cells, 'cell')})"
        for leaf in rule.leaves
    )
    return f"{rule.method} (exploratory, R² on unseen tasks {rule.r2:.2f}, p {theme.p_value(rule.p)}): {leaves}."
