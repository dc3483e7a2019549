"""The confirm runs of every contender, of all replicates: what each run stands by, and what stands for a method."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from dashboards import theme
from dashboards.contenders import label_of
from study.plan.selection import Preferred, Selection, preferred_of
from study.records import Configuration, RunRecord, configuration_of, kind_of

_Key = tuple[str, str, tuple[str, ...], tuple[float, ...]]  # (cell, name, reads, lengths) of a contender


class End(NamedTuple):
    """What one run measured with one set of weights at its last epoch; NaN where it measured nothing."""

    run_id: str
    replicate: int
    seed: int
    status: str
    weights: str
    weights_epoch: float
    epoch: int
    train_score: float
    val_score: float
    val_loss: float
    test_score: float
    test_loss: float
    test_calibration_error: float
    gradient_evaluations: int

    @property
    def stands(self) -> int:
        """The epoch that the weights are from; of an average, the last."""
        return self.epoch if math.isnan(self.weights_epoch) else int(self.weights_epoch)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The confirm runs of one contender in one cell.

    Attributes:
        cell, method: Whose.
        name: The contender's, by what it may use.
        reads: The kinds of weights that it may read.
        lengths: The training lengths that it may use.
        selections: What validation picked, by replicate.
        runs: For every run, by replicate and seed, what validation prefers of each kind of weights.
        course: The validation scores of the completed runs with their last weights, by epoch and unit.
        one_tuning: The units are the seeds, not the replicates.
    """

    cell: str
    method: str
    name: str
    reads: tuple[str, ...]
    lengths: tuple[float, ...]
    selections: tuple[Selection, ...]
    runs: tuple[Mapping[str, End], ...]
    course: Mapping[int, Mapping[int, Sequence[float]]]
    one_tuning: bool = False

    @property
    def final(self) -> list[End]:
        """The weights that every run stands by, of the runs that have a test score."""
        found = (min((run[kind] for kind in self.reads if kind in run), key=_rank, default=None) for run in self.runs)
        return [end for end in found if end is not None and not math.isnan(end.test_score)]

    @property
    def standing(self) -> list[End]:
        """The weights that stand for the method in pictures of its training, of the completed runs."""
        return self.of_kind(standing_for(self.method))

    def of_kind(self, kind: str) -> list[End]:
        """Return the weights of one kind that validation prefers in every completed run."""
        return [run[kind] for run in self.runs if kind in run and run[kind].status == "completed"]

    def by_unit(self, ends: Iterable[End], value: Callable[[End], float]) -> tuple[float, ...]:
        """Return the mean of a value by unit of the study's intervals, in their order."""
        found: dict[int, list[float]] = {}
        for end in ends:
            found.setdefault(end.seed if self.one_tuning else end.replicate, []).append(value(end))
        return tuple(statistics.fmean(values) for _, values in sorted(found.items()))

    def at(self, epoch: int) -> list[float]:
        """Return the validation scores of the last weights at an epoch, one a unit."""
        return [statistics.fmean(scores) for scores in self.course[epoch].values()]


def confirmed_runs(
    frame: pd.DataFrame, selections: Iterable[Selection], *, one_tuning: bool = False
) -> tuple[Confirmed, ...]:
    """Return the confirm runs of every contender that has any."""
    # One pass over plain objects: looking for the rows of each selection takes a study of many problems seconds.
    done = (frame["stage"] == "confirm") & (frame["status"] != "failed")
    confirm = frame.loc[done, ["configuration", "final", *End._fields]]
    ends: dict[str, dict[str, dict[str, End]]] = {}
    last = confirm[confirm["final"]].sort_values(["replicate", "seed"], kind="stable")
    last = last.assign(weights_epoch=last["weights_epoch"].astype("float64"))
    for key, run, end in zip(
        last["configuration"], last["run_id"], map(End._make, rows_of(last, End._fields)), strict=True
    ):
        by_kind = ends.setdefault(key, {}).setdefault(run, {})
        kind = kind_of(end.weights)
        if kind not in by_kind or _rank(end) < _rank(by_kind[kind]):
            by_kind[kind] = end
    courses: dict[str, list[tuple[int, int, float]]] = {}
    kept = confirm[(confirm["weights"] == "last") & (confirm["status"] == "completed") & confirm["val_score"].notna()]
    unit = "seed" if one_tuning else "replicate"
    for key, epoch, number, score in rows_of(kept, ("configuration", "epoch", unit, "val_score")):
        courses.setdefault(key, []).append((epoch, number, score))
    return tuple(
        _confirmed([*chosen], ends, courses, one_tuning)
        for chosen in _by_contender(selections)
        if any(configuration_of(one).id in ends for one in chosen)
    )


def _by_contender(selections: Iterable[Selection]) -> Iterable[list[Selection]]:
    groups: dict[_Key, list[Selection]] = {}
    for chosen in selections:
        groups.setdefault((chosen.cell, chosen.contender, chosen.reads, chosen.lengths), []).append(chosen)
    return groups.values()


def _confirmed(
    chosen: Sequence[Selection],
    ends: Mapping[str, Mapping[str, Mapping[str, End]]],
    courses: Mapping[str, Iterable[tuple[int, int, float]]],
    one_tuning: bool,
) -> Confirmed:
    keys = [configuration_of(one).id for one in chosen]
    course: dict[int, dict[int, list[float]]] = {}
    for key in keys:
        for epoch, unit, score in courses.get(key, ()):
            course.setdefault(epoch, {}).setdefault(unit, []).append(score)
    first = chosen[0]
    runs = tuple(run for key in keys for run in ends.get(key, {}).values())
    return Confirmed(
        first.cell, first.method, label_of(first), first.reads, first.lengths, tuple(chosen), runs, course, one_tuning
    )


def _rank(end: End) -> tuple[float, int, float, bool, str]:
    """Order a run's weights as validation does: see `study.plan.selection.preferred_of_two`."""
    score, loss = end.val_score, end.val_loss
    return (
        math.inf if math.isnan(score) else -score, -end.stands, math.inf if math.isnan(loss) else loss,
        end.weights != "last", end.weights,
    )  # fmt: skip


def for_methods(confirmed: Iterable[Confirmed]) -> tuple[Confirmed, ...]:
    """Return one contender per cell and method: that at the cell's own epochs, of a baseline that with last weights."""
    found: dict[tuple[str, str], Confirmed] = {}
    for one in confirmed:
        key = one.cell, one.method
        if key not in found or _plainness(one) < _plainness(found[key]):
            found[key] = one
    return tuple(found.values())


def _plainness(one: Confirmed | Selection) -> tuple[bool, bool]:
    return one.lengths != (1.0,), standing_for(one.method) not in one.reads


def trajectories_of(confirmed: Iterable[Confirmed]) -> tuple[Confirmed, ...]:
    """Return one contender per cell, method that reads no average, and training length; a baseline's last weights."""
    found: dict[tuple[str, str, tuple[float, ...]], Confirmed] = {}
    for one in confirmed:
        if standing_for(one.method) == "last" and len(one.lengths) == 1:
            key = one.cell, one.method, one.lengths
            if key not in found or "last" in one.reads:
                found[key] = one
    return tuple(found.values())


def best_epochs_at(confirmed: Iterable[Confirmed]) -> dict[tuple[str, str], float]:
    """Return by cell and contender the epoch that validation prefers in its median run, of those that keep the best."""
    return {
        (one.cell, one.name): statistics.median(end.stands for end in ends)
        for one in confirmed
        if one.reads == ("best",) and (ends := one.of_kind("best"))
    }


class Standing(NamedTuple):
    """A confirm run of a method, the name of the weights that stand for it there, and the unit of an interval."""

    run: RunRecord
    weights: str
    unit: int


OfMethod = tuple[tuple[Selection, ...], tuple[Standing, ...]]


def records_by_method(
    records: Iterable[RunRecord], selections: Iterable[Selection], *, one_tuning: bool = False
) -> tuple[OfMethod, ...]:
    """Return what was picked for every method at the cell's own epochs, and its completed confirm runs there, by seed.

    A method without a completed run is left out; a shared trajectory stands beside every method that reads it.
    """
    chosen: dict[tuple[str, str], list[Selection]] = {}
    for group in _by_contender(selections):
        key = group[0].cell, group[0].method
        if key not in chosen or _plainness(group[0]) < _plainness(chosen[key][0]):
            chosen[key] = group
    wanted = {configuration_of(one): None for group in chosen.values() for one in group if one.epochs_factor == 1}
    runs: dict[Configuration, list[tuple[RunRecord, Preferred]]] = {}
    for record in records:
        if record.job.stage == "confirm" and record.status == "completed":
            key_of_run = configuration_of(record.job)
            if key_of_run in wanted:
                runs.setdefault(key_of_run, []).append((record, preferred_of(record)))
    found = []
    for (_, method), group in chosen.items():
        kind = standing_for(method)
        own = [
            Standing(record, preferred.by_kind[kind].weights, record.job.seed if one_tuning else one.replicate)
            for one in group
            if one.epochs_factor == 1
            for record, preferred in sorted(
                runs.get(configuration_of(one), ()), key=lambda pair: (pair[0].job.replicate, pair[0].job.seed)
            )
            if kind in preferred.by_kind
        ]
        if own:
            found.append((tuple(group), tuple(own)))
    return tuple(found)


def standing_for(method: str) -> str:
    """Return the kind of weights that stands for a method: its average, whatever validation prefers, or the last."""
    return theme.methods()[method].weights


def rows_of(table: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return the values of a table's columns, row by row: many times as fast to go through as pandas' own rows."""
    return zip(*(table[name].tolist() for name in names), strict=True)
