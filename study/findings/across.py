"""Across cells: a method's gains put together, and what they move with."""

import math
import statistics
from collections.abc import Sequence

from study.findings.combinations import design_row
from study.findings.evidence import Evidence
from study.specs.spec import StudySpec
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
from study.stats.effects import insufficient

SHARPNESS = "top_eigenvalue"


def syntheses_of(spec: StudySpec, effects: Sequence[Effect]) -> tuple[Synthesis, ...]:
    """Return one synthesis per method and budget, over the cells with at least two pairs."""
    return tuple(
        synthesize(method, budget, [e.mean for e in group], [e.sd**2 / e.n for e in group], spec.delta)
        for method, budget, group in _groups(spec, [effect for effect in effects if effect.n >= 2])
    )


def moderators_of(evidence: Evidence, effects: Sequence[Effect]) -> tuple[Moderator, ...]:
    """Return the moderators of every method and budget: the factors, then what was measured on the baseline.

    Cells without enough pairs for a verdict are left out.
    """
    found: list[Moderator] = []
    for method, budget, group in _groups(evidence.spec, _sufficient(effects)):
        found += moderators(method, budget, [design_row(effect) for effect in group], [e.mean for e in group])
        found += _measured(evidence, method, budget, group)
    return tuple(found)


def rules_of(spec: StudySpec, effects: Sequence[Effect]) -> tuple[ModeratorRule, ...]:
    """Return the exploratory rule of every method under the primary budget."""
    return tuple(
        moderator_rule(method, budget, [design_row(effect) for effect in group], [effect.mean for effect in group])
        for method, budget, group in _groups(spec, _sufficient(effects))
        if budget == spec.primary_budget
    )


def _sufficient(effects: Sequence[Effect]) -> list[Effect]:
    return [effect for effect in effects if not insufficient(effect.n, effect.planned)]


def _groups(spec: StudySpec, effects: Sequence[Effect]) -> list[tuple[str, str, list[Effect]]]:
    """Sort effects by method and budget, in the spec's order; without effects there is no group."""
    groups: dict[tuple[str, str], list[Effect]] = {}
    for effect in effects:
        groups.setdefault((effect.method, effect.budget), []).append(effect)
    return [
        (method, budget, groups[method, budget])
        for method in spec.methods
        for budget in spec.budgets
        if (method, budget) in groups
    ]


def _measured(evidence: Evidence, method: str, budget: str, group: Sequence[Effect]) -> list[Moderator]:
    """Hold the gain on every second seed against what the baseline measured on the seeds between them."""
    gains = [statistics.fmean(effect.differences[1::2]) for effect in group]
    found = [
        measured_moderator(
            method, budget, "baseline score", [statistics.fmean(e.baseline_values[::2]) for e in group], gains
        )
    ]
    sharpness = [_log_sharpness(evidence, effect) for effect in group]
    if all(value is not None for value in sharpness):
        known = [value for value in sharpness if value is not None]
        found.append(measured_moderator(method, budget, f"log of baseline {SHARPNESS}", known, gains))
    return found


def _log_sharpness(evidence: Evidence, effect: Effect) -> float | None:
    """Return the mean log curvature of the baseline at equal epochs, over the seeds that the gain leaves out."""
    probed = evidence.arm(effect.cell, effect.baseline).probed(SHARPNESS)
    values = [math.log(probed[seed]) for seed in effect.seeds[::2] if probed.get(seed, 0) > 0]
    return statistics.fmean(values) if values else None
