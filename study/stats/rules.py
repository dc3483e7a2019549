"""An exploratory rule for when a method gains, kept only if it holds in tasks that it has not seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import ttest_1samp

from study.stats.clustered import MIN_TASKS
from study.stats.designs import Column, Level, columns
from study.stats.estimates import OF_FRACTIONS, Number, binary_scale, scaled

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class RuleLeaf:
    """One end of a rule: the conditions that lead there, joined by "and", the mean gain and the cells there."""

    conditions: tuple[str, ...]
    gain: Number
    cells: int


@dataclass(frozen=True, slots=True)
class ModeratorRule:
    """An exploratory rule for when a method gains: a regression tree of depth two over cells.

    ``r2`` says how much better it predicts the cells of a task that it has not seen than the mean of the other tasks'
    cells does, ``p`` how surely (one-sided t test over tasks); NaN below five tasks. Where p is not below .05 there is
    no reliable rule, and ``leaves`` is empty.
    """

    method: str
    budget: str
    cells: int
    tasks: int
    r2: Number
    p: Number
    leaves: tuple[RuleLeaf, ...]

    @property
    def reliable(self) -> bool:
        """Tell whether the rule predicts unseen tasks better than no rule."""
        return bool(self.leaves)


def moderator_rule(
    method: str, budget: str, cells: Sequence[Mapping[str, Level]], gains: Sequence[float], tasks: Sequence[str]
) -> ModeratorRule:
    """Grow a regression tree of depth two on cell means and keep it only if it predicts tasks it has not seen.

    Args:
        method, budget: Whose gains.
        cells: What each cell is set to, by factor; its task is none.
        gains: Mean gain of each cell.
        tasks: The task of each cell.

    Source: Breiman et al. 1984; the error from leaving out one task at a time.
    """
    design, names = columns(cells), list(dict.fromkeys(tasks))
    if len(names) < MIN_TASKS or not design:
        return ModeratorRule(method, budget, len(gains), len(names), math.nan, math.nan, ())
    from sklearn import config_context  # noqa: PLC0415  # half a second that smaller studies don't need
    from sklearn.tree import DecisionTreeRegressor  # noqa: PLC0415  # as above

    exponent = binary_scale(gains, OF_FRACTIONS)  # the tree leaves small variances alone
    x = np.column_stack([column.values for column in design])
    y = np.asarray([scaled(gain, -exponent) for gain in gains], dtype=np.float64)
    of_task = np.asarray(tasks)
    tree = DecisionTreeRegressor(max_depth=2, random_state=0)
    errors, spreads = np.zeros(len(y)), np.zeros(len(y))
    with config_context(skip_parameter_validation=True):  # as many trees as tasks, all of the same parameters
        for name in names:
            own = of_task == name
            errors[own] = (y[own] - tree.fit(x[~own], y[~own]).predict(x[own])) ** 2
            spreads[own] = (y[own] - y[~own].mean()) ** 2
    better = [float((spreads - errors)[of_task == name].mean()) for name in names]
    r2 = 1 - float(errors.sum() / spreads.sum()) if spreads.sum() > 0 else 0.0
    p = float(ttest_1samp(better, 0, alternative="greater").pvalue) if np.ptp(better) > 0 else math.nan
    leaves = tuple(_leaves(tree.fit(x, y).tree_, 0, (), design)) if p < LEVEL else ()
    leaves = tuple(replace(leaf, gain=scaled(leaf.gain, exponent)) for leaf in leaves)
    return ModeratorRule(method, budget, len(y), len(names), r2, p, leaves)


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
