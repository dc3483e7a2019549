"""How does the validation score respond to rho, and is the selected rho inside the searched range?"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement, Axes, anchor, anchors, axis, foot, grid_of_cells, lay_out
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.figures.tuning.radii import Radii, radii_of
from dashboards.score import Score
from dashboards.tables.table import MOST_MADE, MOST_RUN_ROWS, Column, Entry, Table, most, numeric
from study.findings import Findings

BINS = 5
MOST_DRAWN = 300  # markers a panel, fewer in a study of many problems
_SERIES = (("last", "SAM"), ("averaged", "WASAM"))


@dataclass(frozen=True, slots=True)
class Response:
    """One cell's tune runs of the sam family, of all replicates; scores are fractions.

    All runs are held; ``drawn_every`` is the step at which they are drawn, 1 up to 300 of them. ``best_last`` and
    ``best_averaged`` join the best run of each fifth of the log range of rho (only fifths that hold a run);
    ``selected_rho`` has what validation picked for SAM, one a replicate; ``floor`` is the lowest score drawn: runs
    below stand at the foot of the panel.
    """

    cell: str
    rho: tuple[float, ...]
    learning_rate: tuple[float, ...]
    last: tuple[float, ...]
    averaged: tuple[float, ...]
    best_last: tuple[tuple[float, float], ...]
    best_averaged: tuple[tuple[float, float], ...]
    base_best: float
    selected_rho: tuple[float, ...]
    floor: float
    drawn_every: int


def responses_of(findings: Findings, cells: Mapping[str, Cell]) -> tuple[Response, ...]:
    """Compute one response a cell that has tune runs."""
    drawn = most(MOST_DRAWN, len(findings.rho_responses))
    return tuple(
        Response(
            cell=cells[r.cell].label if r.cell in cells else r.cell,
            rho=r.rho,
            learning_rate=r.learning_rate,
            last=r.last,
            averaged=r.averaged,
            best_last=best_of_bins(r.rho, r.last),
            best_averaged=best_of_bins(r.rho, r.averaged),
            base_best=r.base_best,
            selected_rho=r.selected_rho,
            drawn_every=-(-len(r.rho) // drawn),
            floor=foot([v for v in (*r.last, *r.averaged, r.base_best) if theme.known(v)] or [0.0]),
        )
        for r in findings.rho_responses
        if r.rho
    )


def best_of_bins(rho: tuple[float, ...], scores: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """Return (rho, score) of the best run in each of five equal parts of the log range of rho > 0."""
    runs = [(r, s) for r, s in zip(rho, scores, strict=True) if r > 0 and theme.known(s)]
    if not runs:
        return ()
    low, high = math.log(min(r for r, _ in runs)), math.log(max(r for r, _ in runs))
    best: dict[int, tuple[float, float]] = {}
    for r, a in runs:
        part = min(BINS - 1, int(BINS * (math.log(r) - low) / (high - low))) if high > low else 0
        if part not in best or a > best[part][1]:
            best[part] = (r, a)
    return tuple(best[part] for part in sorted(best))


def figure_of(responses: tuple[Response, ...], score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a cell, rho on a log axis; rho = 0 stands apart at its left end."""
    radii = radii_of([rho for response in responses for rho in response.rho])
    traces: list[Trace] = []
    axes: Axes = {}
    shapes: list[dict[str, object]] = []
    for panel, response in enumerate(responses):
        traces += _traces(response, panel, radii, score)
        shapes += _lines(response, panel, radii)
        top = max([v for v in (*response.last, *response.averaged, response.base_best) if theme.known(v)] or [1.0])
        room = 0.06 * theme.least(top - response.floor, 0.01)
        axes[axis("x", panel)] = radii.axis()
        axes[axis("y", panel)] = {
            "range": [theme.in_points(response.floor - room), theme.in_points(top + room)],
            "nticks": 6,
        }
    titles = [theme.wrapped(response.cell, 22) for response in responses]
    return lay_out(traces, titles, grid_of_cells(len(titles)), axes, y_title=score.axis("validation"), shapes=shapes)


def _lines(response: Response, panel: int, radii: Radii) -> list[dict[str, object]]:
    where = {"layer": "below", "type": "line"}
    base = theme.in_points(response.base_best)
    lines: list[dict[str, object]] = []
    if theme.known(response.base_best):
        lines.append(
            where
            | {"xref": f"{anchor('x', panel)} domain", "yref": anchor("y", panel), "x0": 0, "x1": 1}
            | {"y0": base, "y1": base, "line": {"color": theme.style_of("SGD").color, "width": 1.5}}
        )
    for rho, times in sorted(Counter(response.selected_rho).items()):
        x, width = radii.at(rho), 1 + 2 * (times - 1) / max(1, len(response.selected_rho) - 1)
        lines.append(
            where
            | {"xref": anchor("x", panel), "yref": f"{anchor('y', panel)} domain", "x0": x, "x1": x}
            | {
                "y0": 0,
                "y1": 1,
                "line": {"color": theme.style_of("SAM").color, "width": round(width, 2), "dash": "dot"},
            }
        )
    return lines


def _traces(response: Response, panel: int, radii: Radii, score: Score) -> list[Trace]:
    traces = []
    for (name, method), best in zip(_SERIES, (response.best_last, response.best_averaged), strict=True):
        style = theme.style_of(method)
        values = response.last if name == "last" else response.averaged
        runs = [run for run in zip(response.rho, response.learning_rate, values, strict=True) if theme.known(run[2])][
            :: response.drawn_every
        ]
        traces.append(
            scatter(
                x=theme.rounded([radii.at(rho) for rho, _, _ in runs]),
                y=theme.rounded([theme.in_points(max(v, response.floor)) for _, _, v in runs]),
                mode="markers",
                marker={
                    "symbol": [style.symbol if v >= response.floor else f"{style.symbol}-open" for _, _, v in runs],
                    "size": 6,
                    "color": theme.faded(style.color, 0.5),
                },
                hoverinfo="text",
                hovertext=[
                    f"{name} weights, {score.text(v)}<br>rho {theme.number(rho)}, learning rate {theme.number(lr)}"
                    for rho, lr, v in runs
                ],
                **anchors(panel),
            )
        )
        traces.append(
            scatter(
                x=theme.rounded([math.log10(rho) for rho, _ in best]),
                y=theme.rounded([theme.in_points(v) for _, v in best]),
                mode="lines",
                line={"color": style.color, "width": 2, "dash": style.dash},
                hoverinfo="skip",
                **anchors(panel),
            )
        )
    return traces


def table_of(responses: tuple[Response, ...], score: Score) -> Table:
    """Return the runs as a table."""
    return Table(
        "rho",
        f"Validation {score.name} of the tune runs with perturbed steps.",
        (
            Column("Problem", "problem"),
            numeric("rho", "rho"),
            numeric("Learning rate", "learning_rate"),
            numeric(score.head("Last"), "val_score_last"),
            numeric(score.head("Best average"), "val_score_averaged"),
        ),
        tuple(
            (
                Entry(response.cell),
                Entry(theme.number(rho), rho),
                Entry(theme.number(lr), lr),
                Entry(score.text(last), last),
                Entry(score.text(averaged), averaged),
            )
            for response, (rho, lr, last, averaged) in islice(
                (
                    (response, run)
                    for response in responses
                    for run in sorted(
                        zip(response.rho, response.learning_rate, response.last, response.averaged, strict=True)
                    )
                ),
                MOST_MADE,
            )
        ),
        total=sum(len(response.rho) for response in responses),
    )


def heading_of(selected: Sequence[Sequence[float]]) -> str:
    """State the range of the rho that validation selected for SAM, problem by problem and replicate by replicate."""
    picks = [rho for of_problem in selected for rho in of_problem]
    if not picks:
        return "No rho has been selected yet"
    low, high = theme.number(min(picks)), theme.number(max(picks))
    span = f"is {low}" if low == high else f"runs from {low} to {high}"
    problems = prose.things(sum(bool(of_problem) for of_problem in selected), "problem")
    off = sum(rho == 0 for rho in picks)
    zero = f"; it is 0, which is no perturbation, in {off}" if off else ""
    return f"SAM's selected rho {span} in {prose.things(len(picks), 'pick')} over {problems}{zero}"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    score = sources.score
    data = responses_of(sources.findings, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data, score)
    return Chart(
        id="rho",
        heading=heading_of([r.selected_rho for r in data]),
        reading=(
            "Each marker is one tune run. Runs at the same rho differ by their learning rate, so the lines join "
            f"the best run in each of {BINS} equal parts of the log range; open markers at the foot lie below. Dotted: "
            "what validation picked in each replicate, the wider the more often."
        ),
        caption=(
            f"{prose.numbers(len(response.rho) for response in data)} runs a panel, those of all replicates, hence no "
            f"interval. Validation {score.name}, optimistic by "
            f"selection.{_thinned(response.drawn_every for response in data)}"
        ),
        keys=(
            Key("SAM, last weights", "SAM", "both"),
            Key("WASAM, best average", "WASAM", "both"),
            Key("what tuning picked for the baseline, in the mean", "SGD", "line"),
            Key("rho selected for SAM", "SAM", "guide"),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, score), "runs.parquet", MOST_RUN_ROWS),
    )


def _thinned(steps: Iterable[int]) -> str:
    step = max(steps)
    return f" Of many runs every {step}th is drawn; the lines rest on all." if step > 1 else ""
