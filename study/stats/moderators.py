"""Moderators: when a method gains more. The cell is the unit, one gain per cell.

Runs of one cell share all that the cell has of its own, so counting each as a witness of what a factor does makes
chance look like a rule: `study.simulations` counts how often.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from study.stats.designs import UNKNOWN_SLOPE, Column, Level, Slope, columns, robust_slopes
from study.stats.estimates import Number

MIN_FREEDOM_ADJUSTED = 3  # cells left over after all factors: below, each factor is fitted alone
MIN_FREEDOM = 2
MIN_CELLS_FOR_RULE = 6


@dataclass(frozen=True, slots=True)
class Moderator:
    """How the gain of a method moves with something, over cells.

    Attributes:
        method, budget: Whose gain.
        kind: ``factor``: set by the spec. ``measured``: measured on the baseline, on other seeds than the gain.
        factor: Name of the factor or of what was measured.
        level: "" where the factor is a number. Otherwise the slope is the gain at this level minus that at the first.
        cells: Cells, the unit.
        slope: Gain per unit of the factor, as a fraction.
        ci95, p: HC3, Student-t with the degrees of freedom of the cells; unadjusted for the number of factors.
        adjusted_for: The other factors in the same fit; empty where the cells are too few for that.
    """

    method: str
    budget: str
    kind: Literal["factor", "measured"]
    factor: str
    level: str
    cells: int
    slope: Number
    ci95: tuple[Number, Number]
    p: Number
    adjusted_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleLeaf:
    """One end of a rule: the conditions that lead there, joined by "and", the mean gain and the cells there."""

    conditions: tuple[str, ...]
    gain: Number
    cells: int


@dataclass(frozen=True, slots=True)
class ModeratorRule:
    """An exploratory rule for when a method gains: a regression tree of depth two over cells.

    ``r2`` says how much better it predicts a cell that it has not seen than the mean of the others does; NaN below
    six cells. Where it is not above 0 there is no reliable rule, and ``leaves`` is empty.
    """

    method: str
    budget: str
    cells: int
    r2: Number
    leaves: tuple[RuleLeaf, ...]

    @property
    def reliable(self) -> bool:
        """Tell whether the rule predicts unseen cells better than no rule."""
        return bool(self.leaves)


def moderators(
    method: str, budget: str, cells: Sequence[Mapping[str, Level]], gains: Sequence[float]
) -> list[Moderator]:
    """Return one moderator per factor (per level, where it is not a number) that differs between cells.

    A factor that only some cells have (a regression has no label noise) is looked at in those.

    Args:
        method, budget: Whose gains.
        cells: What each cell is set to, by factor.
        gains: Mean gain of each cell.
    """
    found = _moderators_of_all(method, budget, cells, gains)
    for factor in dict.fromkeys(name for cell in cells for name in cell):
        having = [index for index, cell in enumerate(cells) if factor in cell]
        if len(having) < len(cells):
            part = _moderators_of_all(method, budget, [cells[i] for i in having], [gains[i] for i in having])
            found += [moderator for moderator in part if moderator.factor == factor]
    return found


def _moderators_of_all(
    method: str, budget: str, cells: Sequence[Mapping[str, Level]], gains: Sequence[float]
) -> list[Moderator]:
    design = columns(cells)
    return [
        Moderator(
            method, budget, "factor", column.factor, column.level, len(gains), found.slope, found.ci95, found.p, others
        )
        for column, (found, others) in zip(design, adjusted_slopes(gains, design), strict=True)
    ]


def adjusted_slopes(gains: Sequence[float], design: Sequence[Column]) -> list[tuple[Slope, tuple[str, ...]]]:
    """Return the slope on every column with the factors that it is adjusted for.

    All factors go into one fit where that leaves at least three degrees of freedom and separates them; otherwise
    each is fitted alone, with at least two, which is fair where the design crosses them.
    """
    if len(gains) - 1 - len(design) >= MIN_FREEDOM_ADJUSTED:
        together = robust_slopes(gains, [column.values for column in design])
        if not any(math.isnan(found.slope) for found in together):
            names = dict.fromkeys(column.factor for column in design)
            return [
                (found, tuple(name for name in names if name != column.factor))
                for found, column in zip(together, design, strict=True)
            ]
    return [(slope_alone(gains, column.values), ()) for column in design]


def slope_alone(gains: Sequence[float], predictor: Sequence[float]) -> Slope:
    """Return the slope on one predictor; unknown with fewer than four cells."""
    return robust_slopes(gains, [predictor])[0] if len(gains) - 2 >= MIN_FREEDOM else UNKNOWN_SLOPE


def measured_moderator(
    method: str, budget: str, factor: str, predictor: Sequence[float], gains: Sequence[float]
) -> Moderator:
    """Return how the gain moves with something that was measured on the baseline.

    Args:
        method, budget: Whose gain.
        factor: What was measured, in words.
        predictor: Its mean in each cell, over one half of the seeds.
        gains: Mean gain of each cell over the other half. A baseline that happened to be low on a seed shows a
            high gain on that seed: the same runs on both axes fake a slope (r = −.55 where there is none).
    """
    found = slope_alone(gains, predictor)
    return Moderator(method, budget, "measured", factor, "", len(gains), found.slope, found.ci95, found.p, ())


def moderator_rule(
    method: str, budget: str, cells: Sequence[Mapping[str, Level]], gains: Sequence[float]
) -> ModeratorRule:
    """Grow a regression tree of depth two on cell means and keep it only if it predicts cells it has not seen.

    Source: Breiman et al. 1984; R² from leaving out one cell at a time, against the mean of the remaining cells.
    """
    design, count = columns(cells), len(gains)
    if count < MIN_CELLS_FOR_RULE or not design:
        return ModeratorRule(method, budget, count, math.nan, ())
    from sklearn import config_context  # noqa: PLC0415  # half a second that smaller studies don't need
    from sklearn.tree import DecisionTreeRegressor  # noqa: PLC0415  # as above

    x, y = np.column_stack([column.values for column in design]), np.asarray(gains, dtype=np.float64)
    tree = DecisionTreeRegressor(max_depth=2, random_state=0)
    errors, spreads = np.zeros(count), np.zeros(count)
    with config_context(skip_parameter_validation=True):  # as many trees as cells, all of the same parameters
        for left_out in range(count):
            kept = np.arange(count) != left_out
            errors[left_out] = y[left_out] - tree.fit(x[kept], y[kept]).predict(x[[left_out]])[0]
            spreads[left_out] = y[left_out] - y[kept].mean()
    total = float((spreads**2).sum())
    r2 = 1 - float((errors**2).sum()) / total if total > 0 else 0.0
    leaves = tuple(_leaves(tree.fit(x, y).tree_, 0, (), design)) if r2 > 0 else ()
    return ModeratorRule(method, budget, count, r2, leaves)


def _leaves(tree: object, node: int, conditions: tuple[str, ...], design: Sequence[Column]) -> list[RuleLeaf]:
    """Walk scikit-learn's arrays of a fitted tree; a node without children has -1 for both."""
    left, right = int(tree.children_left[node]), int(tree.children_right[node])  # type: ignore[attr-defined]
    if left == right:
        mean, cells = float(tree.value[node][0][0]), int(tree.n_node_samples[node])  # type: ignore[attr-defined]
        return [RuleLeaf(conditions, mean, cells)]
    column = design[tree.feature[node]]  # type: ignore[attr-defined]
    at_most, above = _conditions(column, float(tree.threshold[node]))  # type: ignore[attr-defined]
    return [
        *_leaves(tree, left, _narrowed(conditions, at_most), design),
        *_leaves(tree, right, _narrowed(conditions, above), design),
    ]


def _narrowed(conditions: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """Add a condition; a further cut of the same factor on the same side makes the earlier one idle."""
    side = condition.rpartition(" ")[0]
    return (*(earlier for earlier in conditions if earlier.rpartition(" ")[0] != side), condition)


def _conditions(column: Column, threshold: float) -> tuple[str, str]:
    if column.level:
        return f"{column.factor} is not {column.level}", f"{column.factor} is {column.level}"
    return f"{column.factor} ≤ {threshold:.3g}", f"{column.factor} > {threshold:.3g}"
