"""The confirm runs behind a selected configuration: the frame does not name methods, selections do."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from study.plan.selection import Selection
from study.records import Configuration, RunRecord, configuration_of


class End(NamedTuple):
    """What one run measured with one set of weights at its last epoch; NaN where it measured nothing."""

    status: str
    epoch: int
    val_score: float
    test_score: float
    test_loss: float
    test_calibration_error: float
    gradient_evaluations: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The confirm runs of one selection.

    ``ends`` holds their ends by weights, each in the order of the seeds; ``course`` the validation scores of the
    completed runs with their last weights, by epoch.
    """

    selection: Selection
    ends: Mapping[str, Sequence[End]]
    course: Mapping[int, Sequence[float]]

    @property
    def final(self) -> list[End]:
        """The ends of the selected weights that have a test score, one a run, by seed."""
        return [end for end in self.ends.get(self.selection.weights, ()) if not math.isnan(end.test_score)]

    def at_end(self, weights: str) -> list[End]:
        """The ends of ``weights`` in the completed runs, one a run, by seed."""
        return [end for end in self.ends.get(weights, ()) if end.status == "completed"]


def confirmed_runs(frame: pd.DataFrame, selections: Iterable[Selection]) -> tuple[Confirmed, ...]:
    """Return the confirm runs of every selection that has any."""
    # One pass over plain objects: looking for the rows of each selection takes a study of many problems seconds.
    done = (frame["stage"] == "confirm") & (frame["status"] != "failed")
    confirm = frame.loc[done, ["configuration", "seed", "weights", "final", *End._fields]]
    ends: dict[str, dict[str, list[End]]] = {}
    last = confirm[confirm["final"]].sort_values("seed")
    for key, weights, end in zip(
        last["configuration"], last["weights"], map(End._make, rows_of(last, End._fields)), strict=True
    ):
        ends.setdefault(key, {}).setdefault(weights, []).append(end)
    courses: dict[str, dict[int, list[float]]] = {}
    kept = confirm[(confirm["weights"] == "last") & (confirm["status"] == "completed") & confirm["val_score"].notna()]
    for key, epoch, score in rows_of(kept, ("configuration", "epoch", "val_score")):
        courses.setdefault(key, {}).setdefault(epoch, []).append(score)
    confirmed = []
    for chosen in selections:
        if (key := configuration_of(chosen).id) in ends:
            confirmed.append(Confirmed(chosen, ends[key], courses.get(key, {})))
    return tuple(confirmed)


def records_by_selection(
    records: Iterable[RunRecord], selections: Iterable[Selection]
) -> tuple[tuple[Selection, tuple[RunRecord, ...]], ...]:
    """Return every selection at equal epochs with its completed confirm runs, by seed; those without any are left out.

    A shared trajectory stands beside every method that reads it.
    """
    groups: dict[Configuration, list[RunRecord]] = {}
    for record in records:
        if record.job.stage == "confirm" and record.status == "completed":
            groups.setdefault(configuration_of(record.job), []).append(record)
    found = []
    for chosen in selections:
        key = configuration_of(chosen)
        if chosen.epochs_factor == 1 and key in groups:
            found.append((chosen, tuple(sorted(groups[key], key=lambda record: record.job.seed))))
    return tuple(found)


def standing_for(selection: Selection) -> str:
    """Return the weights that stand for a method: its average, whatever validation picked, or the last ones."""
    return selection.average or "last"


def rows_of(table: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return the values of a table's columns, row by row: many times as fast to go through as pandas' own rows."""
    return zip(*(table[name].tolist() for name in names), strict=True)
