"""The verdicts as one small SVG, light and dark, for a README or a slide: what the report opens with."""

import textwrap
from pathlib import Path

from dashboards import page, prose, theme
from dashboards.cells import LabelledCell, cells_of
from dashboards.comparisons import without_early_verdicts
from dashboards.contenders import budget_name, delta_of
from dashboards.figures.kit.panels import inliers
from dashboards.score import measures_of, shown
from dashboards.tables.matrix import Matrix, matrices_of
from study.files import write_atomically
from study.findings import Findings
from study.store.results import Study

_PROBLEM, _COLUMN, _ROW = 250, 190, 46  # pixels
_LETTER = 8.5  # pixels a letter of the heading takes
_LABEL = 34  # letters a line of a problem's name


def write_picture(study: Study, path: Path) -> Path:
    """Write the verdicts of a study, under its primary budget, to ``path`` and return it."""
    findings = without_early_verdicts(study.findings)
    with shown(findings):
        drawn = picture_of(findings, cells_of(findings, study.frame))
    write_atomically(path, drawn, make_folder=True)
    return path


def picture_of(findings: Findings, cells: dict[str, LabelledCell]) -> str:
    """Return the text of the SVG: a row a problem, a column a method; the grey zone is ±δ, the line at 0 no gain."""
    matrix = next(iter(matrices_of(findings, cells)), Matrix(findings.primary_budget, "", (), ()))
    width = _PROBLEM + _COLUMN * max(1, len(matrix.methods))
    heading = textwrap.wrap(prose.answer_of(findings, cells)["What"], int((width - 32) / _LETTER))
    colours = {"paper": theme.PAPER, "ink": theme.INK, "muted": theme.MUTED, "zone": theme.GRID}
    return page.filled(
        "picture.html",
        heading=heading,
        note=(
            f"Gain in {theme.unit()} over the strongest baseline at {budget_name(findings, findings.primary_budget)}; "
            f"95 % interval; grey: gains inside {prose.deltas(findings)}"
        ),
        columns=[(_PROBLEM + _COLUMN * at, method) for at, method in enumerate(matrix.methods)],
        rows=[(textwrap.wrap(row.label, _LABEL), row.entries) for row in matrix.rows],
        spans=_spans(findings, matrix.budget),
        size=(width, 20 * len(heading) + 74 + _ROW * len(matrix.rows)),
        row_height=_ROW,
        font=theme.FONT,
        looks=[colours, {name: theme.DARK[colour] for name, colour in colours.items()}],
    )


def _spans(findings: Findings, budget: str) -> dict[tuple[str, str], dict[str, float]]:
    """Return by problem and method where zero, the ends of the interval, the mean and ±δ are drawn, in percent.

    Gains in one unit share a scale, which no outlier sets.
    """
    found = {}
    for tasks in measures_of(findings).values():
        known = [e for e in findings.effects if e.budget == budget and e.task in tasks and theme.known(e.mean)]
        if not known:
            continue
        most = max(delta_of(findings, effect.task) for effect in known)
        ends = [value for effect in known for value in (effect.mean, *effect.ci95)]
        low, high = inliers(ends, least=most, holds=[-most, most])
        room = 0.05 * (high - low)

        def at(gain: float, low: float = low - room, width: float = high - low + 2 * room) -> float:
            return round(100 * min(1.0, max(0.0, (gain - low) / width)), 1)

        for effect in known:
            delta = delta_of(findings, effect.task)
            told = theme.known(effect.ci95[0]) and not effect.always_off
            from_, to = effect.ci95 if told else (effect.mean, effect.mean)
            named = {"zero": 0.0, "low": from_, "high": to, "mean": effect.mean, "lower": -delta, "upper": delta}
            found[effect.cell, effect.method] = {name: at(gain) for name, gain in named.items()}
    return found
