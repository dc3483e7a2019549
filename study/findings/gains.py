"""Gains replicate by replicate, against every baseline of a comparison: what studies put side by side need.

A finding names the strongest baseline of its own study. Another study of the same question may name another one, and
replicates that are relabelled between the two must be held against one and the same.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from study.findings.conclusions import PRIMARY_METRIC, compared
from study.findings.evidence import gather
from study.records import RunRecord
from study.specs.budgets import Spending
from study.specs.contenders import baselines, contender, others_of
from study.specs.spec import StudySpec


class Comparison(NamedTuple):
    """What is held against its baselines: a method in a cell under a budget."""

    cell: str
    method: str
    budget: Spending


Gains = Mapping[str, Mapping[int, float]]
"""Gains by baseline and unit, over the units that are complete against it."""


def gains_of(spec: StudySpec, records: Iterable[RunRecord]) -> dict[Comparison, Gains]:
    """Return the gains of every comparison of a study, in the order of its cells, methods and budgets."""
    evidence = gather(spec, list(records))
    found: dict[Comparison, Gains] = {}
    for cell in evidence.cells:
        as_here = spec.as_of(cell.task)
        for method in others_of(spec):
            for budget in spec.budgets:
                ours = evidence.of(cell.name, contender(as_here, method, budget)).arm(PRIMARY_METRIC)
                by_baseline: dict[str, Mapping[int, float]] = {}
                for one in baselines(as_here, method, budget):
                    theirs = evidence.of(cell.name, one).arm(PRIMARY_METRIC)
                    effect = compared(evidence, cell, ("tuned", method, budget, PRIMARY_METRIC), ours, [theirs])
                    by_baseline[theirs.name] = effect.gains
                found[Comparison(cell.name, method, budget)] = by_baseline
    return found
