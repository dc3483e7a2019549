"""Which configuration validation picks: the bridge from the tune stage to the confirm stage."""

from collections.abc import Iterable
from dataclasses import dataclass

from study.methods import FAMILIES, METHODS
from study.records import Measurement, RunRecord
from study.spec import SearchSpace


@dataclass(frozen=True, slots=True)
class Selection:
    """The configuration of one method in one cell that the confirm stage re-trains.

    Attributes:
        cell: The cell's name.
        method: The method's name.
        epochs_factor: 1, or more for the baseline under equal gradient evaluations.
        trial: Position of the winning proposal in its search.
        learning_rate, rho, average_start: Its hyper-parameters.
        weights: The weights that validation picked: ``last`` or an average such as ``swa@0.75``.
        average: The average that stands for averaging, whatever validation picked: its best average of the winning
            trial; None for methods that read the last weights.
        val_accuracy: Its validation accuracy in the tune stage: optimistic, never a result.
        trials: Proposals that were compared (diverged ones count, at chance level; failed ones do not).
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
    val_accuracy: float
    trials: int
    at_edge: tuple[str, ...]


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
        val_accuracy=best.val_accuracy or 0.0,
        trials=len(usable),
        at_edge=_edges(record, best.weights, space),
    )


def best_average(method: str, record: RunRecord) -> Measurement | None:
    """Return the final average of a run that validation prefers for an averaging method; None without."""
    averages = tuple(m for m in record.measurements if m.weights != "last")
    return best_measurement(method, record.model_copy(update={"measurements": averages}))


def best_measurement(method: str, record: RunRecord) -> Measurement | None:
    """Return the final measurement that validation prefers among the weights a method may use; None without any."""
    final = [m for m in record.measurements if m.epoch == record.job.epochs]
    kind = METHODS[method].weights
    allowed = [m for m in final if m.weights == "last" or m.weights.startswith(f"{kind}@")]
    return min(allowed, key=_rank, default=None)


def _rank(measurement: Measurement) -> tuple[float, float, bool, str]:
    accuracy, loss = measurement.val_accuracy, measurement.val_loss
    return (
        -(accuracy if accuracy is not None else 0.0),
        loss if loss is not None else float("inf"),
        measurement.weights != "last",
        measurement.weights,
    )


def _edges(record: RunRecord, weights: str, space: SearchSpace) -> tuple[str, ...]:
    job = record.job
    values = {"learning_rate": job.learning_rate}
    if FAMILIES[job.family].rule and job.rho > 0:
        values["rho"] = job.rho
    if weights == f"swa@{job.average_start:g}":
        values["average_start"] = job.average_start
    return tuple(name for name, value in values.items() if space.range_of(name, job.family).at_edge(value))
