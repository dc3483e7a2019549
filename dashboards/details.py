"""What stands behind one verdict: the replicates' paired gains, what was picked in each, and the runs.

Plain data for the page's script, which draws it when a verdict is opened. Contenders are told once, however many
verdicts they stand in.
"""

from collections.abc import Mapping
from typing import Any

from dashboards import theme
from dashboards.cells import LabelledCell
from dashboards.contenders import delta_of, in_epochs, unit_of
from dashboards.figures.kit.chart import Sources
from dashboards.figures.kit.confirmed import Confirmed, End
from dashboards.figures.kit.panels import FAR, inliers
from dashboards.score import Score, score_in, split_of
from dashboards.tables.accuracies import contender_of
from dashboards.tables.beside_verdicts import weights_in_words
from dashboards.tables.table import most
from study.plan.selection import Selection
from study.stats import Effect

MOST_UNITS = 400  # replicates of a verdict, fewer in a study of many problems; findings.json has all of them


def details_of(sources: Sources, panels: Mapping[str, list[object]]) -> dict[str, Any]:
    """Return what stands behind every verdict, by problem, method and budget; without confirm runs, gains alone.

    ``panels`` says in which chart, and in which panel of it, a problem's learning curves stand, by label.
    """
    findings, cells = sources.findings, sources.cells
    limit = most(MOST_UNITS, len(cells))
    contenders: dict[str, dict[str, Any]] = {}
    verdicts = []
    for effect in findings.effects:
        if not effect.n or effect.cell not in cells:
            continue
        cell, score = cells[effect.cell], score_in(findings, effect.task)
        own = [one for one in sources.confirmed if one.cell == effect.cell]
        sides = contender_of(effect, own), next((one for one in own if one.name == effect.baseline), None)
        names = [f"{effect.cell}|{side.name}" if side else "" for side in sides]
        for name, side in zip(names, sides, strict=True):
            if side and name not in contenders:
                contenders[name] = _contender(side, cell, score, limit)
        with score.written():
            told = _verdict(sources, effect, score, limit)
        verdicts.append(told | {"sides": names, "curves": panels.get(cell.label)})
    return {"unit": unit_of(findings), "contenders": contenders, "verdicts": verdicts}


def _verdict(sources: Sources, effect: Effect, score: Score, limit: int) -> dict[str, Any]:
    findings, cell = sources.findings, sources.cells[effect.cell]
    style = theme.style_of(effect.method)
    delta, labels = delta_of(findings, effect.task), dict(findings.origin.labels) if findings.origin else {}
    low, high = inliers(effect.differences, least=delta, holds=[-delta, 0.0, delta, effect.mean], times=FAR)

    def named(baseline: str) -> str:
        return in_epochs(baseline, cell.epochs, sources.best_at.get((cell.name, baseline)))

    return {
        "cell": effect.cell,
        "label": cell.label,
        "method": effect.method,
        "color": [style.color, style.dark],
        "budget": effect.budget,
        "baseline": named(effect.baseline),
        "unit": score.points,
        "score": f"{split_of(findings)}{score.full}{score.direction}",
        "units": [labels.get(unit, unit) for unit in effect.units[:limit]],
        "total": effect.n,
        "gains": theme.rounded(map(theme.in_points, effect.differences[:limit])),
        "words": [theme.gain(gain) for gain in effect.differences[:limit]],
        "scores": [
            [score.text(value) for value in values[:limit]] for values in (effect.method_values, effect.baseline_values)
        ],
        "scale": theme.rounded([theme.in_points(v) for v in (low, high, delta, effect.mean, *effect.ci95)]),
        "mean": theme.gain_within(effect.mean, effect.ci95),
        "apart": _apart(effect, score),
        "against": [
            [named(e.baseline), score.text(e.baseline_mean), theme.gain_within(e.mean, e.ci95), theme.p_value(e.p)]
            for e in effect.against
        ],
    }


def _apart(effect: Effect, score: Score) -> str:
    """Say what is held against what where runs are not paired; "" where they are."""
    if effect.apart is None:
        return ""
    sides = len(effect.method_values), len(effect.baseline_values)
    return (
        f"{theme.gain_within(effect.mean, effect.ci95)} {score.points} (difference of the means, 95 % interval): "
        f"{sides[0]} runs of {effect.method} against {sides[1]} of {effect.baseline}, which are not paired; Welch's t "
        f"with {effect.freedom:.1f} degrees of freedom."
    )


def _contender(one: Confirmed, cell: LabelledCell, score: Score, limit: int) -> dict[str, Any]:
    """Return what a contender picked in each unit, and its runs there."""
    picks = {chosen.replicate: _picked(chosen, cell) for chosen in one.selections}
    runs: dict[str, list[list[str]]] = {}
    for end in one.final:
        unit = str(end.seed if one.one_tuning else end.replicate)
        if unit in runs or len(runs) < limit:
            runs.setdefault(unit, []).append(_run(end, score))
    return {"method": one.method, "picks": picks, "one": one.one_tuning, "runs": runs}


def _picked(chosen: Selection, cell: LabelledCell) -> str:
    """Say a configuration: "rate 0.12, rho 0.2, 30 epochs"."""
    perturbed = chosen.method in theme.methods() and theme.methods().family_of(chosen.method).rule is not None
    epochs = f"{cell.epochs * chosen.epochs_factor:.4g} epochs" if cell.epochs else f"{chosen.epochs_factor:g}× epochs"
    parts = [
        f"rate {theme.number(chosen.learning_rate)}",
        *([f"rho {theme.number(chosen.rho)}"] if perturbed else []),
        *([f"weight decay {theme.number(chosen.weight_decay)}"] if chosen.weight_decay is not None else []),
        *(f"{name} {theme.number(value)}" for name, value in chosen.options),
        epochs,
    ]
    return ", ".join(parts) + (f" (edge: {', '.join(chosen.at_edge).replace('_', ' ')})" if chosen.at_edge else "")


def _run(end: End, score: Score) -> list[str]:
    """Return a run's id, seed, status, the weights that it stands by, and their validation and test scores."""
    weights = weights_in_words(end.weights, int(end.stands) if end.weights == "best" else None)
    return [end.run_id, str(end.seed), end.status, weights, score.text(end.val_score), score.text(end.test_score)]
