"""Rows of markers with their intervals: one panel a quantity, one row a problem, the methods of a row below each other.

The caller brings values to the unit that is shown; seeds are small ticks, an interval that is far wider than all seeds
is cut at the axis.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import theme
from dashboards.figures.kit.panels import (
    Arrangement,
    Axes,
    Grid,
    anchors,
    axis,
    inliers,
    lay_out,
    marker,
    whiskers,
)
from dashboards.figures.kit.traces import Figure, Trace, scatter

_EDGE = 0.004  # of a scale
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Dot:
    """One marker; ``mean`` and the ends of its interval may be NaN, ``values`` (one a seed) may be empty.

    ``name`` is the method, whose colour and symbol it gets; not ``filled``: an open marker.
    """

    panel: str
    row: str
    method: str
    mean: float
    ci95: tuple[float, float]
    values: tuple[float, ...]
    hover: str
    filled: bool = True


@dataclass(frozen=True, slots=True)
class Scale:
    """The x axis of a panel: its title under the axis, a log scale, and a value that it holds in any case."""

    title: str = ""
    log: bool = False
    holds: float | None = None


def figure_of(dots: Sequence[Dot], scales: Mapping[str, Scale], *, columns: int = 3) -> tuple[Figure, Arrangement]:
    """Draw the panels in the order of ``scales``, without those that have no marker."""
    panels = [panel for panel in scales if any(dot.panel == panel for dot in dots)]
    rows = list(dict.fromkeys(dot.row for dot in dots))
    looks = list(dict.fromkeys((dot.method, dot.filled) for dot in dots))
    heights = {row: len(rows) - 1 - index for index, row in enumerate(rows)}
    abreast = max(len({(dot.method, dot.filled) for dot in dots if dot.row == row}) for row in rows)
    step = 0.76 / len(looks) if abreast > 1 else 0.0
    traces: list[Trace] = []
    axes: Axes = {}
    for panel, name in enumerate(panels):
        here = [dot for dot in dots if dot.panel == name]
        span = span_of(here, scales[name])
        for k, look in enumerate(looks):
            alike = [dot for dot in here if (dot.method, dot.filled) == look]
            offset = (len(looks) / 2 - k - 0.5) * step
            traces += _traces(alike, [heights[d.row] + offset for d in alike], span, scales[name], panel)
        axes[axis("x", panel)] = _x_axis(scales[name], span)
        axes[axis("y", panel)] = {
            "tickvals": list(range(len(rows))),
            "ticktext": [theme.wrapped(row, 24) for row in reversed(rows)],
            "range": [-0.55, len(rows) - 0.45],
            "showgrid": False,
            "tickfont": {"color": theme.INK},
        }
    titled = any(scale.title for scale in scales.values())
    height = max(110, len(rows) * (max(46, 15 * len(looks) + 10) if abreast > 1 else 40))
    grid = Grid(
        columns=columns, narrow_columns=1, row=height, narrow_row=height, left=150, narrow_left=142,
        gap=92 if titled else 80, x_gap=0.04, y_labels="first", at_least=2, top=30, bottom=46, right=24,
    )  # fmt: skip
    return lay_out(traces, [theme.plot_text(panel) for panel in panels], grid, axes)


def _x_axis(scale: Scale, span: tuple[float, float]) -> dict[str, object]:
    if not scale.log:
        return {"range": list(span), "title": {"text": scale.title}, "nticks": 6}
    at = ticks(*span)
    return {
        "type": "log",
        "range": [math.log10(end) for end in span],
        "tickvals": at,
        "ticktext": [tick_words(value) for value in at],
        "title": {"text": scale.title},
    }


def span_of(dots: Sequence[Dot], scale: Scale) -> tuple[float, float]:
    """Return ends that hold all means and seeds but outliers; intervals may widen them by as much again.

    They are cut beyond. On a log axis what is not above 0 has no place.
    """

    def shown(value: float) -> bool:
        return theme.known(value) and (value > 0 or not scale.log)

    write, read = (math.log, math.exp) if scale.log else (float, float)
    inner = [write(v) for dot in dots for v in (dot.mean, *dot.values) if shown(v)]
    holds = [scale.holds] if scale.holds is not None else []
    low, high = inliers([*inner, *holds], holds=[write(dot.mean) for dot in dots if shown(dot.mean)])
    room = max(high - low, 1e-9)
    ends = [write(end) for dot in dots for end in dot.ci95 if shown(end)]
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    margin = 0.07 * max(high - low, 1e-9)
    return read(low - margin), read(high + margin)


def inside(value: float, span: tuple[float, float], *, log: bool = False) -> float:
    """Return where a value is drawn: just inside of a scale that it lies beyond, as what is not is left out."""
    write, read = (math.log, math.exp) if log and value > 0 else (float, float)
    low, high = write(span[0]), write(span[1])
    edge = _EDGE * (high - low)
    return value if span[0] < value < span[1] else read(min(max(write(value), low + edge), high - edge))


def beyond(value: float, span: tuple[float, float]) -> str:
    """Return the marker of a value that lies outside of a scale; "" of one inside."""
    return "triangle-left" if value < span[0] else "triangle-right" if value > span[1] else ""


def ticks(low: float, high: float) -> list[float]:
    """Return at most a handful of round numbers between two ends: plotly's own on a log axis read 2, 5 without 10."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{power}") for power in powers for digit in digits]
        inside = [value for value in found if low <= value <= high]
        if len(inside) <= 5:
            return inside
    return inside[:: -(-len(inside) // 5)]


def tick_words(value: float) -> str:
    """Write a round number above 0; very small and very large ones as a power of ten."""
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    digit, exponent = f"{value:.0e}".split("e")
    return ("" if digit == "1" else f"{digit}·") + "10" + str(int(exponent)).translate(_RAISED)


def _traces(
    dots: Sequence[Dot], heights: Sequence[float], span: tuple[float, float], scale: Scale, panel: int
) -> list[Trace]:
    pairs = list(zip(dots, heights, strict=True))
    known = [(dot, height) for dot, height in pairs if theme.known(dot.mean)]
    if not pairs:
        return []
    style, filled = theme.style_of(dots[0].method), dots[0].filled
    seeds = [(v, height) for dot, height in pairs for v in dot.values if v > 0 or not scale.log]
    at = [inside(dot.mean, span, log=scale.log) for dot, _ in known]
    ends = [
        (min(at, max(span[0], dot.ci95[0])), max(at, min(span[1], dot.ci95[1])))
        if not math.isnan(dot.ci95[0])
        else (at, at)
        for (dot, _), at in zip(known, at, strict=True)
    ]
    look = marker(style, 8, filled=filled, edge=1.2 if filled else 1.8)
    if any(beyond(dot.mean, span) for dot, _ in known):
        look["symbol"] = [beyond(dot.mean, span) or style.symbol for dot, _ in known]
    return [
        scatter(
            x=theme.rounded([value for value, _ in seeds]),
            y=theme.rounded([height for _, height in seeds]),
            mode="markers",
            marker={"symbol": "line-ns", "size": 6, "line": {"color": theme.faded(style.color, 0.45), "width": 1.5}},
            hoverinfo="skip",
            **anchors(panel),
        ),
        scatter(
            x=theme.rounded(at),
            y=theme.rounded([height for _, height in known]),
            error_x=whiskers(
                [mean - low for mean, (low, _) in zip(at, ends, strict=True)],
                [high - mean for mean, (_, high) in zip(at, ends, strict=True)],
                style.color,
            ),
            mode="markers",
            marker=look,
            cliponaxis=False,
            hoverinfo="text",
            hovertext=[dot.hover for dot, _ in known],
            **anchors(panel),
        ),
    ]
