"""Traces and figures that plotly takes as they are, without looking through them.

Looking through every property takes plotly twenty times as long as making a trace, and most of a large page's time. Our
tests have it look through every figure of their studies.
"""

from collections.abc import Iterable, Mapping

import plotly.graph_objects as go


def scatter(**settings: object) -> go.Scatter:
    """Return a scatter trace."""
    return go.Scatter(_validate=False, **settings)


def contour(**settings: object) -> go.Contour:
    """Return a contour trace."""
    return go.Contour(_validate=False, **settings)


def figure(traces: Iterable[go.Scatter | go.Contour], layout: Mapping[str, object]) -> go.Figure:
    """Return a figure of traces, drawn in their order."""
    return go.Figure(list(traces), layout, _validate=False)
