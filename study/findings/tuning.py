"""Tuning, from the evidence of the tune stage: curves, what carries over, what matters, and what flatters."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from study.findings.evidence import Evidence, Trial
from study.plan.cells import Proposal
from study.plan.selection import Selection
from study.specs.contenders import Contender, at_equal_epochs, trials_at
from study.specs.spec import StudySpec
from study.stats import Importance, Optimism, RhoTransfer, TuningCurve
from study.stats.tuning import (
    best_band,
    chance_regret,
    curve_points,
    expected_best,
    importance,
    optimism,
    transfer_regrets,
)


def tuning_curves_of(evidence: Evidence) -> tuple[TuningCurve, ...]:
    """Return one curve per role, cell and length, as far as its searches are over."""
    asked = dict.fromkeys((cell, _tuned_alone(one), length) for cell, one in evidence.tried for length in one.lengths)
    curves = (_curve(evidence, cell, one, length) for cell, one, length in asked)
    return tuple(curve for curve in curves if curve is not None)


def _tuned_alone(one: Contender) -> Contender:
    """Return a contender apart from its length: its searches at each length are looked at one by one."""
    return replace(one, lengths=())


def _finished(evidence: Evidence, cell: str, one: Contender, length: float) -> list[list[Trial]]:
    """Return the trials of every replicate whose search is over."""
    searches = {number: evidence.search(number, cell, one, length) for number in evidence.replicates}
    over = [number for number, search in searches.items() if len(search.runs) >= trials_at(evidence.spec, length)]
    return [found for number in over if (found := evidence.trials(number, cell, one, length))]


def _curve(evidence: Evidence, cell: str, one: Contender, length: float) -> TuningCurve | None:
    """Return the curve over the trials of all replicates: they come from one space, each with a design of its own."""
    by_replicate = _finished(evidence, cell, one, length)
    if not by_replicate:
        return None
    found = [trial for trials in by_replicate for trial in trials]
    values, points = [trial.value for trial in found], curve_points(min(map(len, by_replicate)))
    low, high = best_band(values, points)
    cost = statistics.fmean(trial.tuned.cost for trial in found)
    return TuningCurve(
        cell=cell,
        method=one.role,
        epochs_factor=length,
        sampler=evidence.spec.search.sampler,
        approximate=True,  # neither sampler draws independently
        trials=tuple(points),
        expected=tuple(expected_best(values, points).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        gradient_evaluations=tuple(k * cost for k in points),
    )


def rho_transfers_of(evidence: Evidence) -> tuple[RhoTransfer, ...]:
    """Return, for every perturbed method with at least two tuned cells, what its selected radii cost elsewhere.

    Within each replicate, and then on average over those in which all of these cells are tuned.
    """
    found = []
    for method in evidence.spec.methods:
        one = at_equal_epochs(evidence.spec, method)
        if evidence.spec.table.families[one.family].rule is None:
            continue
        here = {cell.name: at_equal_epochs(evidence.spec.as_of(cell.task), method) for cell in evidence.cells}
        chosen = {cell: evidence.of(cell, own).selections for cell, own in here.items()}
        tuned = {cell: selections for cell, selections in chosen.items() if selections}
        whole = sorted(set.intersection(*map(set, tuned.values()))) if tuned else []
        if len(tuned) > 1 and whole:
            found.append(_transfer(evidence, one, tuned, whole))
    return tuple(found)


def _transfer(
    evidence: Evidence, one: Contender, tuned: Mapping[str, Mapping[int, Selection]], whole: Sequence[int]
) -> RhoTransfer:
    zero = evidence.spec.range_of("rho", one.family).low / 2
    regrets, chances = [], []
    for number in whole:
        trials = {cell: evidence.trials(number, cell, one, 1.0) for cell in tuned}
        radii = {cell: [trial.tuned.tried.rho for trial in found] for cell, found in trials.items()}
        values = {cell: [trial.value for trial in found] for cell, found in trials.items()}
        sources = [selections[number].rho for selections in tuned.values()]
        regrets.append([transfer_regrets(sources, radii[target], values[target], zero) for target in tuned])
        chances.append([chance_regret(values[target]) for target in tuned])
    mean = np.mean(regrets, axis=0)
    return RhoTransfer(
        method=one.method,
        cells=tuple(tuned),
        rho=tuple(statistics.median(chosen.rho for chosen in selections.values()) for selections in tuned.values()),
        regret=tuple(tuple(map(float, row)) for row in mean.T),
        chance=tuple(map(float, np.mean(chances, axis=0))),
    )


def optimism_of(evidence: Evidence) -> tuple[Optimism, ...]:
    """Return, per contender, how much the tuned validation score flatters, on average over replicates."""
    groups: dict[Contender, list[tuple[str, float]]] = {}
    for (cell, one), tried in evidence.tried.items():
        confirmed: dict[int, list[float]] = {}
        for _, run in tried.by_unit:
            best = tried.standing(run)
            if best and best.val_score is not None:
                confirmed.setdefault(run.run.job.replicate, []).append(best.val_score)
        gaps = [
            chosen.val_score - statistics.fmean(confirmed[number])
            for number, chosen in tried.selections.items()
            if number in confirmed
        ]
        if tried.selections:
            groups.setdefault(one, []).append((cell, statistics.fmean(gaps) if gaps else math.nan))
    return tuple(
        optimism(one.role, one.lengths[-1], sum(trials_at(evidence.spec, length) for length in one.lengths), by_cell)
        for one, by_cell in groups.items()
    )


def importances_of(evidence: Evidence) -> tuple[Importance, ...]:
    """Return which hyper-parameters decide, per method, over the trials of all cells and replicates that are over."""
    found = []
    for method in evidence.spec.methods:
        one = at_equal_epochs(evidence.spec, method)
        here = {cell.name: at_equal_epochs(evidence.spec.as_of(cell.task), method) for cell in evidence.cells}
        tuned = {cell: _finished(evidence, cell, own, 1.0) for cell, own in here.items()}
        names = _searched(evidence.spec, one)
        if names and any(tuned.values()):
            found.append(_importance(evidence, one, names, {cell: trials for cell, trials in tuned.items() if trials}))
    return tuple(found)


def _searched(spec: StudySpec, one: Contender) -> list[str]:
    """Return the hyper-parameters that a contender has a choice of."""
    what = spec.table.families[one.family]
    read = {"rho": spec.search.has_radius(one.family, what), "average_start": one.average == "swa"}
    names = (name for name in spec.search.searched_by(one.family) if read.get(name, True))
    return [name for name in names if not spec.range_of(name, one.family).fixed]


def _importance(
    evidence: Evidence, one: Contender, names: Sequence[str], tuned: Mapping[str, Sequence[Sequence[Trial]]]
) -> Importance:
    """Gather the settings of a method's trials, those on a ratio scale as log10; rho = 0 has no logarithm: left out."""
    perturbed = evidence.spec.table.families[one.family].rule is not None
    scales = [_scale(evidence.spec, one.family, name) for name in names]
    scaled: dict[Proposal, tuple[float, ...]] = {}  # cells try the same settings
    settings, values, where = [], [], []
    for cell, by_replicate in tuned.items():
        for trial in (trial for trials in by_replicate for trial in trials):
            tried = trial.tuned.tried
            if tried.rho > 0 or not perturbed:
                if tried not in scaled:
                    found = (tried.value_of(name) or 0.0 for name in names)  # all of them are searched
                    scaled[tried] = tuple(scale(value) for scale, value in zip(scales, found, strict=True))
                settings.append(scaled[tried])
                values.append(trial.value)
                where.append(cell)
    return importance(one.method, names, settings, values, where)


def _scale(spec: StudySpec, family: str, name: str) -> Callable[[float], float]:
    """Return what makes of a setting what the surface takes: log10 for rates and radii, and where its range is."""
    return math.log10 if name in ("learning_rate", "rho") or spec.range_of(name, family).log else float
