"""Traces and figures as plotly.js takes them: plain data.

plotly's own objects copy all of a figure several times, which takes most of a large page's time. Our tests have plotly
look through every figure of their studies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboards import theme

Trace = dict[str, Any]
Shape = dict[str, Any]
Arrangement = dict[str, object]


@dataclass(frozen=True, slots=True)
class Figure:
    """The traces of a figure, drawn in their order, its layout, and what of it is other on a narrow screen.

    An arrangement is a flat dict of layout paths to values, the form that ``Plotly.relayout`` takes; the page applies
    the narrow one where the chart has less than 560 pixels.
    """

    data: list[Trace]
    layout: dict[str, Any]
    narrow: Arrangement

    def as_plotly(self) -> go.Figure:
        """Return the figure, in the looks of the page, as an object of plotly, which looks through all of it."""
        return go.Figure(self.data, self.layout | {"template": theme.TEMPLATE})


def scatter(
    x: Iterable[float | None], y: Iterable[float | None], mode: str, hover: Iterable[str] | None = None, **more: object
) -> Trace:
    """Return a scatter trace; ``hover`` has what the pointer shows at each of its points, nothing without."""
    pointer = {"hoverinfo": "skip"} if hover is None else {"hoverinfo": "text", "hovertext": list(hover)}
    return {"type": "scatter", "x": theme.rounded(x), "y": theme.rounded(y), "mode": mode, **pointer, **more}


def line(color: str, width: float, dash: str = "solid") -> dict[str, object]:
    """Return the looks of a line."""
    return {"color": color, "width": width, "dash": dash}


def upright(x: float, look: dict[str, object]) -> Shape:
    """Return a line over the height of a panel, behind its traces."""
    return {"type": "line", "layer": "below", "x0": x, "x1": x, "yref": "y domain", "y0": 0, "y1": 1, "line": look}


def level(y: float, look: dict[str, object]) -> Shape:
    """Return a line over the width of a panel, behind its traces."""
    return {"type": "line", "layer": "below", "xref": "x domain", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": look}


def box(x: tuple[float, float], y: tuple[float, float] | None, color: str, edge: str = "") -> Shape:
    """Return a filled box behind the traces of a panel, without heights over all of it."""
    height = {"yref": "y domain", "y0": 0, "y1": 1} if y is None else {"y0": y[0], "y1": y[1]}
    outline = line(edge, 1) if edge else {"width": 0}
    return {"type": "rect", "layer": "below", "x0": x[0], "x1": x[1], **height, "fillcolor": color, "line": outline}


def hover_of(method: str, where: str, *lines: str) -> str:
    """Return what the pointer shows at a marker: whose it is, where, and what there is to say, if anything."""
    head = f"<b>{theme.plot_text(method)}</b>" + (f" · {theme.plot_text(where)}" if where else "")
    return "<br>".join([head, *map(theme.plot_text, filter(None, lines))])
