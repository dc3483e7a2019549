"""Fields of a matrix: one coloured field a pair of row and column, its value written in it.

Fields are drawn as shapes in a colour that is more or less opaque, not as a heatmap trace: the middle of the scale is
then the paper, light or dark, and the ink reads on every field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards import theme
from dashboards.figures.kit.panels import Arrangement, Axes, Grid, anchor, anchors, axis, lay_out
from dashboards.figures.kit.traces import Figure, Trace, scatter

_GAP = 0.03  # of a field, on each side
_MOST_COLUMNS_WITH_TEXT = 10
_NARROW_CHARACTERS = 26  # of all column names together, side by side on a phone


@dataclass(frozen=True, slots=True)
class Field:
    """One field: where it stands, its colour (``#RRGGBBAA``), what is written in it and what the pointer shows."""

    row: int
    column: int
    color: str
    text: str
    hover: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """One panel: its title, safe for plotly, and its fields."""

    title: str
    fields: tuple[Field, ...]


def figure_of(
    matrices: Sequence[Matrix], rows: Sequence[str], columns: Sequence[str], *, x_title: str = "", row_height: int = 46
) -> tuple[Figure, Arrangement]:
    """Draw one panel a matrix; all share their rows (the first on top) and columns, whose names are made safe here."""
    traces: list[Trace] = []
    shapes: list[dict[str, object]] = []
    axes: Axes = {}
    characters = max(5, min(13, _NARROW_CHARACTERS // max(1, len(columns))))
    across = [
        theme.wrapped(name.replace("+", "+ ") if len(name) > characters else name, characters) for name in columns
    ]
    down = [theme.wrapped(name, 24) for name in rows]
    for panel, matrix in enumerate(matrices):
        shapes += [_shape(field, len(rows), panel) for field in matrix.fields]
        traces.append(_texts(matrix.fields, len(rows), panel, written=len(columns) <= _MOST_COLUMNS_WITH_TEXT))
        axes[axis("x", panel)] = {
            "tickvals": list(range(len(columns))),
            "ticktext": across,
            "range": [-0.5, len(columns) - 0.5],
            "showgrid": False,
            "ticks": "",
            "tickangle": 0,
            "tickfont": {"color": theme.INK, "size": 11},
            "title": {"text": x_title},
        }
        axes[axis("y", panel)] = {
            "tickvals": [len(rows) - 1 - row for row in range(len(rows))],
            "ticktext": down,
            "range": [-0.5, len(rows) - 0.5],
            "showgrid": False,
            "tickfont": {"color": theme.INK, "size": 12},
        }
    grid = _grid(len(matrices), down, across, row_height)
    figure, narrow = lay_out(traces, [matrix.title for matrix in matrices], grid, axes, shapes=shapes)
    figure.layout["hoverdistance"] = 40  # a pointer anywhere in a field finds it
    return figure, narrow


def _grid(matrices: int, rows: Sequence[str], columns: Sequence[str], row_height: int) -> Grid:
    """Return a grid with room for the lines of all names; ``rows`` and ``columns`` are wrapped already."""
    lines = max((name.count("<br>") + 1 for name in columns), default=1)
    height = max(row_height, 15 * max((name.count("<br>") + 1 for name in rows), default=1) + 6)
    whole = max(90, height * len(rows))
    return Grid(
        columns=max(1, min(3, 12 // max(1, len(columns)), matrices)), narrow_columns=1, row=whole, narrow_row=whole,
        left=158, narrow_left=144, gap=62 + 15 * lines, x_gap=0.03, y_labels="first",
        at_least=2 if len(columns) < 6 else 1, top=30, bottom=44 + 15 * (lines - 1),
    )  # fmt: skip


def _shape(field: Field, rows: int, panel: int) -> dict[str, object]:
    y = rows - 1 - field.row
    return {
        "type": "rect", "xref": anchor("x", panel), "yref": anchor("y", panel), "layer": "below",
        "x0": field.column - 0.5 + _GAP, "x1": field.column + 0.5 - _GAP, "y0": y - 0.5 + _GAP, "y1": y + 0.5 - _GAP,
        "fillcolor": field.color, "line": {"width": 1, "color": theme.GRID},
    }  # fmt: skip


def _texts(fields: Sequence[Field], rows: int, panel: int, *, written: bool) -> Trace:
    return scatter(
        x=[field.column for field in fields],
        y=[rows - 1 - field.row for field in fields],
        mode="text" if written else "markers",
        marker={"opacity": 0},
        text=[field.text for field in fields] if written else None,
        textfont={"color": theme.INK, "size": 12 if max([0, *(f.column for f in fields)]) < 5 else 11},
        hoverinfo="text",
        hovertext=[field.hover for field in fields],
        **anchors(panel),
    )
