"""The atlas cell by cell: mean gains, at which level each factor stands, and what the baseline's runs are like.

What was measured on the baseline is taken from every second replicate, and the gain that it is held against from the
others: a baseline that happened to be poor in a replicate shows a large gain there.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.records import FactorValue
from study.specs.factors import FACTORS

METHODS = ("SWA", "EMA", "SAM", "WASAM")
Values = NDArray[Any]
Rows = Mapping[str, Values]  # the columns of some rows of a frame of gains
Of = Callable[[Rows], float]
_FIRST = ("cosine", "batch", "SGD")  # levels that are words: what comes first, as in the specs


@dataclass(frozen=True, slots=True)
class CellGain:
    """What a method gained in a cell under a budget, over its strongest baseline.

    Attributes:
        part, task, domain, base, cell: Where.
        levels: 0 or 1, the lower or the upper of the two values, for every factor that varies within the task.
        features: What the baseline is like, by the names of `FEATURES_OF_CELLS`, over the odd replicates; those that
            are unknown are left out.
        gain: Mean over all replicates.
        error: Its standard error.
        gain_elsewhere: Mean over the even replicates.
        over: Mean gain over each baseline, by the columns of the frame.
        gains: By replicate.
    """

    part: str
    task: str
    domain: str
    base: str
    cell: str
    levels: Mapping[str, int]
    features: Mapping[str, float]
    gain: float
    error: float
    gain_elsewhere: float
    over: Mapping[str, float]
    gains: tuple[float, ...]


def cell_gains(gains: pd.DataFrame, method: str, budget: str = "G", *, searched_decay: bool = False) -> list[CellGain]:
    """Return the cells of a frame of gains, in its order.

    Args:
        gains: As `study.atlas.frames.load_gains` returns it.
        method: One of `METHODS`.
        budget: ``E`` or ``G``.
        searched_decay: Of the parts whose weight decay was searched, or of all others.
    """
    if gains.empty:
        return []
    kept = gains[
        (gains["method"] == method) & (gains["budget"] == budget) & (gains["searched_decay"] == searched_decay)
    ]
    levels = _levels(kept)
    found = []
    columns = {str(name): kept[name].to_numpy() for name in kept}
    groups: Mapping[Any, Any] = kept.groupby(["part", "cell"], sort=False).indices
    for (part, cell), places in groups.items():
        rows = {name: values[places] for name, values in columns.items()}
        task, values = str(rows["task"][0]), rows["gain"].astype(float)
        odd = rows["replicate"] % 2 == 1
        described = {name: column[odd] for name, column in rows.items()}
        features = {name: of(described) for name, (_, of) in FEATURES_OF_CELLS.items()}
        found.append(
            CellGain(
                str(part), task, str(rows["domain"][0]), str(rows["base"][0]), str(cell),
                {name: level[rows[name][0]] for name, level in levels.get(task, {}).items()},
                {name: value for name, value in features.items() if math.isfinite(value)},
                _mean(values),
                float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan,
                _mean(values[~odd]),
                {name: _mean(column) for name, column in rows.items() if name.startswith("over_")},
                tuple(map(float, values)),
            )
        )  # fmt: skip
    return found


def _levels(kept: pd.DataFrame) -> dict[str, dict[str, dict[FactorValue, int]]]:
    """Return, by task and factor, the place of each of its two values; factors of one value are left out."""
    names = [name for name in ("base", *FACTORS) if name in kept and name != "weight_decay"]
    found: dict[str, dict[str, dict[FactorValue, int]]] = {}
    for task, rows in kept.groupby("task", sort=False):
        for name in names:
            values = sorted(rows[name].dropna().unique().tolist(), key=lambda value: (value not in _FIRST, value))
            if len(values) == 2:
                found.setdefault(str(task), {})[name] = {value: place for place, value in enumerate(values)}
    return found


def _mean(values: Values) -> float:
    """Return the mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _mean_of(column: str) -> Of:
    return lambda rows: _mean(rows[column])


def _log_mean_of(*columns: str) -> Of:
    """Return the mean log10 of a product, over the replicates in which it is above 0."""

    def of(rows: Rows) -> float:
        product = math.prod((rows[name] for name in columns), start=np.ones(()))
        return _mean(np.log10(product[product > 0]))

    return of


def _share_of_noise(when: str) -> Of:
    """Return which share of a step's squared gradient is noise: B_simple / (B_simple + B), with batches of B.

    Signal and noise are averaged over the replicates first: the signal of one may be estimated below 0.
    """

    def of(rows: Rows) -> float:
        noise = _mean(rows[f"{when}gradient_noise"] / rows["batch_size"])
        signal = max(0.0, _mean(rows[f"{when}gradient_signal"]))
        return noise / (noise + signal) if noise > 0 else math.nan

    return of


# What is measured on the baseline of a cell: words, and how it is made of the rows of a frame of gains.
FEATURES_OF_CELLS: dict[str, tuple[str, Of]] = {
    "base_score": ("score of the baseline", _mean_of("base_score")),
    "score_gap": ("training minus validation score at the end", _mean_of("score_gap")),
    "loss_gap": ("validation minus training loss at the end", _mean_of("loss_gap")),
    "early_stopping": ("what the best epoch gains on validation over the last", _mean_of("early_stopping")),
    "best_epoch": ("the best epoch, as a share of all", _mean_of("best_epoch")),
    "memorized": ("share of wrong training labels that are memorized", _mean_of("memorized")),
    "end_rate": ("log10 of the learning rate at the end", _log_mean_of("end_rate")),
    "halfway_noise": ("share of noise in a step's gradient, half-way", _share_of_noise("halfway_")),
    "noise": ("share of noise in a step's gradient, at the end", _share_of_noise("")),
    "sharpness": ("log10 of largest eigenvalue × picked rate", _log_mean_of("top_eigenvalue", "base_rate")),
    "rise": ("log10 of the rise within a radius of 0.05", _log_mean_of("worst_case_rise")),
}


def tasks_of(cells: Iterable[CellGain]) -> list[str]:
    """Return the tasks of cells, in their order."""
    return list(dict.fromkeys(one.task for one in cells))


def by_task(cells: Sequence[CellGain]) -> dict[str, list[CellGain]]:
    """Return the cells of each task, in their order."""
    return {task: [one for one in cells if one.task == task] for task in tasks_of(cells)}
