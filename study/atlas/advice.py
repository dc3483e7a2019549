"""Advice: what the features of a baseline's runs let one expect of the gains, and how good that guess has been.

A ridge regression on standardized features, in which every task counts alike; what is unknown stands at the mean. How
much it is shrunk is chosen by leaving out one task at a time, and "to nothing but the mean" is among the choices.
Nothing is believed that was not tried: validation leaves out one task after the other, the choice of shrinkage and the
width of the intervals included.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from study.atlas.features import FEATURES
from study.stats.clustered import MIN_TASKS

COVERAGE = 0.8
_LEVEL = 0.05  # of skill
_SHRUNK = (0.1, 1.0, 10.0, 100.0, math.inf)  # penalties, in units of a cell; the last leaves the mean
_NEIGHBOURS, _REASONS = 3, 3

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A cell of the atlas that a problem resembles: what was gained there, and the features that are alike."""

    task: str
    cell: str
    gain: float
    alike: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the atlas lets one expect on a problem that it has not seen.

    ``low`` and ``high`` are the ends of an interval that held four in five gains of unseen tasks, more or less; see
    `Validation`. ``of_mean`` is what "always the mean of the atlas" says.
    """

    gain: float
    low: float
    high: float
    of_mean: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Validation:
    """How good the predictions of a method's gains were for tasks that were left out.

    Attributes:
        tasks, cells: How many.
        error: Root mean squared error over cells, every task counting alike.
        error_of_mean: That of "always the mean of the other tasks".
        p: That predicting is no better than saying the mean: one-sided t test over tasks, of their mean squared errors.
        coverage: Share of the gains that lay in their intervals, every task counting alike.
    """

    tasks: int
    cells: int
    error: float
    error_of_mean: float
    p: float
    coverage: float

    @property
    def skilled(self) -> bool:
        """Tell whether predicting is shown to be better than always saying the mean."""
        return self.p < _LEVEL


@dataclass(frozen=True, slots=True)
class _Model:
    """A fitted regression: how features are standardized, the coefficients, and the mean."""

    centre: Vector
    scale: Vector
    coefficients: Vector
    mean: float

    def of(self, features: Vector) -> Vector:
        """Return the predictions for cells, ``(n, features)`` with NaN where something is unknown."""
        found: Vector = self.mean + self.standardized(features) @ self.coefficients
        return found

    def standardized(self, features: Vector) -> Vector:
        """Return features in standard deviations from their means; what is unknown stands at the mean."""
        found: Vector = np.nan_to_num((features - self.centre) / self.scale)
        return found


def predict(cells: pd.DataFrame, features: Mapping[str, float]) -> Prediction | None:
    """Predict a method's gain on a problem from the features of its baseline; None with fewer than five tasks.

    Args:
        cells: Of the atlas and the method, as `study.atlas.cell_means.cell_means` returns them.
        features: By the names of `FEATURES`; those that are unknown are left out.
    """
    x, y, tasks = _arrays(cells)
    if len({*tasks}) < MIN_TASKS:
        return None
    penalty = _chosen(x, y, tasks)
    model = _fit(x, y, tasks, penalty)
    asked = np.array([features.get(name, math.nan) for name in FEATURES])
    gain, half = float(model.of(asked[None])[0]), _half_width(x, y, tasks, penalty)
    gaps = np.abs(model.standardized(x) - model.standardized(asked))
    return Prediction(gain, gain - half, gain + half, model.mean, _neighbours(cells, gaps, ~np.isnan(asked)))


def validate(cells: pd.DataFrame) -> Validation | None:
    """Return how good predictions are for tasks that are left out; None with fewer than six tasks."""
    x, y, tasks = _arrays(cells)
    names = sorted({*tasks})
    if len(names) <= MIN_TASKS:
        return None
    errors, of_mean, covered = [], [], []
    for name in names:
        own = tasks == name
        others = x[~own], y[~own], tasks[~own]
        penalty = _chosen(*others)
        model = _fit(*others, penalty)
        missed = np.abs(model.of(x[own]) - y[own])
        errors.append(float((missed**2).mean()))
        of_mean.append(float(((model.mean - y[own]) ** 2).mean()))
        covered.append(float((missed <= _half_width(*others, penalty)).mean()))
    better = np.subtract(of_mean, errors)
    p = float(ttest_1samp(better, 0, alternative="greater").pvalue) if np.ptp(better) > 0 else 1.0
    return Validation(
        len(names), len(y), math.sqrt(np.mean(errors)), math.sqrt(np.mean(of_mean)), p, float(np.mean(covered))
    )


def _arrays(cells: pd.DataFrame) -> tuple[Vector, Vector, NDArray[np.str_]]:
    """Return features ``(n, features)``, gains of other replicates ``(n,)`` and tasks of cells."""
    return cells[[*FEATURES]].to_numpy(float), cells["crossed_even"].to_numpy(float), cells["task"].to_numpy(str)


def _fit(x: Vector, y: Vector, tasks: NDArray[np.str_], penalty: float) -> _Model:
    weights, filled = _weights(tasks), np.nan_to_num(x)
    known = ~np.isnan(x) * weights[:, None]
    total = np.maximum(known.sum(axis=0), 1e-12)
    centre = (known * filled).sum(axis=0) / total
    spread = np.sqrt((known * (filled - centre) ** 2).sum(axis=0) / total)
    scale = np.where(spread > 1e-12, spread, np.inf)
    mean = float(weights @ y / weights.sum())
    if math.isinf(penalty):
        return _Model(centre, scale, np.zeros(x.shape[1]), mean)
    standardized = np.nan_to_num((x - centre) / scale)
    matrix = standardized.T @ (standardized * weights[:, None]) + penalty * np.eye(x.shape[1])
    return _Model(centre, scale, np.linalg.solve(matrix, standardized.T @ (weights * (y - mean))), mean)


def _weights(tasks: NDArray[np.str_]) -> Vector:
    """Return the weight of each cell: every task counts alike, and all together as many as there are cells."""
    _, places, counts = np.unique(tasks, return_inverse=True, return_counts=True)
    found: Vector = len(tasks) / len(counts) / counts[places]
    return found


def _left_out(x: Vector, y: Vector, tasks: NDArray[np.str_], penalty: float) -> Vector:
    """Return how far off each cell is predicted by the other tasks."""
    missed = np.empty(len(y))
    for name in np.unique(tasks):
        own = tasks == name
        missed[own] = np.abs(_fit(x[~own], y[~own], tasks[~own], penalty).of(x[own]) - y[own])
    return missed


def _chosen(x: Vector, y: Vector, tasks: NDArray[np.str_]) -> float:
    """Return the penalty that predicts tasks best which are left out; of equals the larger one."""
    weights = _weights(tasks)
    return min(reversed(_SHRUNK), key=lambda penalty: float(weights @ _left_out(x, y, tasks, penalty) ** 2))


def _half_width(x: Vector, y: Vector, tasks: NDArray[np.str_], penalty: float) -> float:
    """Return half of an interval that holds four in five gains of a new task.

    It is the quantile of what left-out tasks were off by, each counting alike, at .8 (T + 1) / T for T tasks: one more
    task is as likely to be anywhere among them.

    Source: split conformal prediction (Vovk et al. 2005; Lei et al. 2018), with tasks in place of examples.
    """
    missed, weights = _left_out(x, y, tasks, penalty), _weights(tasks)
    count = len(np.unique(tasks))
    order = np.argsort(missed)
    reached = np.cumsum(weights[order]) / weights.sum()
    place = int(np.searchsorted(reached, min(1.0, COVERAGE * (count + 1) / count) - 1e-12))
    return float(missed[order][min(place, len(missed) - 1)])


def _neighbours(cells: pd.DataFrame, gaps: Vector, known: NDArray[np.bool_]) -> tuple[Neighbour, ...]:
    """Return the nearest cell of each of the nearest tasks, by the features that are known of the problem.

    Args:
        cells: Of the atlas.
        gaps: How far apart each of them and the problem are, ``(n, features)``.
        known: Which features are known of the problem.
    """
    if not known.any():
        return ()
    words = np.array([*FEATURES.values()])[known]
    apart = pd.Series(np.sqrt((gaps[:, known] ** 2).mean(axis=1)))
    nearest = sorted(
        apart.groupby(cells["task"].to_numpy(), sort=False).idxmin(), key=lambda place: float(apart[place])
    )
    found = []
    for place in nearest[:_NEIGHBOURS]:
        cell = cells.iloc[place]
        alike = words[np.argsort(gaps[place, known], kind="stable")[:_REASONS]]
        found.append(Neighbour(str(cell["task"]), str(cell["cell"]), float(cell["crossed"]), tuple(alike)))
    return tuple(found)
