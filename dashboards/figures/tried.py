"""What the tune stage tried: each run with its settings and the validation score of its last and averaged weights."""

from dataclasses import dataclass

import pandas as pd

_COLUMNS = ["run_id", "cell", "family", "trial", "learning_rate", "rho", "weight_decay", "weights", "val_score"]
LAST = 1.0  # the start that stands for "no averaging": the average over the final iterate alone


@dataclass(frozen=True, slots=True)
class Tried:
    """One tune run at equal epochs. ``scores``: (start of averaging as a share of the epochs, validation score).

    ``weight_decay`` is NaN where the task has no such factor.
    """

    cell: str
    family: str
    trial: int
    learning_rate: float
    rho: float
    weight_decay: float
    scores: tuple[tuple[float, float], ...]

    @property
    def best(self) -> tuple[float, float]:
        """The start that validation prefers and its score; the last weights win ties."""
        return max(self.scores, key=lambda pair: (pair[1], pair[0]))


def tried_of(frame: pd.DataFrame) -> tuple[Tried, ...]:
    """Return the tune runs that were measured, by cell, family and trial."""
    rows = frame[
        (frame["stage"] == "tune") & frame["final"] & frame["val_score"].notna() & (frame["epochs_factor"] == 1)
    ]
    rows = rows[(rows["weights"] == "last") | rows["weights"].str.startswith("swa@")]
    rows = rows.reindex(columns=_COLUMNS)  # a study without the factor has no such column
    # One pass over plain objects: a group of pandas for every run takes minutes where there are many runs.
    heads: dict[str, tuple[str, str, int, float, float, float]] = {}
    scores: dict[str, list[tuple[float, float]]] = {}
    columns = (rows[name].to_numpy(dtype="object") for name in _COLUMNS)
    for run_id, cell, family, trial, rate, rho, decay, weights, score in zip(*columns, strict=True):
        heads.setdefault(run_id, (str(cell), str(family), int(trial), float(rate), float(rho), float(decay)))
        scores.setdefault(run_id, []).append((_start(str(weights)), float(score)))
    found = [Tried(*heads[run_id], tuple(sorted(scores[run_id]))) for run_id in sorted(heads)]
    return tuple(sorted(found, key=lambda run: (run.cell, run.family, run.trial)))


def _start(weights: str) -> float:
    return LAST if weights == "last" else float(weights.partition("@")[2])


def start_words(start: float) -> str:
    """Say a start of averaging: ``75 %``, or ``last`` where nothing is averaged."""
    return "last" if start == LAST else f"{100 * start:.3g}\u202f%"
