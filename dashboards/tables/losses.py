"""Gains in test loss and calibration beside gains in the score: a description, no verdict is drawn from it."""

import math
from collections.abc import Iterable, Mapping, Sequence

from dashboards import far_out, theme
from dashboards.cells import LabelledCell
from dashboards.comparisons import Distinct, distinct
from dashboards.contenders import unit_words
from dashboards.score import score_in, score_of
from dashboards.tables import columns
from dashboards.tables.table import Table
from dashboards.tables.verdicts import in_order, who
from study.findings import Findings
from study.stats import Effect

_LARGE = 1000.0  # beyond, decimals say nothing


def loss_table(findings: Findings, cells: Mapping[str, LabelledCell]) -> Table:
    """Return one row a comparison: the gains in test loss, in calibration error and in the score.

    A lower loss or error is a gain. The error has columns where the study has a classification.
    """
    rows = in_order(findings, cells, [effect for effect in _of_metric(findings, "test_loss") if effect.n])
    effects = [one.effect for one in rows]
    errors = _gains(rows, [effect for effect in _of_metric(findings, "test_calibration_error") if effect.n])
    gains = _gains(rows, findings.effects)
    scores = [score_in(findings, effect.task) for effect in effects]
    calibration = (
        *columns.estimates(
            "Calibration gain, percentage points", "calibration_gain", errors, _percentage_points, "calibration_ci95"
        ),
        columns.hidden("calibration_unit", ["fraction"] * len(rows)),
    )
    score = score_of(findings)
    return columns.table_of(
        "losses",
        f"Gains in test loss and in calibration beside those in {score.name}, each over its own strongest baseline.",
        (
            *who(findings, cells, [(one.effect.cell, one.effect.method, one.budgets) for one in rows]),
            *columns.estimates(
                score.loss_head("Loss gain"), "loss_gain", [(e.mean, e.ci95) for e in effects], _signed, "loss_ci95"
            ),
            columns.hidden("loss_unit", [own.loss_csv_unit for own in scores]),
            *(calibration if any(theme.known(mean) for mean, _ in errors) else ()),
            *columns.estimates(
                f"{score.title} gain, {theme.unit()}",
                "score_gain",
                gains,
                ends="score_ci95",
                texts=columns.gains_in_units(scores, gains),
            ),
            columns.hidden("score_unit", [own.csv_unit for own in scores]),
            columns.counts("n", "n", [effect.n for effect in effects]),
            *far_out.column(findings, effects),
        ),
        groups=[effect.cell for effect in effects],
    )


def _gains(rows: Sequence[Distinct], effects: Iterable[Effect]) -> list[tuple[float, tuple[float, float]]]:
    """Return the gain in another metric that belongs to each row, NaN where there is none."""
    found = {(effect.cell, effect.method, effect.budget): (effect.mean, effect.ci95) for effect in effects}
    keys = [(one.effect.cell, one.effect.method, one.effect.budget) for one in rows]
    return [found.get(key, (math.nan, (math.nan, math.nan))) for key in keys]


def loss_heading(findings: Findings) -> str:
    """State in how many comparisons score and loss move in opposite directions, by their means."""
    scores = {(effect.cell, effect.method, effect.budget): effect for effect in findings.effects}
    known = [one.effect for one in distinct(_of_metric(findings, "test_loss"), findings.primary_budget)]
    known = [effect for effect in known if effect.n and (effect.cell, effect.method, effect.budget) in scores]
    pairs = [(effect, scores[effect.cell, effect.method, effect.budget]) for effect in known]
    apart = sum(loss.mean * gain.mean < 0 for loss, gain in pairs)
    carried = sum(any(far_out.far_out(findings, effect) for effect in pair) for pair in pairs)
    held = f"; {carried} of these pairs hold {unit_words(findings)} that are far out" if carried else ""
    where = f"{apart} of {len(pairs)} comparisons{held}"
    return f"Test loss: mean gains point the other way than those in {score_of(findings).name} in {where}"


def _of_metric(findings: Findings, metric: str) -> list[Effect]:
    return [effect for effect in findings.descriptive if effect.metric == metric]


def _percentage_points(gain: float) -> str:
    """Write a gain in calibration, which is a fraction whatever the study's scores are."""
    with theme.writing("points", share=True):
        return theme.gain(gain)


def _signed(value: float) -> str:
    text = (f"{value:+.3f}" if abs(value) < _LARGE else f"{value:+,.0f}").replace("-", "−")
    return text if float(f"{value:.3f}") else "0.000"
