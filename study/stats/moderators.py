"""Moderators: when a method gains more. One mean gain a cell; the witnesses are tasks.

Runs of one cell share all that the cell has of its own, and cells of one task all that the task has: counting each as a
witness of what a factor does makes chance look like a rule. `study.simulations` counts how often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from study.stats.clustered import slope_between, slopes_within
from study.stats.designs import Column, Level, Slope, columns
from study.stats.estimates import Number


@dataclass(frozen=True, slots=True)
class Moderator:
    """How the gain of a method moves with something, over the cells of several tasks.

    Attributes:
        method, budget: Whose gain.
        kind: ``factor``: set by the spec. ``measured``: measured on the baseline, on other units than the gain.
        factor: Name of the factor or of what was measured.
        level: "" where the factor is a number. Otherwise the slope is the gain at this level minus that at the first.
        within: The slope is that within tasks; otherwise over the means of tasks, which differ in whatever they like.
        cells, tasks: Cells that took part, and their tasks, the unit.
        slope: Gain per unit of the factor, in the unit of the score (accuracy: a fraction).
        ci95, p: Student-t with the degrees of freedom of the tasks; unadjusted for the number of factors. NaN where
            fewer than five tasks tell something.
        adjusted_for: The other factors in the same fit.
    """

    method: str
    budget: str
    kind: Literal["factor", "measured"]
    factor: str
    level: str
    within: bool
    cells: int
    tasks: int
    slope: Number
    ci95: tuple[Number, Number]
    p: Number
    adjusted_for: tuple[str, ...]


def moderators(
    method: str, budget: str, cells: Sequence[Mapping[str, Level]], gains: Sequence[float], tasks: Sequence[str]
) -> list[Moderator]:
    """Return one moderator per factor (per level, where it is not a number) that differs between cells.

    A factor that only some cells have (a regression has no label noise) is looked at in those.

    Args:
        method, budget: Whose gains.
        cells: What each cell is set to, by factor; its task is none.
        gains: Mean gain of each cell.
        tasks: The task of each cell.
    """
    found = []
    shared = {name for name in cells[0] if all(name in cell for cell in cells)} if cells else set()
    for factor in dict.fromkeys(name for cell in cells for name in cell):
        having = [index for index, cell in enumerate(cells) if factor in cell]
        kept = [{name: level for name, level in cells[i].items() if name in {*shared, factor}} for i in having]
        of_task, of_gain = [tasks[i] for i in having], [gains[i] for i in having]
        design = columns(kept)
        for column, (slope, others, within) in zip(design, adjusted_slopes(of_gain, design, of_task), strict=True):
            if column.factor == factor:
                found.append(
                    Moderator(
                        method, budget, "factor", factor, column.level, within, len(having), len(set(of_task)),
                        slope.slope, slope.ci95, slope.p, others,
                    )
                )  # fmt: skip
    return found


def adjusted_slopes(
    gains: Sequence[float], design: Sequence[Column], tasks: Sequence[str]
) -> list[tuple[Slope, tuple[str, ...], bool]]:
    """Return the slope on every column, the factors that it is adjusted for, and whether it is one within tasks.

    Factors that vary within tasks go into one fit where that separates them; otherwise each is fitted alone, which is
    fair where the design crosses them. A factor that is the same in all cells of a task is read over means of tasks.
    """
    inner = [column for column in design if len({*zip(tasks, column.values, strict=True)}) > len({*tasks})]
    together = slopes_within(gains, [column.values for column in inner], tasks) if inner else []
    joint = len(inner) > 1 and all(found.slope == found.slope for found in together)
    slopes = iter(together if joint else [slopes_within(gains, [c.values], tasks)[0] for c in inner])
    names = dict.fromkeys(column.factor for column in inner)
    found: list[tuple[Slope, tuple[str, ...], bool]] = []
    for column in design:
        if column in inner:
            others = tuple(name for name in names if name != column.factor) if joint else ()
            found.append((next(slopes), ("task", *others), True))
        else:
            found.append((slope_between(gains, column.values, tasks), (), False))
    return found
