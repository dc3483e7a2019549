"""Designs: from the cells of a study to regression columns, and slopes over cells with their uncertainty."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from study.stats.estimates import Number, binary_scale, scaled

Level = bool | int | float | str
Vector = NDArray[np.float64]
NEGLIGIBLE = 1e-9  # a column whose share of variation left over is below this is explained by the others


@dataclass(frozen=True, slots=True)
class Column:
    """One factor as numbers, one a cell.

    ``level`` is "" where the factor is a number; otherwise the column is 1 where the factor has this level, and 0
    elsewhere, and the level that stands first is what it is held against.
    """

    factor: str
    level: str
    values: tuple[float, ...]


def columns(cells: Sequence[Mapping[str, Level]]) -> list[Column]:
    """Return the columns of all factors that every cell has and that differ between them, in the factors' order."""
    found: list[Column] = []
    for factor in cells[0] if cells else ():
        levels = list(dict.fromkeys(cell.get(factor) for cell in cells))
        if len(levels) < 2 or None in levels:
            continue
        if all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
            found.append(Column(factor, "", tuple(float(cell[factor]) for cell in cells)))
        else:
            found += [
                Column(factor, str(level), tuple(float(cell[factor] == level) for cell in cells))
                for level in levels[1:]
            ]
    return found


def isolated(target: Sequence[float], others: Sequence[Column]) -> Vector | None:
    """Return what is left of a column after the mean and the other columns are taken out of it.

    The least-squares slope on ``target``, adjusted for the others, is ``isolated · y / isolated · isolated``: a
    fixed linear combination of the cells, so it can be taken seed by seed.

    Returns:
        One number a cell; None where nothing is left: ``target`` is constant or confounded with the others.

    Source: Frisch & Waugh 1933, Lovell 1963.
    """
    values = np.asarray(target, dtype=np.float64)
    spread = float(np.linalg.norm(values - values.mean()))
    rest = np.column_stack([np.ones(len(values)), *(column.values for column in others)])
    left: Vector = values - rest @ np.linalg.lstsq(rest, values)[0]
    return left if float(np.linalg.norm(left)) > NEGLIGIBLE * spread > 0 else None


@dataclass(frozen=True, slots=True)
class Slope:
    """A regression coefficient, its 95 % interval and two-sided p value; NaN where they can't be known."""

    slope: Number
    ci95: tuple[Number, Number]
    p: Number


UNKNOWN_SLOPE = Slope(math.nan, (math.nan, math.nan), math.nan)


Fit = Callable[[Sequence[float], Sequence[Sequence[float]]], list[Slope]]


def robust_slopes(y: Sequence[float], predictors: Sequence[Sequence[float]]) -> list[Slope]:
    """Return the least-squares slope on every predictor, with an intercept and HC3 standard errors.

    HC3 divides each squared residual by (1 − leverage)², which keeps a test honest with few cells whose spreads
    differ. t distribution with n − k degrees of freedom. Unknown where there is no such freedom, where predictors
    are confounded, and where a cell has leverage 1 (the fit passes through it, so its spread can't be seen).

    Args:
        y: One number a cell.
        predictors: Columns, one number a cell each.

    Source: MacKinnon & White 1985, as statsmodels' ``OLS(…).fit(cov_type="HC3", use_t=True)``.
    """
    return at_ordinary_scale(_robust_slopes, y, predictors)


def at_ordinary_scale(fit: Fit, y: Sequence[float], predictors: Sequence[Sequence[float]]) -> list[Slope]:
    """Return the slopes that a fit finds, of numbers whose squares would be too large or too small as of all others."""
    exponents = [binary_scale(values) for values in (y, *predictors)]
    y, *predictors = (
        [scaled(v, -e) for v in values] if e else values for values, e in zip((y, *predictors), exponents, strict=True)
    )
    found = fit(y, predictors)
    return [_scaled_slope(one, exponents[0] - e) for one, e in zip(found, exponents[1:], strict=True)]


def _robust_slopes(y: Sequence[float], predictors: Sequence[Sequence[float]]) -> list[Slope]:
    design = np.column_stack([np.ones(len(y)), *predictors])
    freedom = len(y) - design.shape[1]
    unknown = [UNKNOWN_SLOPE] * len(predictors)
    if freedom < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return unknown
    pseudo_inverse = np.linalg.pinv(design)
    leverage = np.einsum("ij,ji->i", design, pseudo_inverse)
    if leverage.max() > 1 - NEGLIGIBLE:
        return unknown
    coefficients = pseudo_inverse @ np.asarray(y, dtype=np.float64)
    weighted = (np.asarray(y) - design @ coefficients) / (1 - leverage)
    errors = np.sqrt(np.einsum("ij,j->i", pseudo_inverse**2, weighted**2))
    half = float(t.isf(0.025, freedom)) * errors
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit has error 0: t infinite, or undefined at 0
        p = 2 * t.sf(np.abs(coefficients) / errors, freedom)
    return [
        Slope(float(b), (float(b - h), float(b + h)), float(q))
        for b, h, q in zip(coefficients[1:], half[1:], p[1:], strict=True)
    ]


def _scaled_slope(found: Slope, exponent: int) -> Slope:
    low, high = found.ci95
    return Slope(scaled(found.slope, exponent), (scaled(low, exponent), scaled(high, exponent)), found.p)
