"""The confirm runs behind a selected configuration: the frame does not name methods, selections do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from study.selection import Selection

_MEASURED = ["seed", "status", "weights", "epoch", "final", "val_accuracy", "test_accuracy", "gradient_evaluations"]
_CONFIGURATION = ["cell", "family", "epochs_factor", "learning_rate", "rho", "average_start"]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The confirm rows of one selection, of every epoch and all weights."""

    selection: Selection
    rows: pd.DataFrame

    @property
    def final(self) -> pd.DataFrame:
        """The rows of the selected weights at the last epoch, one a run, by seed."""
        rows = self.rows[self.rows["final"] & (self.rows["weights"] == self.selection.weights)]
        return rows[rows["test_accuracy"].notna()].sort_values("seed")


def confirmed_runs(
    frame: pd.DataFrame, selections: Iterable[Selection], families: Mapping[str, str]
) -> tuple[Confirmed, ...]:
    """Return the confirm rows of every selection that has any. ``families`` names each method's trajectory."""
    done = (frame["stage"] == "confirm") & (frame["status"] != "failed")
    confirm = frame.loc[done, [*_CONFIGURATION, *_MEASURED]]
    groups = dict(iter(confirm.groupby(_CONFIGURATION)))
    found = []
    for chosen in selections:
        family = families.get(chosen.method)
        key = (
            chosen.cell, family, chosen.epochs_factor, chosen.learning_rate, chosen.rho, chosen.average_start,
        )  # fmt: skip
        if key in groups:
            found.append(Confirmed(chosen, groups[key]))
    return tuple(found)
