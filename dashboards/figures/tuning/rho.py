"""How does the validation score respond to rho, and is the selected rho inside the searched range?"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Panel, grid_of_cells, lay_out, reach
from dashboards.figures.kit.traces import Figure, Shape, Trace, level, line, scatter, upright
from dashboards.figures.tuning.radii import Radii, radii_of
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import MOST_MADE, MOST_RUN_ROWS, Table, most
from study.findings import Findings
from study.stats import RhoResponse

BINS = 5
MOST_DRAWN = 300  # markers a panel, fewer in a study of many problems
_SERIES = {"last": "SAM", "averaged": "WASAM"}  # kinds of weights, and whose colours they have


@dataclass(frozen=True, slots=True)
class Response:
    """One cell's tune runs of the sam family, of all replicates, and the cell's label.

    ``drawn_every`` is the step at which the runs are drawn, 1 up to 300 of them; ``floor`` and ``top`` are the worst
    and the best score drawn: runs beyond stand at that edge of the panel.
    """

    cell: str
    runs: RhoResponse
    floor: float
    top: float
    drawn_every: int


def responses_of(findings: Findings, cells: Mapping[str, LabelledCell]) -> tuple[Response, ...]:
    """Return one response a cell that has tune runs."""
    drawn, found = most(MOST_DRAWN, len(findings.rho_responses)), []
    for runs in findings.rho_responses:
        if runs.rho:
            label = cells[runs.cell].label if runs.cell in cells else runs.cell
            found.append(Response(label, runs, *reach(_known(runs) or [0.0]), -(-len(runs.rho) // drawn)))
    return tuple(found)


def _known(runs: RhoResponse) -> list[float]:
    """Return all scores that were measured, the baseline's among them."""
    return [v for v in (*runs.last, *runs.averaged, runs.base_best) if theme.known(v)]


def best_of_bins(rho: Sequence[float], scores: Sequence[float]) -> list[tuple[float, float]]:
    """Return (rho, score) of the best run in each of five equal parts of the log range of rho > 0 that holds one."""
    runs = [(r, s) for r, s in zip(rho, scores, strict=True) if r > 0 and theme.known(s)]
    if not runs:
        return []
    low, high = math.log(min(r for r, _ in runs)), math.log(max(r for r, _ in runs))
    best: dict[int, tuple[float, float]] = {}
    for r, a in runs:
        part = min(BINS - 1, int(BINS * (math.log(r) - low) / (high - low))) if high > low else 0
        if part not in best or a > best[part][1]:
            best[part] = (r, a)
    return [best[part] for part in sorted(best)]


def figure_of(responses: Sequence[Response], score: Score) -> Figure:
    """Draw one panel a cell, rho on a log axis; rho = 0 stands apart at its left end."""
    radii = radii_of([rho for response in responses for rho in response.runs.rho])
    panels = []
    for response in responses:
        room = 0.06 * theme.least(response.top - response.floor, 0.01)
        y = score.axis_from(response.floor - room, response.top + room)
        traces = [trace for kind in _SERIES for trace in _traces(response, kind, radii, score)]
        title = theme.wrapped(response.cell, 22)
        panels.append(Panel(title, traces, radii.axis(), y, _guides(response.runs, radii, score)))
    return lay_out(panels, grid_of_cells(len(panels)), y_title=score.axis("validation"))


def _guides(runs: RhoResponse, radii: Radii, score: Score) -> list[Shape]:
    """Return what tuning picked for the baseline as a level line, and every selected rho as an upright one."""
    base = [runs.base_best] if theme.known(runs.base_best) else []
    found = [level(y, line(theme.style_of("SGD").color, 1.5)) for y in score.drawn(base)]
    for rho, times in sorted(Counter(runs.selected_rho).items()):
        width = round(1 + 2 * (times - 1) / max(1, len(runs.selected_rho) - 1), 2)
        found.append(upright(radii.at(rho), line(theme.style_of("SAM").color, width, "dot")))
    return found


def _traces(response: Response, kind: str, radii: Radii, score: Score) -> list[Trace]:
    style, runs = theme.style_of(_SERIES[kind]), response.runs
    floor, top = response.floor, response.top
    values: tuple[float, ...] = getattr(runs, kind)
    known = [run for run in zip(runs.rho, runs.learning_rate, values, strict=True) if theme.known(run[2])]
    drawn, best = known[:: response.drawn_every], best_of_bins(runs.rho, values)
    markers = scatter(
        [radii.at(rho) for rho, _, _ in drawn],
        score.drawn([min(max(v, floor), top) for _, _, v in drawn]),
        "markers",
        [
            f"{kind} weights, {score.full_text(v)}<br>rho {theme.number(rho)}, learning rate {theme.number(rate)}"
            for rho, rate, v in drawn
        ],
        marker={
            "symbol": [style.symbol if floor <= v <= top else f"{style.symbol}-open" for _, _, v in drawn],
            "size": 6,
            "color": theme.faded(style.color, 0.5),
        },
    )
    joined = scatter(
        [math.log10(rho) for rho, _ in best],
        score.drawn([v for _, v in best]),
        "lines",
        line=line(style.color, 2, style.dash),
    )
    return [markers, joined]


def table_of(responses: Sequence[Response], score: Score) -> Table:
    """Return the runs as a table."""
    all_runs = (
        (one.cell, *run)
        for one in responses
        for run in sorted(zip(one.runs.rho, one.runs.learning_rate, one.runs.last, one.runs.averaged, strict=True))
    )
    rows = list(islice(all_runs, MOST_MADE))
    return columns.table_of(
        "rho",
        f"Validation {score.name} of the tune runs with perturbed steps{score.direction}.",
        (
            columns.words("Problem", "problem", [cell for cell, *_ in rows]),
            columns.numbers("rho", "rho", [rho for _, rho, *_ in rows]),
            columns.numbers("Learning rate", "learning_rate", [rate for _, _, rate, *_ in rows]),
            columns.scores(score, "Last", "val_score_last", [last for *_, last, _ in rows]),
            columns.scores(score, "Best average", "val_score_averaged", [averaged for *_, averaged in rows]),
            columns.units([score] * len(rows)),
        ),
        total=sum(len(one.runs.rho) for one in responses),
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
    step = max(one.drawn_every for one in data)
    thinned = f" Of many runs one in {step} is drawn; the lines rest on all." if step > 1 else ""
    return Chart(
        id="rho",
        heading=heading_of([one.runs.selected_rho for one in data]),
        reading=(
            "Each marker is one tune run. Runs at the same rho differ by their learning rate, so the lines join "
            f"the best run in each of {BINS} equal parts of the log range; open markers at an edge lie beyond it. "
            "Dotted: what validation picked in each replicate, the wider the more often."
        ),
        caption=(
            f"{prose.numbers(len(one.runs.rho) for one in data)} runs a panel, those of all replicates, hence no "
            f"interval. Validation {score.name}, optimistic by selection.{thinned}"
        ),
        keys=(
            Key("SAM, last weights", "SAM", "both"),
            Key("WASAM, best average", "WASAM", "both"),
            Key(f"what tuning picked for the baseline, in the {score.way.middle}", "SGD", "line"),
            Key("rho selected for SAM", "SAM", "guide"),
        ),
        figure=figure_of(data, score),
        table=sources.fitted(table_of(data, score), "runs.parquet", MOST_RUN_ROWS),
    )
