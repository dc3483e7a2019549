"""The confirm runs behind a selected configuration: the frame does not name methods, selections do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.methods import METHODS
from study.records import Job, RunRecord
from study.selection import Selection

_MEASURED = ["seed", "status", "weights", "epoch", "final", "val_score", "test_score", "gradient_evaluations"]
_MEASURED += ["test_loss", "test_calibration_error"]
_CONFIGURATION = ["cell", "family", "epochs_factor", "learning_rate", "rho", "average_start"]


@dataclass(frozen=True)
class Confirmed:
    """The confirm rows of one selection, of every epoch and all weights.

    ``ends`` holds the rows of the last epochs of all selections, by seed, and ``places`` where this one's stand in it,
    by weights: looking for them in each selection's own rows takes a study of many problems seconds.
    """

    selection: Selection
    rows: pd.DataFrame
    ends: pd.DataFrame
    places: Mapping[str, NDArray[np.intp]]

    @cached_property
    def final(self) -> pd.DataFrame:
        """The rows of the selected weights at the last epoch, one a run, by seed."""
        rows = self._ends_of(self.selection.weights)
        return rows[rows["test_score"].notna()]

    def at_end(self, weights: str) -> pd.DataFrame:
        """The rows of ``weights`` at the last epoch of the completed runs, one a run, by seed."""
        rows = self._ends_of(weights)
        return rows[rows["status"] == "completed"]

    def _ends_of(self, weights: str) -> pd.DataFrame:
        return self.ends.take(self.places.get(weights, np.array([], dtype=np.intp)))


def confirmed_runs(
    frame: pd.DataFrame, selections: Iterable[Selection], families: Mapping[str, str]
) -> tuple[Confirmed, ...]:
    """Return the confirm rows of every selection that has any. ``families`` names each method's trajectory."""
    done = (frame["stage"] == "confirm") & (frame["status"] != "failed")
    confirm = frame.loc[done, [*_CONFIGURATION, *_MEASURED]]
    groups = dict(iter(confirm.groupby(_CONFIGURATION)))
    ends = confirm[confirm["final"]].sort_values("seed")
    places: dict[tuple[object, ...], dict[str, NDArray[np.intp]]] = {}
    grouped = cast("dict[tuple[Any, ...], NDArray[np.intp]]", ends.groupby([*_CONFIGURATION, "weights"]).indices)
    for (*configuration, weights), found in grouped.items():
        places.setdefault(tuple(configuration), {})[weights] = found
    confirmed = []
    for chosen in selections:
        family = families.get(chosen.method)
        key = (
            chosen.cell, family, chosen.epochs_factor, chosen.learning_rate, chosen.rho, chosen.average_start,
        )  # fmt: skip
        if key in groups:
            confirmed.append(Confirmed(chosen, groups[key], ends, places.get(key, {})))
    return tuple(confirmed)


def records_by_selection(
    records: Iterable[RunRecord], selections: Iterable[Selection]
) -> tuple[tuple[Selection, tuple[RunRecord, ...]], ...]:
    """Return every selection at equal epochs with its completed confirm runs, by seed; those without any are left out.

    A shared trajectory stands beside every method that reads it.
    """
    groups: dict[tuple[object, ...], list[RunRecord]] = {}
    for record in records:
        if record.job.stage == "confirm" and record.status == "completed":
            groups.setdefault(_configuration(record.job), []).append(record)
    found = []
    for chosen in selections:
        family = METHODS[chosen.method].family
        key = (
            chosen.cell, family, 1.0, chosen.learning_rate, chosen.rho, chosen.average_start, chosen.weight_decay,
        )  # fmt: skip
        if chosen.epochs_factor == 1 and key in groups:
            found.append((chosen, tuple(sorted(groups[key], key=lambda record: record.job.seed))))
    return tuple(found)


def _configuration(job: Job) -> tuple[object, ...]:
    return (
        job.cell, job.family, job.epochs_factor, job.learning_rate, job.rho, job.average_start, job.weight_decay,
    )  # fmt: skip


def standing_for(selection: Selection) -> str:
    """Return the weights that stand for a method: its average, whatever validation picked, or the last ones."""
    return selection.average or "last"
