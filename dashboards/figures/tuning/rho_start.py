"""Which rho, and from when to average? Validation score of the tune runs over both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import pandas as pd

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import rows_of
from dashboards.figures.kit.panels import Arrangement, Axes, anchors, axis, foot, grid_of_cells, lay_out
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.figures.kit.tried import NO_AVERAGE, start_words
from dashboards.figures.tuning.radii import Radii, radii_of
from dashboards.score import Score
from dashboards.tables.table import MOST_MADE, MOST_RUN_ROWS, Column, Entry, Table, most, numeric
from study.plan.selection import Selection
from study.specs.methods import FAMILIES, METHODS, last_of

MOST_DRAWN = 300  # markers a panel, fewer in a study of many problems
_NONE_AT = 1.08  # where weights without an average stand on the axis of starts


class Point(NamedTuple):
    """One set of weights of one tune run; ``start`` is 1 where nothing is averaged."""

    rho: float
    start: float
    learning_rate: float
    score: float


@dataclass(frozen=True, slots=True)
class StartMap:
    """One perturbed family in one problem.

    ``points`` is a table of all sets of weights, with the columns of `Point`; every ``drawn_every``-th is drawn.
    ``floor``: the score at which the colour scale begins, not far below the others; ``chosen``: rho and start that
    validation selected for the averaging method, one a replicate.
    """

    cell: str
    family: str
    runs: int
    points: pd.DataFrame
    floor: float
    best: float
    chosen: tuple[tuple[float, float], ...]
    drawn_every: int


def maps_of(weights: pd.DataFrame, selections: Iterable[Selection], cells: Mapping[str, Cell]) -> tuple[StartMap, ...]:
    """Return one map per problem and perturbed family whose runs were averaged from more than one start.

    ``weights`` as in `dashboards.figures.kit.tried.Tried`.
    """
    perturbed = [name for name, family in FAMILIES.items() if family.rule]
    weights = weights[
        weights["cell"].isin(list(cells)) & weights["family"].isin(perturbed) & weights["run"].duplicated(keep=False)
    ]
    groups = {
        (str(cell), str(family)): points
        for (cell, family), points in weights.groupby(["cell", "family"], observed=True)
    }
    chosen: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for s in selections:
        if METHODS[s.method].weights == "swa" and s.lengths == (1.0,):
            chosen.setdefault((s.cell, s.family), []).append((s.rho, _start_of(s)))
    order, drawn = list(cells), most(MOST_DRAWN, len(groups))
    return tuple(
        _map(cells[key[0]].label, key[1], groups[key], tuple(chosen.get(key, ())), drawn)
        for key in sorted(groups, key=lambda key: (order.index(key[0]), list(FAMILIES).index(key[1])))
    )


def _start_of(selection: Selection) -> float:
    return float(selection.weights.partition("@")[2]) if "@" in selection.weights else NO_AVERAGE


def _map(cell: str, family: str, points: pd.DataFrame, chosen: tuple[tuple[float, float], ...], drawn: int) -> StartMap:
    runs, scores = points["run"].nunique(), points["score"].tolist()
    return StartMap(cell, family, runs, points, foot(scores), max(scores), chosen, -(-len(points) // drawn))


def figure_of(maps: tuple[StartMap, ...], score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a map: rho across, start up, the stronger the colour the better the score."""
    radii = radii_of(rho for one in maps for rho in one.points["rho"].unique())
    low = min((start for one in maps for start in one.points["start"].unique() if start != NO_AVERAGE), default=0.5)
    traces: list[Trace] = []
    axes: Axes = {}
    ticks = [start for start in (0.2, 0.4, 0.6, 0.8) if start >= low - 0.04]
    for panel, one in enumerate(maps):
        traces += _traces(one, radii, panel, score)
        axes[axis("x", panel)] = radii.axis()
        axes[axis("y", panel)] = {
            "tickvals": [*ticks, _NONE_AT],
            "ticktext": [*(start_words(start) for start in ticks), "none"],
            "range": [low - 0.06, _NONE_AT + 0.06],
        }
    several = len({one.family for one in maps}) > 1
    titles = [theme.wrapped(f"{one.cell}, {last_of(one.family)}" if several else one.cell, 22) for one in maps]
    return lay_out(traces, titles, grid_of_cells(len(titles)), axes, y_title="averaging starts at")


def _traces(one: StartMap, radii: Radii, panel: int, score: Score) -> list[Trace]:
    shown = _points(one.points[:: one.drawn_every].sort_values("score", kind="stable"))  # the best lie on top
    span = max(one.best - one.floor, 1e-9)
    points = scatter(
        x=theme.rounded([radii.at(point.rho) for point in shown]),
        y=theme.rounded([_height(point.start) for point in shown]),
        mode="markers",
        marker={
            "symbol": "square",
            "size": 10,
            "color": [theme.faded(theme.ACCENT, max(0.0, (p.score - one.floor) / span) ** 2) for p in shown],
            "line": {"color": theme.faded(theme.MUTED, 0.6), "width": 0.7},
        },
        hoverinfo="text",
        hovertext=[
            f"{score.text(p.score)}: rho {theme.number(p.rho)}, "
            f"{'no average' if p.start == NO_AVERAGE else f'from {start_words(p.start)}'}, "
            f"rate {theme.number(p.learning_rate)}"
            for p in shown
        ],
        **anchors(panel),
    )
    if not one.chosen:
        return [points]
    picked = sorted(set(one.chosen))
    ring = scatter(
        x=theme.rounded([radii.at(rho) for rho, _ in picked]),
        y=theme.rounded([_height(start) for _, start in picked]),
        mode="markers",
        marker={"symbol": "circle-open", "size": 19, "color": theme.INK, "line": {"width": 2}},
        cliponaxis=False,
        hoverinfo="skip",
        **anchors(panel),
    )
    return [points, ring]


def _points(table: pd.DataFrame) -> list[Point]:
    return list(map(Point._make, rows_of(table, Point._fields)))


def _height(start: float) -> float:
    return _NONE_AT if start == NO_AVERAGE else start


def table_of(maps: tuple[StartMap, ...], score: Score) -> Table:
    """Return one row a point."""
    return Table(
        "rho-start",
        "Validation score of the tune runs of perturbed families, by rho and start of averaging.",
        (
            Column("Problem", "problem"),
            Column("Trajectory", "family"),
            numeric("rho", "rho"),
            numeric("Averaging starts at", "average_start"),
            numeric("Learning rate", "learning_rate"),
            numeric(score.head("Validation"), "val_score"),
        ),
        tuple(
            (
                Entry(one.cell),
                Entry(last_of(one.family), one.family),
                Entry(theme.number(point.rho), point.rho),
                Entry(start_words(point.start), point.start),
                Entry(theme.number(point.learning_rate), point.learning_rate),
                Entry(score.text(point.score), point.score),
            )
            for one, point in islice(
                (
                    (one, point)
                    for one in maps
                    for point in _points(one.points.sort_values(["rho", "start", "learning_rate"]))
                ),
                MOST_MADE,
            )
        ),
        total=sum(len(one.points) for one in maps),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    score = sources.score
    data = maps_of(sources.tried.weights, sources.findings.selections, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data, score)
    chosen = [start for one in data for _, start in one.chosen]
    averaged = sum(start != NO_AVERAGE for start in chosen)
    step = max(one.drawn_every for one in data)
    return Chart(
        id="rho-start",
        heading=(
            f"With perturbed steps, validation prefers an average to weights of one epoch in {averaged} of "
            f"{prose.things(len(chosen), 'pick')} of rho and start"
            if chosen
            else f"Validation {score.name} over rho and the start of averaging"
        ),
        reading=(
            "One square is one set of weights of one tune run: rho across, the start of averaging up, and on top what "
            "is not averaged. The stronger its colour, the closer to the panel's best; rings are the picks, one a "
            "replicate."
        ),
        caption=(
            f"{prose.numbers(one.runs for one in data)} runs a panel, those of all replicates, each averaged from "
            "several starts, not binned; hence no interval. Runs also differ by their learning rate. The colour fades "
            f"out at three times the distance from best to median{', and 2 points,' if theme.shares() else ''} below "
            "the median."
            f"{f' Every {step}th square is drawn.' if step > 1 else ''}"
        ),
        keys=(
            Key("best of the panel", "", "field", theme.faded(theme.ACCENT, 1)),
            Key("half-way to it", "", "field", theme.faded(theme.ACCENT, 0.25)),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, score), "runs.parquet", MOST_RUN_ROWS),
    )
