"""Advice: what the features of a baseline's runs let one expect of the gains, and how good that guess has been.

A ridge regression on standardized features, in which every task counts alike; what is unknown stands at the mean. How
much it is shrunk is chosen by leaving out one task at a time, and "to nothing but the mean" is among the choices.
Nothing is believed that was not tried: validation leaves out one task after the other, the choice of shrinkage and the
width of the intervals included.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.atlas.cells import FEATURES_OF_CELLS, CellGain, tasks_of
from study.stats.clustered import MIN_TASKS

COVERAGE = 0.8
_SHRUNK = (0.1, 1.0, 10.0, 100.0, math.inf)  # penalties, in units of a cell; the last leaves the mean
_NEIGHBOURS, _REASONS = 3, 3

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A cell of the atlas that a problem resembles: what was gained there, and the features that are alike."""

    task: str
    cell: str
    gain: float
    distance: float
    alike: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the atlas lets one expect of a method on a problem that it has not seen.

    ``low`` and ``high`` are the ends of an interval that held four in five gains of unseen tasks, more or less; see
    `Validation`. ``of_mean`` is what "always the mean of the atlas" says.
    """

    method: str
    gain: float
    low: float
    high: float
    of_mean: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Validation:
    """How good the predictions were for tasks that were left out.

    Attributes:
        method: Whose gains.
        tasks, cells: How many.
        error: Root mean squared error over cells, every task counting alike.
        error_of_mean: That of "always the mean of the other tasks".
        coverage: Share of the gains that lay in their intervals, every task counting alike.
    """

    method: str
    tasks: int
    cells: int
    error: float
    error_of_mean: float
    coverage: float

    @property
    def skilled(self) -> bool:
        """Tell whether predicting is better than always saying the mean."""
        return self.error < self.error_of_mean


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
        found: Vector = np.nan_to_num((features - self.centre) / self.scale)
        return found


def predict(method: str, cells: Sequence[CellGain], features: Mapping[str, float]) -> Prediction | None:
    """Predict a method's gain on a problem from the features of its baseline; None with fewer than five tasks.

    Args:
        method: Whose.
        cells: Of the atlas, for that method; gains and features are of different replicates.
        features: By the names of `FEATURES_OF_CELLS`; those that are unknown are left out.
    """
    x, y, tasks = _arrays(cells)
    if len({*tasks}) < MIN_TASKS:
        return None
    penalty = _chosen(x, y, tasks)
    model = _fit(x, y, tasks, penalty)
    asked = np.array([[features.get(name, math.nan) for name in FEATURES_OF_CELLS]])
    gain, half = float(model.of(asked)[0]), _half_width(x, y, tasks, penalty)
    near = _neighbours(cells, model.standardized(x), model, asked)
    return Prediction(method, gain, gain - half, gain + half, model.mean, tuple(near))


def validate(method: str, cells: Sequence[CellGain]) -> Validation | None:
    """Return how good predictions are for tasks that are left out; None with fewer than six tasks."""
    x, y, tasks = _arrays(cells)
    names = sorted({*tasks})
    if len(names) <= MIN_TASKS:
        return None
    errors, of_mean, covered = [], [], []
    for name in names:
        own = tasks == name
        penalty = _chosen(x[~own], y[~own], tasks[~own])
        model = _fit(x[~own], y[~own], tasks[~own], penalty)
        missed = np.abs(model.of(x[own]) - y[own])
        errors.append(float((missed**2).mean()))
        of_mean.append(float(((model.mean - y[own]) ** 2).mean()))
        covered.append(float((missed <= _half_width(x[~own], y[~own], tasks[~own], penalty)).mean()))
    return Validation(
        method, len(names), len(y), math.sqrt(np.mean(errors)), math.sqrt(np.mean(of_mean)), float(np.mean(covered))
    )


def _arrays(cells: Sequence[CellGain]) -> tuple[Vector, Vector, NDArray[np.str_]]:
    """Return features ``(n, features)``, gains of other replicates ``(n,)`` and tasks of the cells that have both."""
    known = [one for one in cells if math.isfinite(one.gain_elsewhere)]
    rows = [[one.features.get(name, math.nan) for name in FEATURES_OF_CELLS] for one in known]
    x = np.array(rows, dtype=np.float64).reshape(len(known), len(FEATURES_OF_CELLS))
    return x, np.array([one.gain_elsewhere for one in known]), np.array([one.task for one in known], dtype=str)


def _fit(x: Vector, y: Vector, tasks: NDArray[np.str_], penalty: float) -> _Model:
    weights = _weights(tasks)
    known = ~np.isnan(x)
    total = np.maximum((known * weights[:, None]).sum(axis=0), 1e-12)
    filled = np.nan_to_num(x)
    centre = (filled * known * weights[:, None]).sum(axis=0) / total
    spread = np.sqrt((((filled - centre) * known) ** 2 * weights[:, None]).sum(axis=0) / total)
    scale = np.where(spread > 1e-12, spread, np.inf)
    mean = float(weights @ y / weights.sum())
    if math.isinf(penalty):
        return _Model(centre, scale, np.zeros(x.shape[1]), mean)
    standardized = np.nan_to_num((x - centre) / scale)
    matrix = standardized.T @ (standardized * weights[:, None]) + penalty * np.eye(x.shape[1])
    return _Model(centre, scale, np.linalg.solve(matrix, standardized.T @ (weights * (y - mean))), mean)


def _weights(tasks: NDArray[np.str_]) -> Vector:
    """Return the weight of each cell: every task counts alike, and all together as many as there are cells."""
    names, counts = np.unique(tasks, return_counts=True)
    of = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return np.array([len(tasks) / len(names) / of[str(task)] for task in tasks])


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


def _neighbours(cells: Sequence[CellGain], known: Vector, model: _Model, asked: Vector) -> list[Neighbour]:
    """Return the nearest cell of each of the nearest tasks, by the features that are known of the problem."""
    there = ~np.isnan(asked[0])
    if not there.any():
        return []
    having = [one for one in cells if math.isfinite(one.gain_elsewhere)]
    gaps = np.abs(known - model.standardized(asked))[:, there]
    distances = np.sqrt((gaps**2).mean(axis=1))
    words = [text for (text, _), is_there in zip(FEATURES_OF_CELLS.values(), there, strict=True) if is_there]
    nearest = {
        task: min((i for i, one in enumerate(having) if one.task == task), key=lambda i: float(distances[i]))
        for task in tasks_of(having)
    }
    return [
        Neighbour(
            having[i].task, having[i].cell, having[i].gain, float(distances[i]),
            tuple(words[j] for j in np.argsort(gaps[i], kind="stable")[:_REASONS]),
        )
        for i in sorted(nearest.values(), key=lambda i: float(distances[i]))[:_NEIGHBOURS]
    ]  # fmt: skip
