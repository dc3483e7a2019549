"""Traces and figures as plotly.js takes them: plain data.

plotly's own objects copy all of a figure several times, which takes most of a large page's time. Our tests have plotly
look through every figure of their studies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboards import theme

Trace = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """The traces of a figure, drawn in their order, and its layout."""

    data: list[Trace]
    layout: dict[str, Any]

    def as_plotly(self) -> go.Figure:
        """Return the figure, in the looks of the page, as an object of plotly, which looks through all of it."""
        return go.Figure(self.data, self.layout | {"template": theme.TEMPLATE})


def scatter(**settings: object) -> Trace:
    """Return a scatter trace."""
    return {"type": "scatter"} | _given(settings)


def contour(**settings: object) -> Trace:
    """Return a contour trace."""
    return {"type": "contour"} | _given(settings)


def _given(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}
