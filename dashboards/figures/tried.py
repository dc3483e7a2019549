"""What the tune stage tried: each run with its settings and the validation score of its last and averaged weights."""

from dataclasses import dataclass

import pandas as pd

LAST = 1.0  # the start that stands for "no averaging": the average over the final iterate alone


@dataclass(frozen=True, slots=True)
class Tried:
    """One tune run at equal epochs. ``scores``: (start of averaging as a share of the epochs, validation score)."""

    cell: str
    family: str
    trial: int
    learning_rate: float
    rho: float
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
    found = []
    for _, run in rows.groupby("run_id", sort=True):
        head = run.iloc[0]
        pairs = zip(run["weights"], run["val_score"], strict=True)
        found.append(
            Tried(
                cell=str(head["cell"]),
                family=str(head["family"]),
                trial=int(head["trial"]),
                learning_rate=float(head["learning_rate"]),
                rho=float(head["rho"]),
                scores=tuple(sorted((_start(str(weights)), float(score)) for weights, score in pairs)),
            )
        )
    return tuple(sorted(found, key=lambda run: (run.cell, run.family, run.trial)))


def _start(weights: str) -> float:
    return LAST if weights == "last" else float(weights.partition("@")[2])


def start_words(start: float) -> str:
    """Say a start of averaging: ``75 %``, or ``last`` where nothing is averaged."""
    return "last" if start == LAST else f"{100 * start:.3g}\u202f%"
