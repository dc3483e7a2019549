"""Comparisons: which stand for two budgets, and no verdict before its time.

A comparison is pending until every confirm run that it rests on has ended. The runs' number is fixed before the first
one, and a verdict that is read while they come in would be one of several looks at growing data.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import pandas as pd

from dashboards.cells import short_budget
from study.findings import Findings, MethodSummary
from study.records import configuration_of
from study.specs.methods import epochs_factor_of_baseline
from study.stats import Effect
from study.stats.effects import Verdict

NOT_YET = cast(Verdict, "not yet")  # the report's own word: no finding ever holds it
Comparison = tuple[str, str, str, str]  # (kind, cell, method, budget)
_LISTS = ("helps", "helps_if_free", "hurts", "null")
_ABOUT_VERDICTS = ("verdict depends on budget", "verdict depends on delta")


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


def comparison_of(effect: Effect) -> Comparison:
    """Return what tells one comparison of a study from the others."""
    return effect.kind, effect.cell, effect.method, effect.budget


def pending_in(findings: Findings, frame: pd.DataFrame) -> frozenset[Comparison]:
    """Return the comparisons that still wait for confirm runs; none once the study is finished."""
    if findings.counts.finished:
        return frozenset()
    ended = _runs_by_configuration(frame)
    chosen = {(s.cell, s.method, s.epochs_factor): s for s in findings.selections}

    def waits(effect: Effect) -> bool:
        arms = [chosen.get((effect.cell, effect.method, 1.0))]
        if effect.kind == "tuned":
            arms.append(chosen.get((effect.cell, effect.baseline, _baseline_factor(findings, effect))))
        return any(arm is None or ended[configuration_of(arm).id] < effect.planned for arm in arms)

    effects = (*findings.effects, *findings.averaging, *findings.descriptive)
    return frozenset(comparison_of(effect) for effect in effects if waits(effect))


def _runs_by_configuration(frame: pd.DataFrame) -> Counter[str]:
    """Count the confirm runs that have ended, however, by configuration."""
    return Counter(frame[frame["stage"] == "confirm"].drop_duplicates("run_id")["configuration"])


def _baseline_factor(findings: Findings, effect: Effect) -> float:
    times = findings.spec.get("reference_times")
    return epochs_factor_of_baseline(effect.method, effect.budget, times if isinstance(times, dict) else {})


def without_early_verdicts(findings: Findings, pending: frozenset[Comparison]) -> Findings:
    """Return the findings with no verdict, no p value and no caveat about the verdict of a pending comparison."""
    if not pending:
        return findings
    tuned = {(cell, method, budget) for kind, cell, method, budget in pending if kind == "tuned"}
    open_cells = {(cell, method) for cell, method, _ in tuned}
    return replace(
        findings,
        effects=_held_back(findings.effects, pending),
        averaging=_held_back(findings.averaging, pending),
        summaries=tuple(_undecided(summary, open_cells) for summary in findings.summaries),
        delta_strips=tuple(s for s in findings.delta_strips if (s.cell, s.method, s.budget) not in tuned),
        caveats=tuple(
            c for c in findings.caveats if c.kind not in _ABOUT_VERDICTS or (c.cell, c.method) not in open_cells
        ),
    )


def _held_back(effects: Iterable[Effect], pending: frozenset[Comparison]) -> tuple[Effect, ...]:
    return tuple(
        replace(effect, verdict=NOT_YET, clear=False, p_holm=None) if comparison_of(effect) in pending else effect
        for effect in effects
    )


def _undecided(summary: MethodSummary, open_cells: set[tuple[str, str]]) -> MethodSummary:
    """Move a method's pending cells to the undecided ones."""
    kept = {
        name: tuple(cell for cell in getattr(summary, name) if (cell, summary.method) not in open_cells)
        for name in _LISTS
    }
    decided = {cell for cells in kept.values() for cell in cells}
    every = [cell for name in (*_LISTS, "undecided") for cell in getattr(summary, name)]
    undecided = tuple(cell for cell in every if cell not in decided)
    return replace(summary, **(kept | {"undecided": undecided}))  # type: ignore[arg-type]  # all are lists of cells
