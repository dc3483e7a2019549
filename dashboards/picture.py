"""The verdicts as one small SVG, light and dark, for a README or a slide: what the report opens with."""

import html
import textwrap
from pathlib import Path

from dashboards import prose, theme
from dashboards.cells import Cell, cells_of
from dashboards.comparisons import without_early_verdicts
from dashboards.contenders import budget_name, delta_of
from dashboards.figures.kit.panels import inliers
from dashboards.score import measures_of, shown
from dashboards.tables.verdicts import Matrix, MatrixEntry, MatrixRow, matrices_of
from study.files import write_atomically
from study.findings import Findings
from study.stats import Effect
from study.store.results import Study

_PROBLEM, _COLUMN, _ROW, _HEAD, _SPAN = 250, 190, 46, 66, 160  # pixels; _SPAN is the width of an interval's drawing
_LETTER = 8.5  # pixels a letter of the heading takes
_STYLE = (
    "text{{font:12px {font};fill:{ink}}}.b{{font-weight:600}}.m{{fill:{muted}}}.z{{fill:{band}}}.o{{stroke:{muted}}}"
)


def write_picture(study: Study, path: Path) -> Path:
    """Write the verdicts of a study, under its primary budget, to ``path`` and return it."""
    findings = without_early_verdicts(study.findings)
    with shown(findings):
        drawn = picture_of(findings, cells_of(findings, study.frame))
    write_atomically(path, drawn, make_folder=True)
    return path


def picture_of(findings: Findings, cells: dict[str, Cell]) -> str:
    """Return the text of the SVG: a row a problem, a column a method; the grey zone is ±δ, the line at 0 no gain."""
    matrix = next(iter(matrices_of(findings, cells)), Matrix(findings.primary_budget, "", (), ()))
    spans = _spans(findings, matrix.budget)
    width = _PROBLEM + _COLUMN * max(1, len(matrix.methods))
    heading = textwrap.wrap(prose.answer(findings, cells), int((width - 32) / _LETTER))
    top = 20 * len(heading) + _HEAD
    note = (
        f"Gain in {theme.unit()} over the strongest baseline at {budget_name(findings, findings.primary_budget)}; "
        f"95 % interval; grey: gains inside {prose.deltas(findings)}"
    )
    parts = [_text(16, 24 + 20 * at, line, "b", 15) for at, line in enumerate(heading)]
    parts += [_text(16, 28 + 20 * len(heading), note, "m")]
    parts += [_text(_PROBLEM + _COLUMN * at, top - 8, method, "b") for at, method in enumerate(matrix.methods)]
    parts += [part for at, row in enumerate(matrix.rows) for part in _row(row, top + _ROW * at, spans)]
    height = top + _ROW * len(matrix.rows) + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img"><title>{html.escape(" ".join(heading))}</title><style>{_colours(matrix)}</style>'
        f'<rect class="paper" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


Spans = dict[tuple[str, str], tuple[float, ...]]


def _spans(findings: Findings, budget: str) -> Spans:
    """Return by problem and method where zero, the ends of the interval, the mean and ±δ are drawn, as shares.

    Gains in one unit share a scale, which no outlier sets.
    """
    found: Spans = {}
    for tasks in measures_of(findings).values():
        known = [e for e in findings.effects if e.budget == budget and e.task in tasks and theme.known(e.mean)]
        if not known:
            continue
        most = max(delta_of(findings, effect.task) for effect in known)
        ends = [value for effect in known for value in (effect.mean, *effect.ci95)]
        low, high = inliers(ends, least=most, holds=[-most, most])
        room = 0.05 * (high - low)

        def at(gain: float, low: float = low - room, width: float = high - low + 2 * room) -> float:
            return min(1.0, max(0.0, (gain - low) / width))

        for effect in known:
            delta = delta_of(findings, effect.task)
            places = (0.0, *_interval(effect), effect.mean, -delta, delta)
            found[effect.cell, effect.method] = tuple(map(at, places))
    return found


def _interval(effect: Effect) -> tuple[float, float]:
    return effect.ci95 if theme.known(effect.ci95[0]) and not effect.always_off else (effect.mean, effect.mean)


def _row(row: MatrixRow, y: int, spans: Spans) -> list[str]:
    label, entries = row.label, row.entries
    parts = [
        _text(16, y + 26 + 7 * (2 * at - 1) * (len(lines) > 1), line)
        for lines in [textwrap.wrap(label, 34)]
        for at, line in enumerate(lines)
    ]
    for at, entry in enumerate(entries):
        x = _PROBLEM + _COLUMN * at
        parts += [
            _text(x, y + 14, entry.gain, "b"),
            _text(x + 52, y + 14, entry.verdict, "m"),
            _span(entry, spans.get((entry.cell, entry.method)), x, y + 20),
        ]
    return parts


def _span(entry: MatrixEntry, span: tuple[float, ...] | None, x: int, y: int) -> str:
    if span is None:
        return ""
    zero, low, high, mean, *band = (x + share * _SPAN for share in span)
    return (
        f'<rect class="z" x="{band[0]:.1f}" y="{y}" width="{band[1] - band[0]:.1f}" height="16"/>'
        f'<path class="o" d="M{zero:.1f} {y}v16"/>'
        f'<path class="{_name(entry.method)}" stroke-width="2" '
        f'd="M{low:.1f} {y + 8}H{high:.1f}M{mean:.1f} {y + 3}v10"/>'
    )


def _text(x: float, y: float, text: str, look: str = "", size: int = 12) -> str:
    big = f' style="font-size:{size}px"' if size != 12 else ""
    return f'<text x="{x}" y="{y}" class="{look}"{big}>{html.escape(text)}</text>'


def _name(method: str) -> str:
    return "c-" + "".join(letter if letter.isalnum() else "-" for letter in method)


def _colours(matrix: Matrix) -> str:
    def look(dark: bool) -> str:
        def shown(colour: str) -> str:
            return theme.DARK.get(colour, colour) if dark else colour

        methods = "".join(f".{_name(m)}{{stroke:{shown(theme.style_of(m).color)}}}" for m in matrix.methods)
        return (
            f".paper{{fill:{shown(theme.PAPER)}}}"
            + methods
            + _STYLE.format(font=theme.FONT, ink=shown(theme.INK), muted=shown(theme.MUTED), band=shown(theme.GRID))
        )

    return f"{look(False)}@media(prefers-color-scheme:dark){{{look(True)}}}"
