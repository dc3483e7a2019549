"""Rows of markers with their intervals: one panel a quantity, one row a problem, the methods of a row below each other.

The caller brings values to the unit that is shown; seeds are small ticks. What lies beyond the axis is an arrow at its
end: a mean, and an interval that is far wider than all seeds.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import theme
from dashboards.figures.kit.panels import Grid, Panel, inliers, lay_out, marker, rows_axis, whiskers
from dashboards.figures.kit.traces import Figure, Shape, Trace, scatter
from study.stats import Effect

Span = tuple[float, float]
NOWHERE: Span = (math.nan, math.nan)
_EDGE = 0.004  # of a scale
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Dot:
    """One marker; ``mean`` and the ends of its intervals may be NaN, ``values`` (one a seed) may be empty.

    ``method`` lends its colour and symbol; not ``filled``: an open marker. ``outer`` is a second, wider interval.
    """

    panel: str
    row: str
    method: str
    mean: float
    ci95: Span
    values: tuple[float, ...]
    hover: str
    filled: bool = True
    outer: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Scale:
    """The x axis of a panel: its title under the axis, a log scale, a value that it holds in any case.

    ``span``: its ends, where the markers do not set them.
    """

    title: str = ""
    log: bool = False
    holds: float | None = None
    span: Span | None = None


def of_gain(panel: str, row: str, effect: Effect, hover: str, *, filled: bool = True) -> Dot:
    """Return the marker of a mean gain with the gains that it is of, in the unit that is shown."""
    low, high = map(theme.in_points, effect.ci95)
    values = tuple(map(theme.in_points, effect.differences))
    return Dot(panel, row, effect.method, theme.in_points(effect.mean), (low, high), values, hover, filled)


def figure_of(
    dots: Sequence[Dot], scales: Mapping[str, Scale], *, columns: int = 3, shapes: Sequence[Shape] = ()
) -> Figure:
    """Draw the panels in the order of ``scales``, without those that have no marker; ``shapes`` stand in each."""
    rows = list(dict.fromkeys(dot.row for dot in dots))
    by_panel = {name: here for name in scales if (here := [dot for dot in dots if dot.panel == name])}
    looks = max(len(_looks(here)) for here in by_panel.values())
    abreast = Counter((panel, row) for panel, row, *_ in {(d.panel, d.row, d.method, d.filled) for d in dots})
    crowded = max(abreast.values()) > 1
    panels = [
        _panel(name, here, scales[name], rows, shapes, step=0.76 / looks if crowded else 0.0)
        for name, here in by_panel.items()
    ]
    height = max(110, len(rows) * (max(46, 15 * looks + 10) if crowded else 40))
    grid = Grid(
        columns=columns, narrow_columns=1, row=height, narrow_row=height, left=150, narrow_left=142,
        gap=92 if any(scale.title for scale in scales.values()) else 80, x_gap=0.04, y_labels="first", at_least=2,
        top=30, bottom=46, right=24,
    )  # fmt: skip
    return lay_out(panels, grid)


def _looks(dots: Sequence[Dot]) -> list[tuple[str, bool]]:
    return list(dict.fromkeys((dot.method, dot.filled) for dot in dots))


def _panel(
    name: str, dots: Sequence[Dot], scale: Scale, rows: Sequence[str], shapes: Sequence[Shape], step: float
) -> Panel:
    span = scale.span or span_of(dots, scale)
    heights = {row: len(rows) - 1 - index for index, row in enumerate(rows)}
    looks = _looks(dots)
    traces: list[Trace] = []
    for k, look in enumerate(looks):
        alike = [dot for dot in dots if (dot.method, dot.filled) == look]
        offset = ((len(looks) - 1) / 2 - k) * step
        traces += _traces(alike, [heights[dot.row] + offset for dot in alike], span, scale)
    return Panel(theme.plot_text(name), traces, _x_axis(scale, span), rows_axis(rows), shapes)


def _x_axis(scale: Scale, span: Span) -> dict[str, object]:
    if scale.log:
        return {**log_axis(*span), "title": {"text": scale.title}}
    return {"range": list(span), "title": {"text": scale.title}}


def log_axis(low: float, high: float, words: str = "{}") -> dict[str, object]:
    """Return a log axis between two values above 0, with a few round ticks."""
    at = ticks(low, high)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": at,
        "ticktext": [words.format(tick_words(value)) for value in at],
    }


def span_of(dots: Sequence[Dot], scale: Scale) -> Span:
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


def inside(value: float, span: Span, *, log: bool = False) -> float:
    """Return where a value is drawn: just inside of a scale that it lies beyond, as what is not is left out."""
    write, read = (math.log, math.exp) if log and value > 0 else (float, float)
    low, high = write(span[0]), write(span[1])
    edge = _EDGE * (high - low)
    return value if span[0] < value < span[1] else read(min(max(write(value), low + edge), high - edge))


def beyond(value: float, span: Span) -> str:
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


def _traces(dots: Sequence[Dot], heights: Sequence[float], span: Span, scale: Scale) -> list[Trace]:
    style, filled = theme.style_of(dots[0].method), dots[0].filled
    pairs = list(zip(dots, heights, strict=True))
    seeds = [
        (v, height) for dot, height in pairs for v in dot.values if (v > 0 or not scale.log) and not beyond(v, span)
    ]
    known = [(dot, height) for dot, height in pairs if theme.known(dot.mean)]
    at = [inside(dot.mean, span, log=scale.log) for dot, _ in known]
    look = marker(style, 8, filled=filled, edge=1.2 if filled else 1.8)
    if any(beyond(dot.mean, span) for dot, _ in known):
        look["symbol"] = [beyond(dot.mean, span) or style.symbol for dot, _ in known]
    ticks = scatter(
        [value for value, _ in seeds],
        [height for _, height in seeds],
        "markers",
        marker={"symbol": "line-ns", "size": 6, "line": {"color": theme.faded(style.color, 0.45), "width": 1.5}},
    )
    means = scatter(
        at,
        [height for _, height in known],
        "markers",
        [dot.hover for dot, _ in known],
        error_x=_whiskers(at, [dot.ci95 for dot, _ in known], span, style.color),
        marker=look,
        cliponaxis=False,
    )
    wide = [(x, dot.outer, height) for x, (dot, height) in zip(at, known, strict=True) if theme.known(dot.outer[0])]
    outer = scatter(
        [x for x, _, _ in wide],
        [height for _, _, height in wide],
        "markers",
        error_x=_whiskers([x for x, _, _ in wide], [ends for _, ends, _ in wide], span, style.color, thickness=1),
        marker={"opacity": 0},
    )
    return [ticks, *([outer] if wide else []), *_arrows(known, span, style.color), means]


def _whiskers(at: Sequence[float], ends: Sequence[Span], span: Span, color: str, thickness: float = 2) -> Trace:
    """Return intervals round markers, cut at the ends of the axis."""
    drawn = [
        (min(x, max(span[0], low)), max(x, min(span[1], high))) if not math.isnan(low) else (x, x)
        for x, (low, high) in zip(at, ends, strict=True)
    ]
    below = [x - low for x, (low, _) in zip(at, drawn, strict=True)]
    return whiskers(below, [high - x for x, (_, high) in zip(at, drawn, strict=True)], color, thickness)


def _arrows(known: Sequence[tuple[Dot, float]], span: Span, color: str) -> list[Trace]:
    """Return a trace of the ends at which intervals go on beyond the axis, if there are any."""
    ends = [(end, height) for dot, height in known for end in (*dot.ci95, *dot.outer) if beyond(end, span)]
    if not ends:
        return []
    return [
        scatter(
            [inside(end, span) for end, _ in ends],
            [height for _, height in ends],
            "markers",
            marker={"symbol": [beyond(end, span) for end, _ in ends], "size": 8, "color": color},
            cliponaxis=False,
            name="the interval goes on",
        )
    ]
