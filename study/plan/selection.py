"""What validation picks: a configuration in the tune stage, and the weights of every single run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from study.records import Measurement, RunRecord, kind_of
from study.specs.contenders import Contender
from study.specs.methods import family_of
from study.specs.spec import SearchSpace


@dataclass(frozen=True, slots=True)
class Selection:
    """The configuration of one contender in one replicate of one cell, which the confirm stage re-trains.

    Attributes:
        cell: The cell's name.
        replicate: The replicate's number.
        contender: Its name.
        method, reads, lengths: As in `Contender`.
        epochs_factor: The length that validation picked, in multiples of the cell's epochs.
        trial: Position of the winning proposal in its search.
        learning_rate, rho, average_start, weight_decay: Its hyper-parameters; ``weight_decay`` is None unless it is
            searched.
        weights, weights_epoch: The weights that validation preferred in the tune run: ``last``, ``best`` (of that
            epoch) or an average such as ``swa@0.75``. Every confirm run chooses its own anew.
        val_score: Its validation score in the tune stage: optimistic, never a result.
        trials: Proposals that were compared (diverged ones count, at chance level, and pruned ones; failed ones do
            not).
        candidates: Sets of weights that validation chose from in each run.
        at_edge: Names of the hyper-parameters whose value lies in the outer 5 % of the searched range.
        family: The trajectory that its method reads; "" in what was written before it stood here.
        options: Searched arguments of an optimizer that is not built in.
    """

    cell: str
    replicate: int
    contender: str
    method: str
    reads: tuple[str, ...]
    lengths: tuple[float, ...]
    epochs_factor: float
    trial: int
    learning_rate: float
    rho: float
    average_start: float
    weights: str
    weights_epoch: int | None
    val_score: float
    trials: int
    candidates: int
    at_edge: tuple[str, ...]
    weight_decay: float | None = None
    family: str = ""
    options: tuple[tuple[str, float], ...] = ()


class Preferred(NamedTuple):
    """What validation prefers of one run at one epoch: the best of each kind of weights, by kind."""

    by_kind: Mapping[str, Measurement]

    def of(self, reads: Iterable[str]) -> Measurement | None:
        """Return the best among some kinds of weights; None if none of them was measured."""
        found: Measurement | None = None
        for kind in reads:
            one = self.by_kind.get(kind)
            if one is not None:
                found = one if found is None else preferred_of_two(found, one)
        return found


def preferred_at(measurements: Iterable[Measurement], epoch: int) -> Preferred:
    """Return what validation prefers of a run's measurements at an epoch."""
    found: dict[str, Measurement] = {}
    for one in measurements:
        if one.epoch == epoch:
            kind = kind_of(one.weights)
            found[kind] = preferred_of_two(found[kind], one) if kind in found else one
    return Preferred(found)


def preferred_of(record: RunRecord) -> Preferred:
    """Return what validation prefers of a run at its end."""
    return preferred_at(record.measurements, record.last_epoch)


def select(one: Contender, records: Iterable[RunRecord], space: SearchSpace) -> Selection | None:
    """Return the configuration that validation picks for a contender, or None when every run failed.

    The best validation score wins. Ties go to the lower validation loss, then to the cheaper configuration (the shorter
    training, then the unperturbed one), then to the earlier trial: a rule fixed in advance, so that equal evidence
    gives an equal choice.

    Args:
        one: Who picks.
        records: The tune records of one replicate of one cell, of the contender's family and lengths.
        space: The searched ranges, for the edge flags.
    """
    usable = [record for record in records if record.status != "failed"]
    ended = [record for record in usable if record.status != "pruned"]
    bests = [(record, best) for record in ended if (best := preferred_of(record).of(one.reads))]
    return choose(one, bests, len(usable), space)


def choose(
    one: Contender, bests: Sequence[tuple[RunRecord, Measurement]], trials: int, space: SearchSpace
) -> Selection | None:
    """Return what `select` does, of runs that were trained to their end, with what validation prefers of each.

    ``trials`` are the proposals that were compared, pruned ones among them.
    """
    if not bests:
        return None
    record, best = min(bests, key=_rank_of_run)
    job = record.job
    return Selection(
        cell=job.cell,
        replicate=job.replicate,
        contender=one.name,
        method=one.method,
        reads=one.reads,
        lengths=one.lengths,
        epochs_factor=job.epochs_factor,
        trial=job.trial or 0,
        learning_rate=job.learning_rate,
        rho=job.rho,
        average_start=job.average_start,
        weights=best.weights,
        weights_epoch=best.weights_epoch,
        val_score=best.val_score or 0.0,
        trials=trials,
        candidates=_candidates(one, record),
        at_edge=_edges(record, best.weights, space),
        weight_decay=job.weight_decay,
        family=one.family,
        options=job.options,
    )


def _candidates(one: Contender, record: RunRecord) -> int:
    """Count the sets of weights that validation chose from: checkpoints of the curve, and averages at the end."""
    curve = {m.epoch for m in record.measurements if m.weights == "last"}
    checkpoints = len(curve) if "best" in one.reads else int("last" in one.reads)
    return checkpoints + sum(kind_of(name) in one.reads for name in record.job.averages)


def preferred_of_two(one: Measurement, other: Measurement) -> Measurement:
    """Return the weights of one run that validation prefers.

    The better score wins; ties go to the later epoch, then to the lower loss, then to the simpler weights.
    """
    first, second = one.val_score, other.val_score  # nearly always they decide, and this is asked of every run
    if first is None or second is None or first == second:
        return min(one, other, key=_rank)
    return one if first > second else other


def _rank(measurement: Measurement) -> tuple[float, int, float, bool, str]:
    weights, score, loss = measurement.weights, measurement.val_score, measurement.val_loss
    stands = measurement.weights_epoch or measurement.epoch
    return (
        math.inf if score is None else -score,
        -stands,
        math.inf if loss is None else loss,
        weights != "last",
        weights,
    )


def _rank_of_run(pair: tuple[RunRecord, Measurement]) -> tuple[float, float, float, bool, int]:
    record, best = pair
    score, loss, job = best.val_score, best.val_loss, record.job
    return (
        math.inf if score is None else -score, math.inf if loss is None else loss,
        job.epochs_factor, job.rho > 0, job.trial or 0,
    )  # fmt: skip


def _edges(record: RunRecord, weights: str, space: SearchSpace) -> tuple[str, ...]:
    job = record.job
    values = {"learning_rate": job.learning_rate}
    if job.rho > 0:
        values["rho"] = job.rho
    if weights == f"swa@{job.average_start!r}":
        values["average_start"] = job.average_start
    if job.weight_decay is not None:
        values["weight_decay"] = job.weight_decay
    values |= dict(job.options)
    return tuple(
        name for name, value in values.items() if space.range_of(name, job.family, family_of(job)).at_edge(value)
    )
