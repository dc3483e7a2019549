"""What a method's gain moves with, over problems: slopes with their intervals, and the exploratory rule in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.contenders import budget_name
from dashboards.tables.table import Column, Entry, Table, hidden, number_entry, numeric
from study.findings import Findings
from study.stats import Effect, Moderator, ModeratorRule
from study.stats.clustered import MIN_TASKS


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
    return tuple(
        Slope(moderator, _span(moderator, [effect for effect in primary if effect.method == moderator.method]))
        for moderator in findings.moderators
        if moderator.budget == findings.primary_budget and theme.known(moderator.slope)
    )


def _span(moderator: Moderator, effects: Sequence[Effect]) -> float:
    if moderator.level:
        return 1.0
    if moderator.kind == "factor":
        values = [dict(effect.factors).get(moderator.factor) for effect in effects]
    elif moderator.factor == "baseline score":
        # As the study measures it: in the replicates (or seeds) that the gain leaves out.
        halves = [effect.baseline_values[::2] for effect in effects if effect.baseline_values]
        values = [sum(half) / len(half) for half in halves]
    else:
        return math.nan
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return max(numbers) - min(numbers) if numbers else math.nan


def slope_table(findings: Findings) -> Table:
    """Return one row a method and factor."""
    slopes = slopes_of(findings)
    return Table(
        "moderators",
        "How the gain moves with what differs between problems; the task is the unit.",
        (
            Column("Method", "method"),
            Column("Factor", "factor"),
            numeric(f"Slope per unit, {theme.unit()} [95 % CI]", "slope"),
            *hidden("ci95_low", "ci95_high"),
            numeric(f"Lowest to highest, {theme.unit()} [95 % CI]", "across"),
            numeric("p", "p"),
            numeric("n", "tasks"),
            Column("Adjusted for", "adjusted_for"),
        ),
        tuple(
            (
                Entry(s.moderator.method, method=s.moderator.method),
                Entry(s.words),
                Entry(_slope_words(s.moderator), s.moderator.slope),
                *map(number_entry, s.moderator.ci95),
                Entry(theme.gain_within(s.across, s.across95), s.across if theme.known(s.across) else None),
                Entry(theme.p_value(s.moderator.p), s.moderator.p),
                Entry(_witnesses(s.moderator), s.moderator.tasks),
                Entry(prose.listed([name.replace("_", " ") for name in s.moderator.adjusted_for]) or "nothing"),
            )
            for s in slopes
        ),
        tuple(i for i, s in enumerate(slopes) if i == 0 or slopes[i - 1].moderator.method != s.moderator.method),
    )


def _witnesses(moderator: Moderator) -> str:
    where = "within" if moderator.within else "between"
    return f"{where} {prose.things(moderator.tasks, 'task')}, {prose.things(moderator.cells, 'cell')}"


def _slope_words(moderator: Moderator) -> str:
    mean, low, high = (theme.signed(theme.in_points(v)) for v in (moderator.slope, *moderator.ci95))
    return f"{mean} [{low}, {high}]" if theme.known(moderator.ci95[0]) else mean


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
