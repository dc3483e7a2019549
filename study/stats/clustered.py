"""Slopes over cells whose witnesses are tasks: what a factor does in one task tells nothing twice.

Cells of a task share all that the task has of its own, also how a factor acts there. So a factor that varies within
tasks is read within each, and how much the tasks differ in that is its error.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from study.stats.designs import NEGLIGIBLE, UNKNOWN_SLOPE, Slope, Vector, at_ordinary_scale, robust_slopes
from study.stats.estimates import mean_of

MIN_TASKS = 5  # fewer are no sample of problems


def slopes_within(y: Sequence[float], predictors: Sequence[Sequence[float]], tasks: Sequence[str]) -> list[Slope]:
    """Return the least-squares slope on every predictor within tasks, with the error that leaving out tasks shows.

    Means of tasks are taken out first, and all predictors go into one fit. The variance of a slope is
    (G − 1)/G · Σ (slope without task g − slope)², over the G tasks in which the predictor varies, and t has G − 1
    degrees of freedom; where all tasks have the same design, this is the t test of the tasks' own slopes. Unknown with
    fewer than five such tasks, or where predictors are confounded in what is left when a task is taken out.

    Args:
        y: One number a cell.
        predictors: Columns, one number a cell each.
        tasks: The task of each cell.

    Source: the jackknife by cluster, CV3 of MacKinnon, Nielsen & Webb 2023 (Bell & McCaffrey 2002).
    """
    return at_ordinary_scale(partial(_slopes_within, tasks=tasks), y, predictors)


def _slopes_within(y: Sequence[float], predictors: Sequence[Sequence[float]], *, tasks: Sequence[str]) -> list[Slope]:
    names = sorted(set(tasks))
    member = np.asarray([[task == name for task in tasks] for name in names])
    x = np.column_stack([_centred(column, member) for column in predictors])
    centred = _centred(y, member)
    slopes = _fit(x, centred)
    without = [_fit(x[~own], centred[~own]) for own in member]
    if slopes is None or any(one is None for one in without):
        return [UNKNOWN_SLOPE] * len(predictors)
    spread = np.abs(x).max(axis=0)
    varies = np.asarray([np.abs(x[own]).max(axis=0) > NEGLIGIBLE * spread for own in member])
    found = []
    for index, slope in enumerate(slopes):
        witnesses = int(varies[:, index].sum())
        if witnesses < MIN_TASKS:
            found.append(UNKNOWN_SLOPE)
            continue
        squares = sum((float(one[index]) - float(slope)) ** 2 for one in without if one is not None)
        found.append(_with_error(float(slope), math.sqrt((witnesses - 1) / witnesses * squares), witnesses - 1))
    return found


def slope_between(y: Sequence[float], predictor: Sequence[float], tasks: Sequence[str]) -> Slope:
    """Return the slope over the means of tasks: HC3, unknown with fewer than five tasks."""
    names = sorted(set(tasks))
    if len(names) < MIN_TASKS:
        return UNKNOWN_SLOPE
    means = [
        [mean_of([value for value, task in zip(values, tasks, strict=True) if task == name]) for name in names]
        for values in (y, predictor)
    ]
    return robust_slopes(means[0], [means[1]])[0]


def _centred(values: Sequence[float], member: NDArray[np.bool_]) -> Vector:
    """Take the mean of its task out of every value."""
    left = np.asarray(values, dtype=np.float64).copy()
    for own in member:
        left[own] -= left[own].mean()
    return left


def _fit(x: Vector, y: Vector) -> Vector | None:
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return None
    return np.asarray(np.linalg.lstsq(x, y)[0], dtype=np.float64)


def _with_error(slope: float, error: float, freedom: int) -> Slope:
    half = float(t.isf(0.025, freedom)) * error
    if error == 0:
        return Slope(slope, (slope, slope), 0.0 if slope else math.nan)
    return Slope(slope, (slope - half, slope + half), float(2 * t.sf(abs(slope) / error, freedom)))
