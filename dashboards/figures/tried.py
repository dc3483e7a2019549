"""What the tune stage tried: each run with its settings and the validation score of its last and averaged weights."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from dashboards.figures.rows import rows_of

_COLUMNS = ["run_id", "cell", "family", "trial", "learning_rate", "rho", "weight_decay", "weights", "val_score"]
LAST = 1.0  # the start that stands for "no averaging": the average over the final iterate alone


class Run(NamedTuple):
    """One tune run at equal epochs with the weights that validation prefers; the last weights win ties.

    ``weight_decay`` is NaN where the task has no such factor; ``start`` and ``score`` as in `Tried`.
    """

    cell: str
    family: str
    trial: int
    learning_rate: float
    rho: float
    weight_decay: float
    start: float
    score: float


@dataclass(frozen=True, slots=True)
class Tried:
    """The tune runs at equal epochs that were measured, by cell, family and trial.

    ``weights`` is a table with one row for each set of weights, as there are several times as many of them as runs:
    ``run`` (counted from 0), the settings of the run, ``start`` (of averaging, as a share of the epochs) and ``score``
    (on validation).
    """

    runs: tuple[Run, ...]
    weights: pd.DataFrame


def tried_of(frame: pd.DataFrame) -> Tried:
    """Return the tune runs that were measured."""
    measured = (frame["stage"] == "tune") & frame["final"] & frame["val_score"].notna() & (frame["epochs_factor"] == 1)
    rows = frame.reindex(columns=_COLUMNS)[measured]  # a study without the factor has no such column
    kinds, names = rows["weights"].factorize()
    rows = pd.DataFrame(
        {
            "run": rows["run_id"].factorize(sort=True)[0],
            **rows[["cell", "family"]].astype("category"),  # few names in many rows
            **rows[["trial", "learning_rate", "rho", "weight_decay"]],
            "start": np.array([_start(name) for name in names], dtype="float64")[kinds],
            "score": rows["val_score"],
        }
    ).dropna(subset="start")
    rows = rows.sort_values(["cell", "family", "trial", "run", "start"], ignore_index=True)
    best = rows[::-1].groupby("run")["score"].idxmax()  # from the end: the first of equal scores is taken
    return Tried(tuple(map(Run._make, rows_of(rows.loc[best.sort_values()], Run._fields))), rows)


def _start(weights: str) -> float:
    """Return from when the weights are averaged, NaN for averages that have no start (EMA, LAWA)."""
    kind, _, start = weights.partition("@")
    return LAST if kind == "last" else float(start) if kind == "swa" else math.nan


def start_words(start: float) -> str:
    """Say a start of averaging: ``75 %``, or ``last`` where nothing is averaged."""
    return "last" if start == LAST else f"{100 * start:.3g}\u202f%"
