"""Which configuration validation picks: the bridge from the tune stage to the confirm stage."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from study.records import Measurement, RunRecord
from study.specs.methods import FAMILIES, METHODS
from study.specs.spec import SearchSpace


@dataclass(frozen=True, slots=True)
class Selection:
    """The configuration of one method in one cell that the confirm stage re-trains.

    Attributes:
        cell: The cell's name.
        method: The method's name.
        epochs_factor: 1, or more for the baseline under equal gradient evaluations.
        trial: Position of the winning proposal in its search.
        learning_rate, rho, average_start, weight_decay: Its hyper-parameters; ``weight_decay`` is None unless it is
            searched.
        weights: The weights that validation picked: ``last`` or an average such as ``swa@0.75``.
        average: The average that stands for averaging, whatever validation picked: its best average of the winning
            trial; None for methods that read the last weights.
        val_score: Its validation accuracy in the tune stage: optimistic, never a result.
        trials: Proposals that were compared (diverged ones count, at chance level, and pruned ones; failed ones do
            not).
        at_edge: Names of the hyper-parameters whose value lies in the outer 5 % of the searched range.
    """

    cell: str
    method: str
    epochs_factor: float
    trial: int
    learning_rate: float
    rho: float
    average_start: float
    weights: str
    average: str | None
    val_score: float
    trials: int
    at_edge: tuple[str, ...]
    weight_decay: float | None = None

    @property
    def family(self) -> str:
        """The trajectory that its method reads."""
        return METHODS[self.method].family


def select(method: str, records: Iterable[RunRecord], space: SearchSpace) -> Selection | None:
    """Return the configuration with the best final validation accuracy, or None when every run failed.

    Ties go to the lower validation loss, then to the earlier trial, then to the simpler weights (``last`` first):
    a rule fixed in advance, so that equal evidence gives an equal choice.

    Args:
        method: Name of the method.
        records: The tune records of one cell, one search, one ``epochs_factor``.
        space: The searched ranges, for the edge flags.
    """
    usable = [record for record in records if record.status != "failed"]
    bests = [(record, best) for record in usable if (best := best_measurement(method, record))]
    return choose(method, bests, len(usable), space)


def choose(
    method: str, bests: Sequence[tuple[RunRecord, Measurement]], trials: int, space: SearchSpace
) -> Selection | None:
    """Return what `select` does, for runs whose best measurement is known.

    Args:
        method: Name of the method.
        bests: The runs that were trained to their end, with what `best_measurement` says of each.
        trials: Proposals that were compared, those counted in that were pruned.
        space: The searched ranges, for the edge flags.
    """
    if not bests:
        return None
    record, best = min(bests, key=lambda pair: (*_rank(pair[1])[:2], pair[0].job.trial or 0))
    job = record.job
    return Selection(
        cell=job.cell,
        method=method,
        epochs_factor=job.epochs_factor,
        trial=job.trial or 0,
        learning_rate=job.learning_rate,
        rho=job.rho,
        average_start=job.average_start,
        weights=best.weights,
        average=average.weights if (average := best_average(method, record)) else None,
        val_score=best.val_score or 0.0,
        trials=trials,
        at_edge=_edges(record, best.weights, space),
        weight_decay=job.weight_decay,
    )


def best_average(method: str, record: RunRecord) -> Measurement | None:
    """Return the final average of a run that validation prefers for an averaging method; None without."""
    return bests_at(record.measurements, record.job.epochs).averages.get(METHODS[method].weights)


def best_measurement(method: str, record: RunRecord, epoch: int | None = None) -> Measurement | None:
    """Return the measurement that validation prefers among the weights a method may use; None without any.

    Args:
        method: Name of the method.
        record: Of a run of its family.
        epoch: Where it is measured; None: at the end of the job's training, which a pruned run never gets to.
    """
    at = record.job.epochs if epoch is None else epoch
    return bests_at(record.measurements, at).of_kind(METHODS[method].weights)


class Bests(NamedTuple):
    """What validation prefers of a run at one epoch.

    Attributes:
        last: The last weights; None where nothing was measured.
        averages: The best average of each kind, such as ``swa``.
    """

    last: Measurement | None
    averages: Mapping[str, Measurement]

    def of_kind(self, kind: str) -> Measurement | None:
        """Return the best among the averages of one kind and the last weights."""
        average = self.averages.get(kind)
        return _better(self.last, average) if self.last and average else self.last or average


def bests_at(measurements: Iterable[Measurement], epoch: int) -> Bests:
    """Return what validation prefers of a run's measurements at an epoch."""
    last: Measurement | None = None
    averages: dict[str, Measurement] = {}
    for one in measurements:
        if one.epoch == epoch:
            if one.weights == "last":
                last = one
            else:
                kind = one.weights.partition("@")[0]
                averages[kind] = _better(averages[kind], one) if kind in averages else one
    return Bests(last, averages)


def _better(one: Measurement, other: Measurement) -> Measurement:
    """Return the one that ranks first; nearly always the scores decide, and this is asked of every run."""
    first, second = one.val_score, other.val_score
    if first is None or second is None or first == second:
        return min(one, other, key=_rank)
    return one if first > second else other


def _rank(measurement: Measurement) -> tuple[float, float, bool, str]:
    weights, score, loss = measurement.weights, measurement.val_score, measurement.val_loss
    return math.inf if score is None else -score, math.inf if loss is None else loss, weights != "last", weights


def _edges(record: RunRecord, weights: str, space: SearchSpace) -> tuple[str, ...]:
    job = record.job
    values = {"learning_rate": job.learning_rate}
    if FAMILIES[job.family].rule and job.rho > 0:
        values["rho"] = job.rho
    if weights == f"swa@{job.average_start!r}":
        values["average_start"] = job.average_start
    if job.weight_decay is not None:
        values["weight_decay"] = job.weight_decay
    return tuple(name for name, value in values.items() if space.range_of(name, job.family).at_edge(value))
