"""Combinations: cells put together replicate by replicate, averaged or weighed into a slope or a contrast."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from study.findings.evidence import Cell
from study.findings.quantities import ByUnit, Combination, Combine, Material, Measured, Quantity
from study.records import FactorValue
from study.specs.spec import Hypothesis, StudySpec
from study.stats import columns, estimate, isolated
from study.stats.designs import UNKNOWN_SLOPE, adjusted_slope
from study.stats.effects import insufficient
from study.stats.estimates import rounded

MIN_DESCRIPTIVE_UNITS = 3  # probes and lines are dear and their effects large: fewer units than a verdict needs


def over_units(
    values: Quantity,
    combine: Combine,
    hypothesis: Hypothesis,
    material: Material,
    *,
    descriptive: bool = False,
) -> Measured:
    """Combine the cells unit by unit, over the units that every cell has, and estimate the mean over units."""
    evidence = material.evidence
    combination = combine(hypothesis, material)
    by_cell = {cell: values(hypothesis, material, cell) for cell in combination.weights}
    units = sorted(set.intersection(*(set(found) for found in by_cell.values()))) if by_cell else []
    size = max((abs(numbers[unit]) for numbers in by_cell.values() for unit in units), default=0.0)
    found = estimate(
        [
            rounded(math.fsum(combination.weights[cell] * numbers[unit] for cell, numbers in by_cell.items()), size)
            for unit in units
        ]
    )
    check = _check(hypothesis, material, by_cell) if hypothesis.kind == "slope" and by_cell else ""
    called: Literal["replicates", "seeds"] = "seeds" if evidence.spec.one_tuning else "replicates"
    missing = combination.note or _too_few(len(units), evidence.planned_units, called, descriptive)
    return Measured(found, called, tuple(by_cell), combination.span, missing, check)


def _too_few(units: int, planned: int, called: str, descriptive: bool) -> str:
    if descriptive and units < MIN_DESCRIPTIVE_UNITS:
        return f"{units} complete {called}; {MIN_DESCRIPTIVE_UNITS} are needed."
    if not descriptive and insufficient(units, planned):
        return f"{units} of {planned} {called} are complete in all cells: too few."
    return ""


def mean_over_cells(hypothesis: Hypothesis, material: Material) -> Combination:
    """Weigh all cells alike: those of one unit, or of log ratios, which have none, all."""
    evidence = material.evidence
    cells = evidence.cells if hypothesis.kind == "sharpness" else evidence.pooled
    return Combination({cell.name: 1 / len(cells) for cell in cells})


def slope_over_cells(hypothesis: Hypothesis, material: Material) -> Combination:
    """Weigh the cells that have the factor into the least-squares slope on it, adjusted for task and other factors."""
    cells = [cell for cell in material.evidence.pooled if hypothesis.factor in dict(cell.factors)]
    levels = [dict(cell.factors)[hypothesis.factor] for cell in cells]
    if not levels or not all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        return Combination({}, note=f"{hypothesis.factor} is not a number that varies in this study.")
    return _weighed(hypothesis.factor, cells, [float(level) for level in levels])


def contrast_over_cells(hypothesis: Hypothesis, material: Material) -> Combination:
    """Weigh the cells at the factor's first two values into their difference, adjusted likewise."""
    values = values_of(material.evidence.spec, hypothesis.factor)
    if len(values) < 2:
        return Combination({}, note=f"{hypothesis.factor} does not vary in this study.")
    first, second = values[:2]
    cells = [cell for cell in material.evidence.pooled if dict(cell.factors).get(hypothesis.factor) in (first, second)]
    return _weighed(
        hypothesis.factor, cells, [float(dict(cell.factors)[hypothesis.factor] == second) for cell in cells]
    )


def values_of(spec: StudySpec, factor: str) -> list[FactorValue]:
    """Return the values that a spec gives a factor, in its order."""
    given = [problem.factors[factor] for problem in spec.problems if factor in problem.factors]
    return list(dict.fromkeys(value for some in given for value in (some if isinstance(some, list) else [some])))


def _weighed(factor: str, cells: Sequence[Cell], target: Sequence[float]) -> Combination:
    others = [column for column in columns([design_row(cell) for cell in cells]) if column.factor != factor]
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


def design_row(cell: Cell) -> dict[str, FactorValue]:
    """Return what a cell is set to: its task and the factors that vary in the study."""
    return {"task": cell.task} | dict(cell.factors) | {"task": cell.task}  # first, and not a factor of that name


def _check(hypothesis: Hypothesis, material: Material, by_cell: Mapping[str, ByUnit]) -> str:
    """Say what the slope is with cells as the unit: HC3 on cell means, adjusted as the estimate is."""
    cells = [cell for cell in material.evidence.pooled if by_cell.get(cell.name)]
    if not cells:
        return ""
    predictors = columns([design_row(cell) for cell in cells])
    means = [statistics.fmean(by_cell[cell.name].values()) for cell in cells]
    asked = next((column for column in predictors if column.factor == hypothesis.factor), None)
    others = [column for column in predictors if column.factor != hypothesis.factor]
    found = adjusted_slope(means, asked, others) if asked else UNKNOWN_SLOPE
    if math.isnan(found.slope):
        return f"{len(cells)} cells are too few for a check with the cell as the unit."
    low, high = found.ci95
    return (
        f"With the cell as the unit (HC3 on {len(cells)} cell means): {found.slope:.3g} [{low:.3g}, {high:.3g}], "
        f"in units of the score (accuracy: a fraction) per unit of {hypothesis.factor}."
    )
