"""Small multiples that stay legible from a phone to a desk: one arrangement for wide, one for narrow screens."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dashboards import theme
from dashboards.figures.kit.traces import Arrangement, Figure, Shape, Trace

Axis = Mapping[str, object]
FAR = 8.0  # interquartile ranges: beyond, a value hides all others, or carries their mean
_TITLE_LINES = 2  # that every grid has room for above its panels
_Y_TITLE = 40  # characters of a line beside a panel


@dataclass(frozen=True, slots=True)
class Panel:
    """One of a figure's panels: its title, safe for plotly, what is drawn, and the settings of its axes.

    Its traces and shapes speak of "x" and "y", as if it were alone; `lay_out` gives them the axes of their place.
    """

    title: str
    traces: Sequence[Trace]
    x: Axis
    y: Axis
    shapes: Sequence[Shape] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """How panels are laid out; sizes in pixels.

    ``columns`` on a wide and on a narrow screen; ``row`` is the height of a panel's plot area, ``gap`` the room
    between rows, ``left`` the room for y labels. A wide screen is divided into ``at_least`` columns, so that a single
    panel is not stretched across it. ``y_labels`` "first": only in the first column, as panels share
    their y axis.
    """

    columns: int
    narrow_columns: int
    row: int
    narrow_row: int
    left: int
    narrow_left: int
    gap: int
    x_gap: float
    y_labels: str
    at_least: int = 1
    top: int = 48
    bottom: int = 46
    right: int = 14


def grid_of_cells(cells: int) -> Grid:
    """Return the grid of the charts that have one panel a cell, each with its own y labels."""
    abreast = 5 if cells in (5, 9, 10) else 4 if cells >= 4 else 3  # few panels in the last row
    return Grid(
        columns=abreast, narrow_columns=2, row=200, narrow_row=165, left=58, narrow_left=50, gap=104,
        x_gap=0.04 if abreast == 5 else 0.065, y_labels="all", at_least=2,
    )  # fmt: skip


def axis(kind: str, panel: int) -> str:
    """Return plotly's layout key of a panel's axis: ``xaxis``, ``xaxis2`` …"""
    return f"{kind}axis" if panel == 0 else f"{kind}axis{panel + 1}"


def anchor(kind: str, panel: int) -> str:
    """Return plotly's short name of a panel's axis, as traces use it: ``x``, ``x2`` …"""
    return kind if panel == 0 else f"{kind}{panel + 1}"


def rows_axis(names: Sequence[str]) -> dict[str, object]:
    """Return the y axis of rows that stand at 0, 1, 2 … from below, under names that are made safe here."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [theme.wrapped(name, 24) for name in reversed(names)],
        "range": [-0.55, len(names) - 0.45],
        "showgrid": False,
        "tickfont": {"color": theme.INK},
    }


def marker(style: theme.Style, size: int, *, filled: bool, edge: float = 1.8) -> dict[str, object]:
    """Return a method's marker: full, or as an outline that the paper shows through."""
    return {
        "symbol": style.symbol,
        "size": size,
        "color": style.color if filled else theme.PAPER,
        "line": {"color": style.color, "width": edge},
    }


def whiskers(below: Iterable[float], above: Iterable[float], color: str, thickness: float = 2) -> dict[str, object]:
    """Return the intervals round means, by their lengths on either side."""
    lengths = {"array": theme.rounded(above), "arrayminus": theme.rounded(below)}
    return {"type": "data", **lengths, "width": 0, "thickness": thickness, "color": color}


def inliers(
    values: Sequence[float], least: float = 0.0, holds: Sequence[float] = (), times: float = 3.0
) -> tuple[float, float]:
    """Return the ends of a scale that no outlier sets: those of the values that are not far out.

    Far out is what lies more than three (``times``) interquartile ranges beyond the quartiles; it is drawn as an arrow.

    Args:
        values: What is drawn.
        least: The smallest spread that counts as one, where most values are alike.
        holds: Values that the scale shows unless they are far out by as much again.

    Source: Tukey 1977, Exploratory Data Analysis.
    """
    ordered = sorted(value for value in values if theme.known(value))
    if not ordered:
        return 0.0, 1.0
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    reach = times * max(high - low, least)
    if not reach:
        return min([ordered[0], *holds]), max([ordered[-1], *holds])
    inside = [value for value in ordered if low - reach <= value <= high + reach]
    inside += [value for value in holds if low - 2 * reach <= value <= high + 2 * reach]
    return min(inside), max(inside)


def reach(scores: Sequence[float]) -> tuple[float, float]:
    """Return the worst and the best score that a panel should show; of scores without a bound, none that is far out."""
    best = max(scores) if theme.shares() else inliers(scores, times=FAR)[1]
    return foot([score for score in scores if score <= best]), best


def foot(values: Sequence[float]) -> float:
    """Return the lowest value that a panel should show: runs far below the others would flatten all else.

    Far below is three times the distance from the best to the median, and 2 points of fractions more, under the median.
    """
    best, median = max(values), sorted(values)[len(values) // 2]
    return max(min(values), median - 3 * (best - median) - (0.02 if theme.shares() else 0.0))


def shares_stay_shares(low: float, high: float, values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis, cut at 0 and 1 where all values are shares; an R², say, may lie below 0."""
    share = theme.shares() and all(0 <= value <= 1 for value in values)
    return (max(low, 0.0), min(high, 1.0)) if share else (low, high)


def arrange(panels: int, grid: Grid, *, narrow: bool) -> Arrangement:
    """Return the arrangement of ``panels`` panels, filled row by row."""
    columns = min(panels, grid.narrow_columns) if narrow else max(min(panels, grid.columns), grid.at_least)
    row = grid.narrow_row if narrow else grid.row
    rows = -(-panels // columns)
    plot = rows * row + (rows - 1) * grid.gap
    patch: Arrangement = {
        "height": plot + grid.top + grid.bottom,
        "margin.l": grid.narrow_left if narrow else grid.left,
        "margin.r": grid.right,
        "margin.t": grid.top,
        "margin.b": grid.bottom,
    }
    width = (1 - grid.x_gap * (columns - 1)) / columns
    for panel in range(panels):
        left = (panel % columns) * (width + grid.x_gap)
        top = 1 - (panel // columns) * (row + grid.gap) / plot
        patch |= {
            f"{axis('x', panel)}.domain": [round(left, 5), round(min(1, left + width), 5)],
            f"{axis('y', panel)}.domain": [round(max(0, top - row / plot), 5), round(top, 5)],
            f"annotations[{panel}].x": round(left, 5),
            f"annotations[{panel}].y": round(top, 5),
        }
        if grid.y_labels == "first":
            patch[f"{axis('y', panel)}.showticklabels"] = panel % columns == 0
    return patch


def lay_out(panels: Sequence[Panel], grid: Grid, *, y_title: str = "") -> Figure:
    """Return the figure in its wide arrangement, with the narrow one beside it.

    Args:
        panels: In their order, row by row.
        grid: Sizes.
        y_title: Title of the first panel's y axis, made safe here; the others share its meaning.
    """
    title = theme.wrapped(y_title, _Y_TITLE)
    beside = 15 * title.count("<br>")
    grid = replace(grid, left=grid.left + beside, narrow_left=grid.narrow_left + beside)
    extra = 17 * max(0, max((panel.title.count("<br>") + 1 for panel in panels), default=0) - _TITLE_LINES)
    grid = replace(grid, top=grid.top + extra, gap=grid.gap + extra)
    annotations = [
        {
            "text": f"<b>{panel.title}</b>", "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom",
            "align": "left", "yshift": 5, "showarrow": False, "x": 0, "y": 0,
        }
        for panel in panels
    ]  # fmt: skip
    traces: list[Trace] = []
    shapes: list[Shape] = []
    axes: dict[str, dict[str, object]] = {}
    for place, panel in enumerate(panels):
        x, y = anchor("x", place), anchor("y", place)
        traces += [trace | {"xaxis": x, "yaxis": y} for trace in panel.traces]
        shapes += [shape | _references(shape, x, y) for shape in panel.shapes]
        axes[axis("x", place)] = {"anchor": y, **panel.x}
        axes[axis("y", place)] = {"anchor": x, **panel.y} | ({"scaleanchor": x} if "scaleanchor" in panel.y else {})
    if y_title:
        axes["yaxis"]["title"] = {"text": title}
    wide = arrange(len(panels), grid, narrow=False)
    layout: dict[str, Any] = {"annotations": annotations, "height": wide["height"], "margin": {}}
    layout |= ({"shapes": shapes} if shapes else {}) | axes
    for path, value in wide.items():
        _put(layout, path, value)
    return Figure(traces, layout, arrange(len(panels), grid, narrow=True))


def _references(shape: Shape, x: str, y: str) -> Shape:
    """Return the axes of a shape's panel, and whether it goes by their values or by their length."""
    return {"xref": shape.get("xref", "x").replace("x", x, 1), "yref": shape.get("yref", "y").replace("y", y, 1)}


def _put(layout: dict[str, Any], path: str, value: object) -> None:
    """Set what a path such as ``annotations[2].x`` names."""
    place: Any = layout
    *parents, name = re.findall(r"\w+", path)
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    place[name] = value
