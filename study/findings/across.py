"""Across cells: a method's gains put together, and what they move with."""

import math
import statistics
from collections.abc import Sequence

from study.findings.evidence import Evidence
from study.specs.contenders import baselines
from study.stats import (
    Effect,
    Moderator,
    ModeratorRule,
    Synthesis,
    measured_moderator,
    moderator_rule,
    moderators,
    synthesize,
)
from study.stats.clustered import MIN_TASKS
from study.stats.estimates import mean_of

SHARPNESS = "top_eigenvalue"


def syntheses_of(evidence: Evidence, effects: Sequence[Effect]) -> tuple[Synthesis, ...]:
    """Return one synthesis per method and budget, over the tasks: the mean of a task's cells with at least two units.

    Cells of one task are no sample of problems, so a task counts once, however many cells it has.
    """
    several = [effect for effect in effects if effect.n >= 2]
    return tuple(synthesis_of(group, evidence.delta) for _, _, group in _groups(evidence, several))


def synthesis_of(group: Sequence[Effect], delta: float) -> Synthesis:
    """Return what the effects of one method and budget, of at least two units each, come to over their tasks."""
    tasks: dict[str, list[Effect]] = {}
    for effect in group:
        tasks.setdefault(effect.task, []).append(effect)
    gains = [mean_of([e.mean for e in cells]) for cells in tasks.values()]
    errors = [math.hypot(*(e.error for e in cells)) / len(cells) for cells in tasks.values()]
    return synthesize(group[0].method, group[0].budget, gains, errors, delta)


def moderators_of(evidence: Evidence, effects: Sequence[Effect]) -> tuple[Moderator, ...]:
    """Return the moderators of every method and budget: the factors, then what was measured on the baseline.

    Cells without enough units for a verdict are left out; there is none before five tasks, which are the witnesses.
    """
    found: list[Moderator] = []
    for method, budget, group in _groups(evidence, _sufficient(effects)):
        if _few_tasks(group):
            continue
        gains, tasks = [effect.mean for effect in group], [effect.task for effect in group]
        found += moderators(method, budget, [dict(effect.factors) for effect in group], gains, tasks)
        found += _measured(evidence, method, budget, group)
    return tuple(found)


def rules_of(evidence: Evidence, effects: Sequence[Effect]) -> tuple[ModeratorRule, ...]:
    """Return the exploratory rule of every method under the primary budget."""
    return tuple(
        moderator_rule(
            method, budget, [dict(effect.factors) for effect in group], [effect.mean for effect in group],
            [effect.task for effect in group],
        )
        for method, budget, group in _groups(evidence, _sufficient(effects))
        if budget == evidence.spec.primary_budget and not _few_tasks(group)
    )  # fmt: skip


def _few_tasks(group: Sequence[Effect]) -> bool:
    return len({effect.task for effect in group}) < MIN_TASKS


def _sufficient(effects: Sequence[Effect]) -> list[Effect]:
    return [effect for effect in effects if not effect.insufficient]


def _groups(evidence: Evidence, effects: Sequence[Effect]) -> list[tuple[str, str, list[Effect]]]:
    """Sort effects in one unit by method and budget, in the spec's order; without effects there is no group."""
    groups: dict[tuple[str, str], list[Effect]] = {}
    spec, pooled = evidence.spec, {cell.name for cell in evidence.pooled}
    for effect in effects:
        if effect.cell not in pooled:
            continue
        groups.setdefault((effect.method, effect.budget), []).append(effect)
    return [
        (method, budget, groups[method, budget])
        for method in spec.methods
        for budget in spec.budgets
        if (method, budget) in groups
    ]


def _measured(evidence: Evidence, method: str, budget: str, group: Sequence[Effect]) -> list[Moderator]:
    """Hold the gain on every second unit against what the baseline measured on the units between them."""
    gains, tasks = [mean_of(effect.differences[1::2]) for effect in group], [effect.task for effect in group]
    scores = [mean_of(effect.baseline_values[::2]) for effect in group]
    found = [measured_moderator(method, budget, "baseline score", scores, gains, tasks)]
    sharpness = [_log_sharpness(evidence, effect) for effect in group]
    if all(value is not None for value in sharpness):
        known = [value for value in sharpness if value is not None]
        found.append(measured_moderator(method, budget, f"log of baseline {SHARPNESS}", known, gains, tasks))
    return found


def _log_sharpness(evidence: Evidence, effect: Effect) -> float | None:
    """Return the mean log curvature of the baseline at equal epochs, over the units that the gain leaves out."""
    base = baselines(evidence.spec.as_of(effect.task), effect.method, "E")[0]
    probed = evidence.of(effect.cell, base).probed(SHARPNESS)
    values = [math.log(probed[unit]) for unit in effect.units[::2] if probed.get(unit, 0) > 0]
    return statistics.fmean(values) if values else None
