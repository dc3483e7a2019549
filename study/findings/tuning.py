"""Tuning, from the evidence of the tune stage: curves, what carries over, what matters, and what flatters."""

import math
import statistics
from collections.abc import Callable, Sequence
from operator import attrgetter

from study.findings.evidence import Evidence
from study.specs.methods import FAMILIES, METHODS
from study.specs.spec import SearchSpace
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

NEAR = 1e-12  # accuracies are compared with this much slack, far below their resolution


def tuning_curves_of(evidence: Evidence) -> tuple[TuningCurve, ...]:
    """Return one curve per method, cell and multiple of the epochs, as far as its search is over."""
    return tuple(_curve(evidence, *key) for key in evidence.arms)


def _curve(evidence: Evidence, cell: str, method: str, epochs_factor: float) -> TuningCurve:
    found = evidence.trials[cell, method, epochs_factor]
    values, points = [trial.value for trial in found], curve_points(len(found))
    low, high = best_band(values, points)
    cost = statistics.fmean(trial.tuned.cost for trial in found)
    good = max(values) - evidence.spec.delta - NEAR
    return TuningCurve(
        cell=cell,
        method=method,
        epochs_factor=epochs_factor,
        sampler=evidence.spec.search.sampler,
        approximate=True,  # neither sampler draws independently
        trials=tuple(points),
        expected=tuple(expected_best(values, points).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        gradient_evaluations=tuple(k * cost for k in points),
        within_delta=sum(value >= good for value in values) / len(values),
    )


def rho_transfers_of(evidence: Evidence) -> tuple[RhoTransfer, ...]:
    """Return, for every perturbed method with at least two tuned cells, what its selected radii cost elsewhere."""
    found = []
    for method in evidence.spec.methods:
        chosen = {cell.name: evidence.arm(cell.name, method).selection for cell in evidence.cells}
        tuned = {cell: selection.rho for cell, selection in chosen.items() if selection}
        if FAMILIES[METHODS[method].family].rule and len(tuned) > 1:
            found.append(_transfer(evidence, method, tuned))
    return tuple(found)


def _transfer(evidence: Evidence, method: str, tuned: dict[str, float]) -> RhoTransfer:
    trials = {cell: evidence.trials[cell, method, 1] for cell in tuned}
    radii = {cell: [trial.tuned.tried.rho for trial in found] for cell, found in trials.items()}
    values = {cell: [trial.value for trial in found] for cell, found in trials.items()}
    zero = evidence.spec.search.range_of("rho", METHODS[method].family).low / 2
    by_target = [transfer_regrets(list(tuned.values()), radii[target], values[target], zero) for target in tuned]
    return RhoTransfer(
        method=method,
        cells=tuple(tuned),
        rho=tuple(tuned.values()),
        regret=tuple(zip(*by_target, strict=True)),
        chance=tuple(chance_regret(values[target]) for target in tuned),
    )


def optimism_of(evidence: Evidence) -> tuple[Optimism, ...]:
    """Return, per method and multiple of the epochs, how much the tuned validation accuracy flatters."""
    groups: dict[tuple[str, float], list[tuple[str, float]]] = {}
    trials: dict[tuple[str, float], int] = {}
    for (cell, method, epochs_factor), arm in evidence.arms.items():
        confirmed = arm.selected("val_score")
        if arm.selection is None:
            continue
        gap = arm.selection.val_score - statistics.fmean(confirmed.values()) if confirmed else math.nan
        groups.setdefault((method, epochs_factor), []).append((cell, gap))
        trials[method, epochs_factor] = evidence.spec.search.trials
    return tuple(optimism(*key, trials[key], by_cell) for key, by_cell in groups.items())


def importances_of(evidence: Evidence) -> tuple[Importance, ...]:
    """Return which hyper-parameters decide, per method, over the cells whose search is over."""
    found = []
    for method in evidence.spec.methods:
        tuned = [cell.name for cell in evidence.cells if evidence.arm(cell.name, method).selection]
        if tuned:
            found.append(_importance(evidence, method, tuned))
    return tuple(found)


def _importance(evidence: Evidence, method: str, cells: Sequence[str]) -> Importance:
    """Gather the settings of a method's trials, those on a ratio scale as log10; rho = 0 has no logarithm: left out."""
    perturbed, averaged = FAMILIES[METHODS[method].family].rule is not None, METHODS[method].weights == "swa"
    read = {"rho": perturbed, "average_start": averaged}
    names = [name for name in evidence.spec.search.searched if read.get(name, True)]
    scales = [_scale(evidence.spec.search, METHODS[method].family, name) for name in names]
    read_settings = attrgetter("rho", *names)
    scaled: dict[tuple[float, ...], tuple[float, ...]] = {}  # cells try the same settings
    settings, values, where = [], [], []
    for cell in cells:
        for trial in evidence.trials[cell, method, 1]:
            tried = read_settings(trial.tuned.tried)
            if tried[0] > 0 or not perturbed:
                if tried not in scaled:
                    scaled[tried] = tuple(scale(value) for scale, value in zip(scales, tried[1:], strict=True))
                settings.append(scaled[tried])
                values.append(trial.value)
                where.append(cell)
    return importance(method, names, settings, values, where)


def _scale(space: SearchSpace, family: str, name: str) -> Callable[[float], float]:
    """Return what makes of a setting what the surface takes: log10 for rates and radii, and where its range is."""
    return math.log10 if name in ("learning_rate", "rho") or space.range_of(name, family).log else float
