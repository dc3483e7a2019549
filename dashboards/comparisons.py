"""Comparisons: which stand for two budgets, and no verdict before its time.

The number of replicates is fixed before the first run, and a verdict that is read while they come in would be one of
several looks at growing data: a running study shows how far it is, and its estimates, and nothing that judges them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

from study.findings import Findings
from study.stats import Effect
from study.stats.effects import Verdict

NOT_YET = cast(Verdict, "not yet")  # the report's own word: no finding ever holds it
_ABOUT_VERDICTS = ("verdict depends on budget", "verdict depends on delta")


@dataclass(frozen=True, slots=True)
class Distinct:
    """An effect and the budgets it stands for, the primary one first."""

    effect: Effect
    budgets: tuple[str, ...]


def distinct(effects: Iterable[Effect], primary_budget: str) -> tuple[Distinct, ...]:
    """Merge effects of one cell and method whose baselines, gains and verdicts are equal; else keeps their order."""
    found: dict[tuple[object, ...], Distinct] = {}
    for effect in sorted(effects, key=lambda effect: effect.budget != primary_budget):
        held_against = tuple(one.baseline for one in effect.against)
        key = (effect.cell, effect.method, held_against, effect.differences, effect.planned, effect.verdict)
        if key in found:
            found[key] = Distinct(found[key].effect, (*found[key].budgets, effect.budget))
        else:
            found[key] = Distinct(effect, (effect.budget,))
    return tuple(found.values())


def without_early_verdicts(findings: Findings) -> Findings:
    """Return the findings of an unfinished study with no verdict, no test and nothing that is made of them."""
    if findings.counts.finished:
        return findings
    return replace(
        findings,
        effects=_held_back(findings.effects),
        averaging=_held_back(findings.averaging),
        descriptive=_held_back(findings.descriptive),
        direct=(),
        factor_interactions=(),
        interactions=(),
        syntheses=(),
        moderators=(),
        rules=(),
        delta_strips=(),
        literature=(),
        summaries=(),
        caveats=tuple(caveat for caveat in findings.caveats if caveat.kind not in _ABOUT_VERDICTS),
    )


def _held_back(effects: Iterable[Effect]) -> tuple[Effect, ...]:
    nothing = {"verdict": NOT_YET, "clear": False, "p": math.nan, "p_holm": None}
    return tuple(
        replace(effect, **nothing, against=tuple(replace(one, p=math.nan) for one in effect.against))  # type: ignore[arg-type]
        for effect in effects
    )
