"""What the tune stage tried: each run with its settings and the validation score of its last and averaged weights."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from dashboards.figures.kit.confirmed import rows_of

_COLUMNS = ["run_id", "cell", "family", "trial", "learning_rate", "rho", "weight_decay", "weights", "val_score"]
NO_AVERAGE = 1.0  # the start that stands for no averaging: the last weights, or the best epoch's where they are kept


class Run(NamedTuple):
    """One tune run at equal epochs with the weights that validation prefers; those without an average win ties.

    ``weight_decay`` is NaN where the task has no such factor; ``start`` is that of averaging, as a share of the epochs,
    ``score`` that on validation.
    """

    cell: str
    family: str
    trial: int
    learning_rate: float
    rho: float
    weight_decay: float
    start: float
    score: float


def tried_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the tune runs at equal epochs that were measured, one row a run, by cell, family and trial.

    The columns are those of `Run`. There may be very many: objects are made of those alone that are shown.
    """
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
    rows = rows.sort_values(["cell", "family", "trial", "run", "start", "score"], ignore_index=True)
    rows = rows.drop_duplicates(["run", "start"], keep="last", ignore_index=True)
    best = rows[::-1].groupby("run")["score"].idxmax()  # from the end: the first of equal scores is taken
    return rows.loc[best.sort_values()]


def runs_in(table: pd.DataFrame) -> list[Run]:
    """Return the runs of a table of `tried_of`."""
    return list(map(Run._make, rows_of(table, Run._fields)))


def _start(weights: str) -> float:
    """Return from when the weights are averaged, NaN for averages that have no start (EMA, LAWA)."""
    kind, _, start = weights.partition("@")
    return NO_AVERAGE if kind in ("last", "best") else float(start) if kind == "swa" else math.nan


def start_words(start: float) -> str:
    """Say a start of averaging: ``75 %``, or ``none`` where nothing is averaged."""
    return "none" if start == NO_AVERAGE else f"{100 * start:.3g}\u202f%"
