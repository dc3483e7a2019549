"""Tuning, from the evidence of the tune stage: what more trials bring, what decides, and what radii come to."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from study.findings.evidence import Evidence, Trial, TunedRun
from study.plan.cells import Proposal
from study.specs.contenders import Contender, at_equal_epochs, contender, trials_at
from study.specs.spec import StudySpec
from study.stats import Importance, RhoResponse, TuningCurve
from study.stats.tuning import (
    best_band,
    curve_points,
    expected_best,
    importance,
    median_best,
)
from study.stats.typical import way_of


def tuning_curves_of(evidence: Evidence) -> tuple[TuningCurve, ...]:
    """Return one curve per role, cell and length, as far as its searches are over."""
    # A contender's searches at each of its lengths are looked at one by one.
    asked = dict.fromkeys(
        (cell, replace(one, lengths=()), length) for cell, one in evidence.tried for length in one.lengths
    )
    curves = (_curve(evidence, cell, one, length) for cell, one, length in asked)
    return tuple(curve for curve in curves if curve is not None)


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
    share = evidence.is_share(cell)
    low, high = best_band(values, points, median=not share)
    cost = statistics.fmean(trial.tuned.cost for trial in found)
    return TuningCurve(
        cell=cell,
        method=one.role,
        epochs_factor=length,
        sampler=evidence.spec.search.sampler,
        trials=tuple(points),
        expected=tuple((expected_best if share else median_best)(values, points).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        gradient_evaluations=tuple(k * cost for k in points),
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
    rates = ("learning_rate", "rho")
    logged = [name in rates or evidence.spec.range_of(name, one.family).log for name in names]
    scaled: dict[Proposal, tuple[float, ...]] = {}  # cells try the same settings
    settings, values, where = [], [], []
    for cell, by_replicate in tuned.items():
        for trial in (trial for trials in by_replicate for trial in trials):
            tried = trial.tuned.tried
            if tried.rho > 0 or not perturbed:
                if tried not in scaled:
                    found = (tried.value_of(name) or 0.0 for name in names)  # all of them are searched
                    scaled[tried] = tuple(
                        math.log10(value) if log else float(value) for log, value in zip(logged, found, strict=True)
                    )
                settings.append(scaled[tried])
                values.append(trial.value)
                where.append(cell)
    return importance(one.method, names, settings, values, where)


def rho_responses_of(evidence: Evidence) -> tuple[RhoResponse, ...]:
    """Return, cell by cell, what radii came to on validation; none without a perturbed method."""
    perturbing = [name for name in evidence.spec.methods if evidence.spec.table[name].family == "sam"]
    return tuple(_rho_response(evidence, cell.name, perturbing) for cell in evidence.cells if perturbing)


def _rho_response(evidence: Evidence, cell: str, perturbing: Iterable[str]) -> RhoResponse:
    spec = evidence.spec_in(cell)
    asked = [contender(spec, method, spec.primary_budget) for method in perturbing]
    searches = [evidence.search(number, cell, one, 1.0) for number in evidence.replicates for one in asked]
    tuned = {one.number: one for search in searches for one in search.runs}
    points = sorted(point for one in tuned.values() for point in _rho_point(one))
    base = evidence.of(cell, at_equal_epochs(spec, spec.table["SAM"].baseline)).selections
    picked = [chosen.val_score for chosen in base.values() if not math.isnan(chosen.val_score)]
    sam = evidence.of(cell, contender(spec, "SAM", spec.primary_budget)).selections
    return RhoResponse(
        cell=cell,
        rho=tuple(rho for rho, _, _, _ in points),
        learning_rate=tuple(rate for _, rate, _, _ in points),
        last=tuple(last for _, _, last, _ in points),
        averaged=tuple(averaged for _, _, _, averaged in points),
        base_best=way_of(evidence.is_share(cell)).of(picked).middle,
        selected_rho=tuple(chosen.rho for chosen in sam.values()),
    )


def _rho_point(tuned: TunedRun) -> Iterable[tuple[float, float, float, float]]:
    """Yield (rho, learning rate, last, averaged) of a run that was trained to its end."""
    last, average = (tuned.preferred.by_kind.get(kind) for kind in ("last", "swa"))
    if tuned.run.status != "pruned" and last is not None and last.val_score is not None:
        averaged = math.nan if average is None or average.val_score is None else average.val_score
        yield tuned.tried.rho, tuned.tried.learning_rate, last.val_score, averaged
