"""Combinations: cells put together replicate by replicate, averaged or weighed into a slope or a contrast."""

from collections.abc import Sequence
from typing import Literal

from study.findings.evidence import Evidence
from study.findings.quantities import Asked, Combination, Combine, Measured, Quantity
from study.plan.cells import Cell
from study.stats.designs import columns, isolated
from study.stats.effects import insufficient
from study.stats.estimates import combined

MIN_DESCRIPTIVE_UNITS = 3  # probes and lines are dear and their effects large: fewer units than a verdict needs


def over_units(values: Quantity, combine: Combine, asked: Asked, *, descriptive: bool = False) -> Measured:
    """Combine the cells unit by unit, over the units that every cell has, and estimate the mean over units."""
    combination = combine(asked)
    by_cell = {cell: values(asked, cell) for cell in combination.weights}
    found = combined([(combination.weights[cell], numbers) for cell, numbers in by_cell.items()])
    called: Literal["replicates", "seeds"] = "seeds" if asked.spec.one_tuning else "replicates"
    planned, missing = asked.evidence.planned_units, combination.note
    if not missing and descriptive and found.n < MIN_DESCRIPTIVE_UNITS:
        missing = f"{found.n} complete {called}; {MIN_DESCRIPTIVE_UNITS} are needed."
    if not missing and not descriptive and insufficient(found.n, planned):
        missing = f"{found.n} of {planned} {called} are complete in all cells: too few."
    return Measured(found, called, tuple(by_cell), combination.span, missing)


def mean_over_cells(asked: Asked) -> Combination:
    """Weigh all cells alike: those of one unit, or of log ratios, which have none, all."""
    cells = asked.evidence.cells if asked.hypothesis.kind == "sharpness" else asked.evidence.pooled
    return Combination({cell.name: 1 / len(cells) for cell in cells})


def slope_over_cells(asked: Asked) -> Combination:
    """Weigh the cells that have the factor into the least-squares slope on it, adjusted for task and other factors."""
    evidence, factor = asked.evidence, asked.hypothesis.factor
    cells = [cell for cell in evidence.pooled if factor in evidence.factors_of(cell)]
    levels = [cell.factors[factor] for cell in cells]
    if not levels or not all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        return Combination({}, note=f"{factor} is not a number that varies in this study.")
    return _weighed(evidence, factor, cells, [float(level) for level in levels])


def contrast_over_cells(asked: Asked) -> Combination:
    """Weigh the cells at the factor's first two values into their difference, adjusted likewise."""
    evidence, factor = asked.evidence, asked.hypothesis.factor
    given = [problem.factors[factor] for problem in evidence.spec.problems if factor in problem.factors]
    values = list(dict.fromkeys(value for some in given for value in (some if isinstance(some, list) else [some])))
    if len(values) < 2:
        return Combination({}, note=f"{factor} does not vary in this study.")
    first, second = values[:2]
    cells = [cell for cell in evidence.pooled if evidence.factors_of(cell).get(factor) in (first, second)]
    return _weighed(evidence, factor, cells, [float(cell.factors[factor] == second) for cell in cells])


def _weighed(evidence: Evidence, factor: str, cells: Sequence[Cell], target: Sequence[float]) -> Combination:
    # A cell is its task, and the factors that vary; the task stands first, and is not a factor of that name.
    settings = [{"task": cell.task} | evidence.factors_of(cell) | {"task": cell.task} for cell in cells]
    others = [column for column in columns(settings) if column.factor != factor]
    left = isolated(target, others) if len(cells) > 1 else None
    if left is None:
        confounded = "" if len(set(target)) < 2 else ", apart from the other factors that differ between cells"
        return Combination({}, note=f"{factor} does not vary{confounded}.")
    weights = left / float(left @ left)
    # Cells without weight say nothing about the factor, so their gaps must not cost any units.
    entering = {
        cell.name: float(weight)
        for cell, weight in zip(cells, weights, strict=True)
        if abs(weight) > 1e-9 * max(abs(weights))
    }
    return Combination(entering, span=max(target) - min(target))
