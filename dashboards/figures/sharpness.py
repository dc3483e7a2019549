"""How sharp is the loss around the weights of each method? Probes of the confirm runs: they describe, no more."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dashboards import theme
from dashboards.cells import Cell
from dashboards.figures.panels import Arrangement, Axes, Grid, anchors, axis, lay_out
from dashboards.tables import Column, Entry, Table, numeric
from study.methods import METHODS
from study.records import RunRecord
from study.selection import Selection
from study.stats import estimate

MEASURES = {
    "top_eigenvalue": "largest Hessian eigenvalue",
    "worst_case_rise": "worst-case rise, nats",
    "average_case_rise": "average-case rise, nats",
}  # the trace is left to the data: its estimates are the noisiest of the four


@dataclass(frozen=True, slots=True)
class Sharpness:
    """One probe of one method's weights in one cell.

    ``mean`` is the geometric mean over seeds, ``ci95`` its Student-t interval on the log scale; both NaN where a
    value is not above 0, as leaving it out would make the rest look sharper.
    """

    cell: str
    method: str
    weights: str
    measure: str
    values: tuple[float, ...]
    mean: float
    ci95: tuple[float, float]


def sharpness_of(
    records: Iterable[RunRecord], selections: Iterable[Selection], cells: Mapping[str, Cell]
) -> tuple[Sharpness, ...]:
    """Collect the probes of every method at equal epochs; an averaging method stands for its average."""
    probed: dict[tuple[object, ...], dict[int, float]] = {}
    for record in records:
        job = record.job
        run = (job.cell, job.family, job.epochs_factor, job.learning_rate, job.rho, job.average_start)
        for probe in record.probes if job.stage == "confirm" else ():
            if probe.name in MEASURES and theme.known(probe.value):
                probed.setdefault((*run, probe.weights, probe.name), {})[job.seed] = probe.value
    found = []
    for chosen in selections:
        if chosen.epochs_factor != 1 or chosen.cell not in cells:
            continue
        weights = chosen.average or "last"
        run = (
            chosen.cell, METHODS[chosen.method].family, 1.0, chosen.learning_rate, chosen.rho, chosen.average_start,
        )  # fmt: skip
        for measure in MEASURES:
            by_seed = probed.get((*run, weights, measure), {})
            values = tuple(by_seed[seed] for seed in sorted(by_seed))
            if values:
                found.append(_summarized(cells[chosen.cell].label, chosen.method, weights, measure, values))
    return tuple(found)


def _summarized(cell: str, method: str, weights: str, measure: str, values: tuple[float, ...]) -> Sharpness:
    if min(values) <= 0:
        return Sharpness(cell, method, weights, measure, values, math.nan, (math.nan, math.nan))
    logs = estimate([math.log(value) for value in values])
    low, high = logs.ci95
    return Sharpness(cell, method, weights, measure, values, math.exp(logs.mean), (_exp(low), _exp(high)))


def _exp(value: float) -> float:
    """Return e^value, infinite where an interval of two seeds reaches beyond what a float holds."""
    return math.exp(value) if value < 700 else math.inf


def against_baseline(data: Iterable[Sharpness], measure: str) -> dict[str, tuple[float, int]]:
    """Return, by method, the geometric mean over cells of its mean ÷ its baseline's, and the number of cells."""
    means = {(s.cell, s.method): s.mean for s in data if s.measure == measure and theme.known(s.mean)}
    ratios: dict[str, list[float]] = {}
    for (cell, method), mean in means.items():
        base = means.get((cell, METHODS[method].baseline))
        if base is not None and METHODS[method].baseline != method:
            ratios.setdefault(method, []).append(math.log(mean / base))
    return {method: (math.exp(sum(logs) / len(logs)), len(logs)) for method, logs in ratios.items()}


def figure_of(data: Sequence[Sharpness]) -> tuple[go.Figure, Arrangement]:
    """Draw one panel a measure on a log axis, one row a cell, the methods of a cell below each other."""
    measures = [measure for measure in MEASURES if any(s.measure == measure for s in data)]
    names = list(dict.fromkeys(s.cell for s in data))
    methods = list(dict.fromkeys(s.method for s in data))
    heights = {name: len(names) - 1 - row for row, name in enumerate(names)}
    step = 0.76 / len(methods)
    traces: list[go.Scatter] = []
    axes: Axes = {}
    for panel, measure in enumerate(measures):
        low, high = _range([s for s in data if s.measure == measure])
        for k, method in enumerate(methods):
            here = [s for s in data if (s.measure, s.method) == (measure, method)]
            offset = 0.38 - (k + 0.5) * step
            traces += _traces(here, [heights[s.cell] + offset for s in here], (low, high), panel) if here else []
        axes[axis("x", panel)] = {
            "type": "log",
            "range": [math.log10(low), math.log10(high)],
            "tickvals": ticks(low, high),
            "ticktext": [f"{value:g}" for value in ticks(low, high)],
        }
        axes[axis("y", panel)] = {
            "tickvals": list(range(len(names))),
            "ticktext": [theme.wrapped(name, 24) for name in reversed(names)],
            "range": [-0.55, len(names) - 0.45],
            "showgrid": False,
            "tickfont": {"color": theme.INK},
        }
    row = max(110, len(names) * max(46, 15 * len(methods) + 10))
    grid = Grid(
        columns=3, narrow_columns=1, row=row, narrow_row=row, left=150, narrow_left=142, gap=80, x_gap=0.04,
        y_labels="first", at_least=2, top=30,
    )  # fmt: skip
    return lay_out(traces, [MEASURES[measure] for measure in measures], grid, axes)


def _range(data: Sequence[Sharpness]) -> tuple[float, float]:
    """Return ends that hold all seeds above 0; intervals may widen them threefold and are cut beyond."""
    positive = [value for s in data for value in s.values if value > 0] or [1.0]
    ends = [end for s in data for end in s.ci95 if theme.known(end) and end > 0]
    low = max(min([*positive, *ends]), min(positive) / 3)
    high = min(max([*positive, *ends]), max(positive) * 3)
    return low / 1.25, high * 1.25


def ticks(low: float, high: float) -> list[float]:
    """Return at most a handful of round numbers between two ends: plotly's own on a log axis read 2, 5 without 10."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{power}") for power in powers for digit in digits]
        inside = [value for value in found if low <= value <= high]
        if len(inside) <= 5:
            return inside
    return inside[:: -(-len(inside) // 5)]


def _traces(data: list[Sharpness], heights: list[float], span: tuple[float, float], panel: int) -> list[go.Scatter]:
    style = theme.style_of(data[0].method)
    pairs = list(zip(data, heights, strict=True))
    seeds = [(value, height) for s, height in pairs for value in s.values if value > 0]
    known = [(s, height) for s, height in pairs if theme.known(s.mean)]
    ends = [
        (max(span[0], s.ci95[0]), min(span[1], s.ci95[1])) if not math.isnan(s.ci95[0]) else (s.mean, s.mean)
        for s, _ in known
    ]
    return [
        go.Scatter(
            x=theme.rounded([value for value, _ in seeds]),
            y=theme.rounded([height for _, height in seeds]),
            mode="markers",
            marker={"symbol": "line-ns", "size": 6, "line": {"color": theme.faded(style.color, 0.45), "width": 1.5}},
            hoverinfo="skip",
            **anchors(panel),
        ),
        go.Scatter(
            x=theme.rounded([s.mean for s, _ in known]),
            y=theme.rounded([height for _, height in known]),
            error_x={
                "type": "data",
                "array": theme.rounded([high - s.mean for (s, _), (_, high) in zip(known, ends, strict=True)]),
                "arrayminus": theme.rounded([s.mean - low for (s, _), (low, _) in zip(known, ends, strict=True)]),
                "width": 0,
                "thickness": 2,
                "color": style.color,
            },
            mode="markers",
            marker={"symbol": style.symbol, "size": 8, "color": style.color},
            hoverinfo="text",
            hovertext=[_hover(s) for s, _ in known],
            **anchors(panel),
        ),
    ]


def _hover(s: Sharpness) -> str:
    return (
        f"<b>{theme.plot_text(s.method)}</b> · {theme.plot_text(s.cell)}<br>{MEASURES[s.measure]}: "
        f"{theme.number(s.mean)} [{theme.number(s.ci95[0])}, {theme.number(s.ci95[1])}], n = {len(s.values)}"
    )


def table_of(data: Sequence[Sharpness]) -> Table:
    """Return the probes as a table: one row a cell, method and measure."""
    return Table(
        "sharpness",
        "Sharpness of the weights of each method at the end of the confirm runs; geometric means over seeds.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Weights", "weights"),
            Column("Measure", "measure"),
            numeric("Mean", "mean"),
            numeric("95 % CI low", "ci95_low"),
            numeric("95 % CI high", "ci95_high"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(s.cell),
                Entry(s.method, method=s.method),
                Entry(s.weights),
                Entry(MEASURES[s.measure], s.measure),
                *(Entry(theme.number(v), v if theme.known(v) else None) for v in (s.mean, *s.ci95)),
                Entry(str(len(s.values)), len(s.values)),
            )
            for s in data
        ),
    )
