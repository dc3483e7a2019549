"""Gains over the cells of the atlas: a panel a method, a row a task, under it the mean of all tasks."""

from collections.abc import Sequence

import pandas as pd

from dashboards import theme
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart
from dashboards.figures.kit.panels import anchor, marker
from dashboards.figures.kit.traces import Figure, Trace, box, hover_of, line, scatter, upright
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.atlas.answers import Distribution
from study.atlas.cell_means import cell_means
from study.stats import estimate

ALL = "all tasks"


def chart_of(gains: pd.DataFrame, found: Sequence[Distribution], delta: float) -> Chart:
    """Return the chart of the gains at equal ceilings."""
    cells = pd.concat([cell_means(gains, one.method).assign(method=one.method) for one in found], ignore_index=True)
    cells["row"] = cells["task"] + " (" + cells["domain"] + ")"
    cells = cells.sort_values(["domain", "task"], kind="stable")
    means = ", ".join(f"{one.method} {theme.gain(one.typical.mean)}" for one in found)
    new = "; the thin line is where one more task may lie" if theme.known(found[0].typical.prediction95[0]) else ""
    return Chart(
        id="cells",
        heading=f"Mean gains over the strongest baseline, in {theme.unit()}: {means}",
        reading=(
            "Right of zero a method beats the strongest of its baselines at up to twice the gradient evaluations. A "
            "dot is a cell, a marker the mean of a task's cells with the 95 % interval over them; the lowest row is "
            f"the mean over tasks with its own{new}."
        ),
        caption=f"{found[0].cells} cells. The band is ±δ, {theme.threshold(delta)} {theme.unit()}, where none matters.",
        keys=(),
        figure=figure_of(cells, found, theme.in_points(delta)),
        table=table_of(cells),
    )


def figure_of(cells: pd.DataFrame, found: Sequence[Distribution], delta: float) -> Figure:
    """Draw one panel a method, all on one scale; ``delta`` is in the unit that is shown."""
    means = [
        _dot(str(row), str(method), one.mean, one.ci95)
        for (row, method), some in cells.groupby(["row", "method"], sort=False)["gain"]
        for one in [estimate(some.to_list())]
    ]
    means += [_dot(ALL, one.method, one.typical.mean, one.typical.ci95, one.typical.prediction95) for one in found]
    shown = cells["gain"].map(theme.in_points)
    span = dots.span_of([*means, _dot("", "", 0.0, dots.NOWHERE, values=tuple(shown))], dots.Scale(holds=delta))
    scale = dots.Scale(f"gain, {theme.unit()}", span=span)
    figure = dots.figure_of(
        means,
        {one.method: scale for one in found},
        columns=len(found),
        shapes=[box((-delta, delta), None, theme.BAND), upright(0, line(theme.MUTED, 1))],
    )
    rows = list(dict.fromkeys(dot.row for dot in means))
    heights = {row: float(len(rows) - 1 - place) for place, row in enumerate(rows)}
    for panel, one in enumerate(found):
        own = cells[cells["method"] == one.method]
        figure.data.append(_cells(own, heights, span) | {"xaxis": anchor("x", panel), "yaxis": anchor("y", panel)})
    return figure


def _dot(
    row: str, method: str, mean: float, ci95: dots.Span, outer: dots.Span = dots.NOWHERE, values: tuple[float, ...] = ()
) -> dots.Dot:
    ends, wider = ((theme.in_points(low), theme.in_points(high)) for low, high in (ci95, outer))
    hover = hover_of(method, row, f"mean {theme.gain_within(mean, ci95)} {theme.unit()}")
    return dots.Dot(method, row, method, theme.in_points(mean), ends, values, hover, outer=wider)


def _cells(cells: pd.DataFrame, heights: dict[str, float], span: dots.Span) -> Trace:
    """Draw cells a little above the mean of their task; those beyond the scale are arrows at its end."""
    method = str(cells["method"].iloc[0])
    at = cells["gain"].map(theme.in_points)
    look = marker(theme.style_of(method), 6, filled=True, edge=0)
    return scatter(
        [dots.inside(value, span) for value in at],
        cells["row"].map(heights) + 0.24,
        "markers",
        [
            hover_of(method, cell, f"{theme.gain(gain)} {theme.unit()}")
            for cell, gain in zip(cells["cell"], cells["gain"], strict=True)
        ],
        marker=look | {"opacity": 0.55, "symbol": [dots.beyond(value, span) or "circle" for value in at]},
        cliponaxis=False,
    )


def table_of(cells: pd.DataFrame) -> Table:
    """Return the cells as a table."""
    return columns.table_of(
        "cells",
        "Gains of every cell.",
        (
            columns.words("Task", "task", cells["task"]),
            columns.words("Cell", "cell", cells["cell"]),
            columns.methods("Method", "method", cells["method"].to_list()),
            columns.numbers(f"Gain, {theme.unit()}", "gain", cells["gain"], theme.gain),
            columns.numbers("Baseline chosen on other replicates", "crossed", cells["crossed"], theme.gain),
            columns.hidden("unit", ["fraction"] * len(cells)),
        ),
    )
