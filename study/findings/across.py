"""Across cells: a method's gains put together, and what they move with."""

import itertools
import math
from collections.abc import Iterable, Sequence

from study.findings.evidence import Evidence
from study.stats import Effect, Moderator, ModeratorRule, Synthesis, moderator_rule, synthesize
from study.stats.clustered import MIN_TASKS, slope_between
from study.stats.estimates import mean_of
from study.stats.moderators import moderators


def syntheses_of(evidence: Evidence, effects: Sequence[Effect]) -> tuple[Synthesis, ...]:
    """Return one synthesis per method and budget, over the tasks: the mean of a task's cells with at least two units.

    Cells of one task are no sample of problems, so a task counts once, however many cells it has.
    """
    return tuple(synthesis_of(group) for group in _groups(evidence, (effect for effect in effects if effect.n >= 2)))


def synthesis_of(group: Sequence[Effect]) -> Synthesis:
    """Return what the effects of one method and budget, of at least two units each, come to over their tasks."""
    tasks: dict[str, list[Effect]] = {}
    for effect in group:
        tasks.setdefault(effect.task, []).append(effect)
    gains = [mean_of([e.mean for e in cells]) for cells in tasks.values()]
    errors = [math.hypot(*(e.error for e in cells)) / len(cells) for cells in tasks.values()]
    return synthesize(group[0].method, group[0].budget, gains, errors)


def moderators_of(evidence: Evidence, effects: Sequence[Effect]) -> tuple[Moderator, ...]:
    """Return the moderators of every method and budget: the factors, then the baseline's score.

    Cells without enough units for a verdict are left out; there is none before five tasks, which are the witnesses.
    """
    found: list[Moderator] = []
    for group in _of_enough_tasks(evidence, effects):
        cells, gains, tasks = _columns(group)
        found += [*moderators(group[0].method, group[0].budget, cells, gains, tasks), _by_baseline(group)]
    return tuple(found)


def rules_of(evidence: Evidence, effects: Sequence[Effect]) -> tuple[ModeratorRule, ...]:
    """Return the exploratory rule of every method under the primary budget."""
    primary = [effect for effect in effects if effect.budget == evidence.spec.primary_budget]
    groups = _of_enough_tasks(evidence, primary)
    return tuple(moderator_rule(group[0].method, group[0].budget, *_columns(group)) for group in groups)


def _groups(evidence: Evidence, effects: Iterable[Effect]) -> list[list[Effect]]:
    """Sort effects in one unit by method and budget, in the spec's order; without effects there is no group."""
    spec, pooled = evidence.spec, {cell.name for cell in evidence.pooled}
    groups: dict[tuple[str, str], list[Effect]] = {key: [] for key in itertools.product(spec.methods, spec.budgets)}
    for effect in effects:
        if effect.cell in pooled:
            groups[effect.method, effect.budget].append(effect)
    return [group for group in groups.values() if group]


def _of_enough_tasks(evidence: Evidence, effects: Iterable[Effect]) -> list[list[Effect]]:
    groups = _groups(evidence, (effect for effect in effects if not effect.insufficient))
    return [group for group in groups if len({effect.task for effect in group}) >= MIN_TASKS]


def _columns(group: Sequence[Effect]) -> tuple[list[dict[str, bool | int | float | str]], list[float], list[str]]:
    """Return what each cell is set to, its mean gain and its task."""
    return [dict(e.factors) for e in group], [e.mean for e in group], [e.task for e in group]


def _by_baseline(group: Sequence[Effect]) -> Moderator:
    """Hold the gain on every second unit against the baseline's score on the units between them, over means of tasks.

    A baseline that happened to be low on a seed shows a high gain on that seed: the same runs on both axes fake a slope
    (r = −.55 where there is none).
    """
    gains = [mean_of(effect.differences[1::2]) for effect in group]
    scores = [mean_of(effect.baseline_values[::2]) for effect in group]
    tasks = [effect.task for effect in group]
    found = slope_between(gains, scores, tasks)
    return Moderator(
        group[0].method, group[0].budget, "measured", "baseline score", "", False, len(group), len(set(tasks)),
        found.slope, found.ci95, found.p, (),
    )  # fmt: skip
