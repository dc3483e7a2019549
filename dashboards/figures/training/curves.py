"""How did training go? The validation score over the epochs of the confirm runs, and where averaging takes it."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.contenders import longer
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import Confirmed, End, for_methods, standing_for, trajectories_of
from dashboards.figures.kit.panels import (
    Arrangement,
    Axes,
    anchor,
    anchors,
    axis,
    foot,
    grid_of_cells,
    lay_out,
    shares_stay_shares,
)
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, most, numeric
from study.stats import estimate

MOST_POINTS, AMPLE = 300, 16  # per curve, and up to how many problems; the frame keeps them all
SHOWN_BELOW_BEST = 0.25


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean validation score by epoch of one tuned trajectory in one cell, with its 95 % Student-t interval over units.

    Of the epochs that were kept every ``drawn_every``-th is held, back from the last one. ``length`` is in multiples of
    the cell's epochs, ``name`` says it; ``train`` is the mean training score at the end, NaN where none was measured.
    """

    cell: str
    method: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    drawn_every: int = 1
    length: float = 1.0
    name: str = ""
    train: float = math.nan


@dataclass(frozen=True, slots=True)
class Averaged:
    """The average of one tuned trajectory at its last epoch, with its 95 % Student-t interval over units.

    ``start`` is the epoch after which averaging begins, in the median of the runs, as validation chooses it in each;
    None for averages that have no start (EMA, LAWA).
    """

    cell: str
    method: str
    start: float | None
    epochs: int
    mean: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True)
class BestEpoch:
    """Which epoch of one tuned trajectory validation prefers, in the median of the runs, and its mean score there."""

    cell: str
    method: str
    epoch: float
    mean: float
    n: int


def best_epochs_of(runs: Iterable[Confirmed], cells: Mapping[str, Cell]) -> tuple[BestEpoch, ...]:
    """Return the preferred epochs of the trajectories, where runs kept their best one."""
    found = []
    for one in trajectories_of(runs):
        ends = one.of_kind("best")
        if ends:
            values = one.by_unit(ends, lambda end: end.val_score)
            epoch = statistics.median(end.stands for end in ends)
            found.append(BestEpoch(cells[one.cell].label, one.method, epoch, statistics.fmean(values), len(values)))
    return tuple(found)


def averages_of(runs: Iterable[Confirmed], cells: Mapping[str, Cell]) -> tuple[Averaged, ...]:
    """Compute where the averages of the averaging methods end, at equal epochs."""
    found = []
    for one in for_methods(runs):
        ends = [end for end in one.standing if not math.isnan(end.val_score)]
        if standing_for(one.method) == "last" or one.lengths != (1.0,) or not ends:
            continue
        values = estimate(one.by_unit(ends, lambda end: end.val_score))
        start = statistics.median(map(_start_of, ends)) if standing_for(one.method) == "swa" else None
        found.append(
            Averaged(cells[one.cell].label, one.method, start, ends[0].epoch, values.mean, values.ci95, values.n)
        )
    return tuple(found)


def _start_of(end: End) -> float:
    """Return the epoch after which a run's preferred average begins."""
    return float(end.weights.partition("@")[2]) * end.epoch


def curves_of(runs: Iterable[Confirmed], cells: Mapping[str, Cell]) -> tuple[Curve, ...]:
    """Compute the curves of every trajectory and length, with their last weights, where epochs were kept."""
    curves = []
    points = most(MOST_POINTS, len(cells), AMPLE)
    for one in trajectories_of(runs):
        if len(one.course) < 2:
            continue
        step = -(-len(one.course) // points)
        epochs = sorted(one.course)[::-step][::-1]  # the last one among them
        found = [one.over_units(epoch) for epoch in epochs]
        curves.append(
            Curve(
                cell=cells[one.cell].label,
                method=one.method,
                epochs=tuple(epochs),
                mean=tuple(e.mean for e in found),
                low=tuple(e.ci95[0] for e in found),
                high=tuple(e.ci95[1] for e in found),
                n=tuple(e.n for e in found),
                drawn_every=step,
                length=one.lengths[0],
                name=_name(one, cells[one.cell]),
                train=_train(one),
            )
        )
    return tuple(curves)


def _name(one: Confirmed, cell: Cell) -> str:
    """Name a trajectory by its method and, where there are several, its length."""
    if one.lengths == (1.0,):
        return one.method
    return (
        f"{one.method}, {one.lengths[0] * cell.epochs:.4g} epochs"
        if cell.epochs
        else longer(one.method, one.lengths[0])
    )


def _train(one: Confirmed) -> float:
    found = [end.train_score for end in one.of_kind("last") if not math.isnan(end.train_score)]
    return statistics.fmean(found) if found else math.nan


def figure_of(
    curves: tuple[Curve, ...], averages: Sequence[Averaged], score: Score, best: Sequence[BestEpoch] = ()
) -> tuple[Figure, Arrangement]:
    """Draw one panel a cell; a band is the interval of the mean, the shade the epochs that are averaged."""
    names = list(dict.fromkeys(curve.cell for curve in curves))
    traces: list[Trace] = []
    axes: Axes = {}
    shapes: list[dict[str, object]] = []
    for panel, name in enumerate(names):
        here = [curve for curve in curves if curve.cell == name]
        ends = [average for average in averages if average.cell == name]
        low, top = shown(here, [average.mean for average in ends])
        top = with_training(top, here)
        for curve in here:
            traces += _traces(curve, panel, score)
            if theme.known(curve.train):
                traces.append(_trained(curve, (low, top), panel, score))
        traces += [_best(one, low, panel, score) for one in best if one.cell == name]
        traces += [_end(average, k, (low, top), panel, score) for k, average in enumerate(ends)]
        shapes += _shade(ends, panel)
        room = 0.05 * theme.least(top - low, 0.01)
        axes[axis("x", panel)] = {
            "title": {"text": "epoch"},
            "range": [0, max(curve.epochs[-1] for curve in here) * (1.02 + 0.05 * len(ends))],
        }
        axes[axis("y", panel)] = {
            "range": [theme.in_points(low - room), theme.in_points(top + room)],
            "nticks": 6,
        }
    titles = [theme.wrapped(name, 22) for name in names]
    return lay_out(traces, titles, grid_of_cells(len(titles)), axes, y_title=score.axis("validation"), shapes=shapes)


def _shade(averages: Sequence[Averaged], panel: int) -> list[dict[str, object]]:
    """Shade from the earliest selected start to the last epoch; a dotted line in its colour marks every start."""
    known = [(average, average.start) for average in averages if average.start is not None]
    if not known:
        return []
    where: dict[str, object] = {"xref": anchor("x", panel), "yref": f"{anchor('y', panel)} domain", "layer": "below"}
    shade: dict[str, object] = {"type": "rect", "fillcolor": theme.BAND, "line": {"width": 0}, "y0": 0, "y1": 1}
    shapes = [where | shade | {"x0": min(start for _, start in known), "x1": known[0][0].epochs}]
    for average, start in known:
        line = {"color": theme.style_of(average.method).color, "width": 1.2, "dash": "dot"}
        shapes.append(where | {"type": "line", "x0": start, "x1": start, "y0": 0, "y1": 1, "line": line})
    return shapes


def _end(average: Averaged, position: int, span: tuple[float, float], panel: int, score: Score) -> Trace:
    """Draw where an average ends, just right of the last epoch; its interval is cut at the panel."""
    style = theme.style_of(average.method)
    low, high = average.ci95 if theme.known(average.ci95[0]) else (average.mean, average.mean)
    return scatter(
        x=theme.rounded([average.epochs * (1.035 + 0.05 * position)]),
        y=theme.rounded([theme.in_points(max(average.mean, span[0]))]),
        error_y={
            "type": "data",
            "array": theme.rounded([theme.in_points(max(0.0, min(high, span[1]) - average.mean))]),
            "arrayminus": theme.rounded([theme.in_points(max(0.0, average.mean - max(low, span[0])))]),
            "width": 0,
            "thickness": 1.6,
            "color": style.color,
        },
        mode="markers",
        marker={"symbol": style.symbol, "size": 8, "color": style.color},
        hoverinfo="text",
        hovertext=[
            f"<b>{theme.plot_text(average.method)}</b>, average at the end<br>{score.text(average.mean)}, 95 % CI "
            f"{score.text(average.ci95[0])} to {score.text(average.ci95[1])}, n = {average.n}"
        ],
        **anchors(panel),
    )


def _trained(curve: Curve, span: tuple[float, float], panel: int, score: Score) -> Trace:
    """Draw the training score at the end as a dash; outside of the panel it stands at its edge."""
    return scatter(
        x=[curve.epochs[-1]],
        y=theme.rounded([theme.in_points(min(max(curve.train, span[0]), span[1]))]),
        mode="markers",
        marker={"symbol": "line-ew", "size": 11, "line": {"color": theme.style_of(curve.method).color, "width": 2.5}},
        cliponaxis=False,
        hoverinfo="text",
        hovertext=[f"<b>{theme.plot_text(curve.name)}</b>, training {score.text(curve.train)} at the end"],
        **anchors(panel),
    )


def with_training(top: float, curves: Sequence[Curve]) -> float:
    """Return the upper end of a panel that shows training scores too, as far as they leave half of it to validation."""
    trained = [curve.train for curve in curves if theme.known(curve.train)]
    means = [v for curve in curves for v in curve.mean]
    room = theme.least(max(means) - foot(means), 0.05)
    return max([top, *(min(one, top + room) for one in trained)])


def _best(one: BestEpoch, floor: float, panel: int, score: Score) -> Trace:
    """Draw the epoch that validation prefers as an open marker."""
    style = theme.style_of(one.method)
    return scatter(
        x=theme.rounded([one.epoch]),
        y=theme.rounded([theme.in_points(max(one.mean, floor))]),
        mode="markers",
        marker={
            "symbol": style.symbol, "size": 11, "color": theme.PAPER, "line": {"color": style.color, "width": 2},
        },
        hoverinfo="text",
        hovertext=[
            f"<b>{theme.plot_text(one.method)}</b>, best epoch of each run<br>epoch {theme.number(one.epoch)} in the "
            f"median, {score.text(one.mean)} in the mean, n = {one.n}"
        ],
        **anchors(panel),
    )  # fmt: skip


def _cut() -> str:
    if theme.shares():
        return f"A panel shows at most {SHOWN_BELOW_BEST * 100:.0f} points below its best."
    return "A panel leaves out what is far below its best."


def shown(curves: Sequence[Curve], ends: Sequence[float] = ()) -> tuple[float, float]:
    """Return the scores that a panel shows: all means, and bands as far as they reach less than that again.

    With two seeds a Student-t band is many times wider than the curves are apart; it is cut at the axis.
    """
    means = [*(v for curve in curves for v in curve.mean), *ends]
    top = max(means)
    below = SHOWN_BELOW_BEST if theme.shares() else top - foot(means)
    floor = max(min(means), top - below)
    room = theme.least(top - floor, 0.05)
    bands = [v for curve in curves for v in (*curve.low, *curve.high) if theme.known(v)]
    low = max(min([floor, *bands]), floor - room, top - below)
    return shares_stay_shares(low, min(max([top, *bands]), top + room), means)


def _traces(curve: Curve, panel: int, score: Score) -> list[Trace]:
    style = theme.style_of(curve.method)
    floor, roof = shares_stay_shares(-math.inf, math.inf, curve.mean)
    known = [
        (epoch, max(floor, low), min(roof, high))
        for epoch, low, high in zip(curve.epochs, curve.low, curve.high, strict=True)
        if theme.known(low)
    ]
    band = scatter(
        x=[epoch for epoch, _, _ in known] + [epoch for epoch, _, _ in reversed(known)],
        y=theme.rounded(
            [theme.in_points(high) for *_, high in known] + [theme.in_points(low) for _, low, _ in reversed(known)]
        ),
        mode="lines",
        line={"width": 0, "color": style.color},
        fill="toself",
        fillcolor=theme.faded(style.color, 0.18),
        hoverinfo="skip",
        **anchors(panel),
    )
    mean = scatter(
        x=list(curve.epochs),
        y=theme.rounded([theme.in_points(v) for v in curve.mean]),
        mode="lines+markers" if len(curve.epochs) <= 12 else "lines",
        line={"color": style.color, "width": 2, "dash": style.dash if curve.length == 1 else "dot"},
        marker={"symbol": style.symbol, "size": 6},
        hoverinfo="text",
        hovertext=[
            f"<b>{theme.plot_text(curve.name)}</b>, epoch {epoch}<br>{score.text(v)}, n = {n}"
            for epoch, v, n in zip(curve.epochs, curve.mean, curve.n, strict=True)
        ],
        **anchors(panel),
    )
    return [band, mean]


def table_of(curves: tuple[Curve, ...], averages: Sequence[Averaged], score: Score) -> Table:
    """Return the curves as a table: one row an epoch kept, and one an average at its end."""
    return Table(
        "curves",
        f"Mean validation {score.name} of the last weights by epoch, and of the averages at the end.",
        (
            Column("Problem", "problem"),
            Column("Trajectory", "method"),
            numeric("Epoch", "epoch"),
            numeric(score.head("Mean"), "val_score"),
            numeric(score.head("95 % CI low"), "ci95_low"),
            numeric(score.head("95 % CI high"), "ci95_high"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(curve.cell),
                Entry(curve.name),
                Entry(str(epoch), epoch),
                Entry(score.text(mean), mean),
                Entry(score.text(low), low),
                Entry(score.text(high), high),
                Entry(str(n), n),
            )
            for curve in curves
            for epoch, mean, low, high, n in zip(curve.epochs, curve.mean, curve.low, curve.high, curve.n, strict=True)
        )
        + tuple(
            (
                Entry(average.cell),
                Entry(average.method),
                Entry(str(average.epochs), average.epochs),
                *(Entry(score.text(v), v) for v in (average.mean, *average.ci95)),
                Entry(str(average.n), average.n),
            )
            for average in averages
        ),
    )


def heading_of(higher: int, total: int, sam: str, base: str, score: str) -> str:
    """State in how many problems the sharpness-aware trajectory ends above the base one on validation."""
    if not total:
        return f"Validation {score} while training"
    where = prose.share(higher, total)
    return f"At the last epoch, mean validation {score} is higher with {sam} than with {base} in {where}"


def panels_of(sources: Sources) -> dict[str, list[object]]:
    """Return by problem in which chart, and in which panel of it, its curves are drawn."""
    found: dict[str, list[object]] = {}
    for number, part in enumerate(sources.by_measure, 1):
        drawn = dict.fromkeys(curve.cell for curve in curves_of(part.confirmed, part.cells))
        name = "curves" if number == 1 else f"curves-{number}"
        found |= {label: [name, panel] for panel, label in enumerate(drawn)}
    return found


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    runs, cells, score = sources.confirmed, sources.cells, sources.score
    data = curves_of(runs, cells)
    if not data:
        return None
    drawn = {curve.cell for curve in data}
    averages = [average for average in averages_of(runs, cells) if average.cell in drawn]
    best = [one for one in best_epochs_of(runs, cells) if one.cell in drawn]
    figure, narrow = figure_of(data, averages, score, best)
    methods = list(dict.fromkeys(curve.method for curve in data))
    trajectories = {curve.name if curve.length == 1 else f"{curve.method}, longer": curve.method for curve in data}
    shade = (
        " Shaded: the epochs that are averaged, from the start that validation chose in the median run (dotted in the "
        "method's colour); the markers right of the last epoch are the averages."
        if averages
        else ""
    )
    epoch = " Open markers: the epoch that validation prefers, in the median run, and its score." if best else ""
    step = max(curve.drawn_every for curve in data)
    by_method = {m: {c.cell: c.mean[-1] for c in data if c.method == m and c.length == 1} for m in methods}
    base, other = methods[0], methods[-1]
    both = [cell for cell in by_method[base] if cell in by_method[other]] if other != base else []
    higher = sum(by_method[other][cell] > by_method[base][cell] for cell in both)
    return Chart(
        id="curves",
        heading=heading_of(higher, len(both), other, base, score.name),
        reading=f"One line a trajectory, with its last weights; the band is the interval of the mean.{epoch}{shade}",
        caption=(
            f"Mean over {prose.numbers(n for curve in data for n in curve.n)} {sources.units} with its 95 % Student-t "
            f"interval, cut at the axis: confirm runs of what validation picked in each. {_cut()}"
            f"{f' Every {step}th epoch that was kept is drawn.' if step > 1 else ''}"
        ),
        keys=(
            *(Key(name, method, "both" if name == method else "dotted") for name, method in trajectories.items()),
            *([Key("training, at the end", "", "dashed")] if any(theme.known(c.train) for c in data) else []),
            *(Key(f"{method}, best epoch", method, "open") for method in dict.fromkeys(b.method for b in best)),
            *(Key(f"{method}, at the end", method) for method in dict.fromkeys(a.method for a in averages)),
            *([Key("epochs averaged", "", "band")] if any(a.start is not None for a in averages) else []),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, averages, score), "runs.parquet"),
    )
