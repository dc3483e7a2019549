"""How did training go? The validation score over the epochs of the confirm runs, and where averaging takes it."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.contenders import longer
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import Confirmed, End, for_methods, standing_for, trajectories_of
from dashboards.figures.kit.panels import Panel, grid_of_cells, lay_out, marker, reach, shares_stay_shares, whiskers
from dashboards.figures.kit.traces import Figure, Shape, Trace, box, hover_of, line, scatter, upright
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table, most
from study.stats.typical import Typical, Way

MOST_POINTS, AMPLE = 300, 16  # per curve, and up to how many problems; the frame keeps them all
SHOWN_BELOW_BEST = 0.25
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """The validation score of one tuned trajectory in one cell, with its last weights: by epoch, over units.

    Of the epochs that were kept every ``drawn_every``-th is held, back from the last one. ``length`` is in multiples of
    the cell's epochs, ``name`` says it; ``train`` is the training score at the end, NaN where none was measured.
    """

    cell: str
    method: str
    scores: Mapping[int, Typical]
    drawn_every: int = 1
    length: float = 1.0
    name: str = ""
    train: float = math.nan

    @property
    def line(self) -> list[float]:
        """The middle of the scores, from the first epoch to the last."""
        return [found.middle for found in self.scores.values()]


@dataclass(frozen=True, slots=True)
class Marked:
    """One point of a tuned trajectory that is marked: the epoch that validation prefers, or its average at the end.

    ``epoch`` is that of the median run. ``start`` is the epoch after which averaging begins, in the median of the runs,
    as validation chooses it in each; None for averages that have no start (EMA, LAWA), and for epochs.
    """

    cell: str
    method: str
    epoch: float
    score: Typical
    start: float | None = None


def best_epochs_of(runs: Iterable[Confirmed], cells: Mapping[str, LabelledCell], way: Way) -> tuple[Marked, ...]:
    """Return the preferred epochs of the trajectories, where runs kept their best one."""
    return tuple(
        Marked(
            cells[one.cell].label,
            one.method,
            statistics.median(end.stands for end in ends),
            way.of(one.by_unit(ends, lambda end: end.val_score)),
        )
        for one in trajectories_of(runs)
        if (ends := one.of_kind("best"))
    )


def averages_of(runs: Iterable[Confirmed], cells: Mapping[str, LabelledCell], way: Way) -> tuple[Marked, ...]:
    """Compute where the averages of the averaging methods end, at equal epochs."""
    found = []
    for one in for_methods(runs):
        ends = [end for end in one.standing if not math.isnan(end.val_score)]
        if standing_for(one.method) == "last" or one.lengths != (1.0,) or not ends:
            continue
        start = statistics.median(map(_start_of, ends)) if standing_for(one.method) == "swa" else None
        score = way.of(one.by_unit(ends, lambda end: end.val_score))
        found.append(Marked(cells[one.cell].label, one.method, ends[0].epoch, score, start))
    return tuple(found)


def _start_of(end: End) -> float:
    """Return the epoch after which a run's preferred average begins."""
    return float(end.weights.partition("@")[2]) * end.epoch


def curves_of(runs: Iterable[Confirmed], cells: Mapping[str, LabelledCell], way: Way) -> tuple[Curve, ...]:
    """Compute the curves of every trajectory and length, with their last weights, where epochs were kept."""
    curves = []
    points = most(MOST_POINTS, len(cells), AMPLE)
    for one in trajectories_of(runs):
        if len(one.course) < 2:
            continue
        step = -(-len(one.course) // points)
        epochs = sorted(one.course)[::-step][::-1]  # the last one among them
        scores = {epoch: way.of(one.at(epoch)) for epoch in epochs}
        cell = cells[one.cell]
        curves.append(Curve(cell.label, one.method, scores, step, one.lengths[0], _name(one, cell), _train(one, way)))
    return tuple(curves)


def _name(one: Confirmed, cell: LabelledCell) -> str:
    """Name a trajectory by its method and, where there are several, its length."""
    if cell.epochs and one.lengths != (1.0,):
        return f"{one.method}, {one.lengths[0] * cell.epochs:.4g} epochs"
    return longer(one.method, one.lengths[0])


def _train(one: Confirmed, way: Way) -> float:
    return way.of([end.train_score for end in one.of_kind("last") if not math.isnan(end.train_score)]).middle


def figure_of(curves: Sequence[Curve], averages: Sequence[Marked], score: Score, best: Sequence[Marked] = ()) -> Figure:
    """Draw one panel a cell; a band holds the ends around the line, the shade the epochs that are averaged."""
    panels = []
    for name in dict.fromkeys(curve.cell for curve in curves):
        here = [curve for curve in curves if curve.cell == name]
        ends, kept = ([one for one in some if one.cell == name] for some in (averages, best))
        panels.append(_panel(name, here, ends, kept, score))
    return lay_out(panels, grid_of_cells(len(panels)), y_title=score.axis("validation"))


def _panel(
    name: str, curves: Sequence[Curve], averages: Sequence[Marked], best: Sequence[Marked], score: Score
) -> Panel:
    low, top = shown(curves, [average.score.middle for average in averages])
    room = 0.05 * theme.least(top - low, 0.01)
    ends = low - room, top + room
    traces = [trace for curve in curves for trace in _traces(curve, ends, score)]
    traces += [_trained(curve, (low, top), score) for curve in curves if theme.known(curve.train)]
    traces += [_best(one, (low, top), score) for one in best]
    traces += [_end(average, k, (low, top), score) for k, average in enumerate(averages)]
    last = max(max(curve.scores) for curve in curves)
    x = {"title": {"text": "epoch"}, "range": [0, last * (1.02 + 0.05 * len(averages))]}
    return Panel(theme.wrapped(name, 22), traces, x, score.axis_from(*ends), _shade(averages))


def _cut(values: Iterable[float], span: Span, score: Score) -> list[float]:
    """Return where scores are drawn: what lies beyond a panel stands at its edge."""
    return score.drawn(min(max(value, span[0]), span[1]) for value in values)


def _shade(averages: Sequence[Marked]) -> list[Shape]:
    """Shade from the earliest selected start to the last epoch; a dotted line in its colour marks every start."""
    starts = [(one.method, one.start) for one in averages if one.start is not None]
    if not starts:
        return []
    return [
        box((min(start for _, start in starts), averages[0].epoch), None, theme.BAND),
        *(upright(start, line(theme.style_of(method).color, 1.2, "dot")) for method, start in starts),
    ]


def _end(average: Marked, position: int, span: Span, score: Score) -> Trace:
    """Draw where an average ends, just right of the last epoch; its interval is cut at the panel."""
    style, found = theme.style_of(average.method), average.score
    low, high = score.ends(found.ends)
    said = f"{score.full_text(found.middle)}, {score.way.short} {score.write(low)} to {score.write(high)}"
    ends = found.ends if theme.known(found.ends[0]) else (found.middle, found.middle)
    middle, *cut = _cut((found.middle, *ends), span, score)
    return scatter(
        [average.epoch * (1.035 + 0.05 * position)],
        [middle],
        "markers",
        [hover_of(average.method, "average at the end", f"{said}, n = {found.n}")],
        error_y=whiskers([middle - min(cut)], [max(cut) - middle], style.color, 1.6),
        marker=marker(style, 8, filled=True),
    )


def _trained(curve: Curve, span: Span, score: Score) -> Trace:
    """Draw the training score at the end as a dash; outside of the panel it stands at its edge."""
    return scatter(
        [max(curve.scores)],
        _cut([curve.train], span, score),
        "markers",
        [hover_of(curve.name, "", f"training {score.full_text(curve.train)} at the end")],
        marker={"symbol": "line-ew", "size": 11, "line": {"color": theme.style_of(curve.method).color, "width": 2.5}},
        cliponaxis=False,
    )


def _best(one: Marked, span: Span, score: Score) -> Trace:
    """Draw the epoch that validation prefers as an open marker."""
    middle, epoch = score.full_text(one.score.middle), theme.number(one.epoch)
    said = f"epoch {epoch} in the median, {middle} in the {score.way.middle}, n = {one.score.n}"
    return scatter(
        [one.epoch],
        _cut([one.score.middle], span, score),
        "markers",
        [hover_of(one.method, "best epoch of each run", said)],
        marker=marker(theme.style_of(one.method), 11, filled=False, edge=2),
    )


def shown(curves: Sequence[Curve], ends: Sequence[float] = ()) -> Span:
    """Return the scores that a panel shows: all lines, and bands as far as they reach less than that again.

    With two seeds a Student-t band is many times wider than the curves are apart; it is cut at the axis. Training
    scores are shown as far as they leave half of the panel to validation.
    """
    lines = [*(v for curve in curves for v in curve.line), *ends]
    worst, top = reach(lines)
    below = SHOWN_BELOW_BEST if theme.shares() else top - worst
    floor = max(min(lines), top - below)
    room = theme.least(top - floor, 0.05)
    bands = [v for curve in curves for found in curve.scores.values() for v in found.ends if theme.known(v)]
    low = max(min([floor, *bands]), floor - room, top - below)
    low, high = shares_stay_shares(low, min(max([top, *bands]), top + room), lines)
    worst, top = reach([v for curve in curves for v in curve.line])
    room = theme.least(top - worst, 0.05)
    return low, max([high, *(min(curve.train, high + room) for curve in curves if theme.known(curve.train))])


def _traces(curve: Curve, span: Span, score: Score) -> list[Trace]:
    style = theme.style_of(curve.method)
    known = {epoch: found.ends for epoch, found in curve.scores.items() if theme.known(found.ends[0])}
    span = shares_stay_shares(*span, curve.line)
    low, high = (_cut([ends[side] for ends in known.values()], span, score) for side in (0, 1))
    band = scatter(
        [*known, *reversed(known)],
        [*high, *reversed(low)],
        "lines",
        line={"width": 0, "color": style.color},
        fill="toself",
        fillcolor=theme.faded(style.color, 0.18),
    )
    middle = scatter(
        curve.scores,
        score.drawn(curve.line),
        "lines+markers" if len(curve.scores) <= 12 else "lines",
        [
            hover_of(curve.name, f"epoch {epoch}", f"{score.full_text(found.middle)}, n = {found.n}")
            for epoch, found in curve.scores.items()
        ],
        line=line(style.color, 2, style.dash if curve.length == 1 else "dot"),
        marker={"symbol": style.symbol, "size": 6},
    )
    return [band, middle]


def table_of(curves: Sequence[Curve], averages: Sequence[Marked], score: Score) -> Table:
    """Return the curves as a table: one row an epoch kept, and one an average at its end."""
    rows = [(c.cell, c.name, epoch, found) for c in curves for epoch, found in c.scores.items()]
    rows += [(one.cell, one.method, int(one.epoch), one.score) for one in averages]
    return columns.table_of(
        "curves",
        f"{score.way.title} validation {score.name} of the last weights by epoch, and of the averages at the end"
        f"{score.direction}.",
        (
            columns.words("Problem", "problem", [cell for cell, *_ in rows]),
            columns.words("Trajectory", "method", [name for _, name, *_ in rows]),
            columns.counts("Epoch", "epoch", [epoch for *_, epoch, _ in rows]),
            *columns.typical_scores(score, "val_score", [one for *_, one in rows]),
            columns.counts("n", "n", [one.n for *_, one in rows]),
            columns.units([score] * len(rows)),
        ),
    )


def heading_of(curves: Sequence[Curve], score: Score) -> str:
    """State in how many problems the last trajectory, the sharpness-aware one, ends better than the first."""
    ends: dict[str, dict[str, float]] = {}
    for curve in curves:
        if curve.length == 1:
            ends.setdefault(curve.method, {})[curve.cell] = curve.line[-1]
    first, last = list(ends)[:1], list(ends)[-1:]
    both = [cell for cell in ends[first[0]] if cell in ends[last[0]]] if first != last else []
    if not both:
        return f"Validation {score.name} while training"
    base, other = first[0], last[0]
    where = prose.share(sum(ends[other][cell] > ends[base][cell] for cell in both), len(both))
    higher = "higher" if score.higher_is_better else "lower, that is better,"
    said = f"{score.way.middle} validation {score.name} is {higher} with {other} than with {base} in {where}"
    return f"At the last epoch, {said}"


def panels_of(sources: Sources) -> dict[str, list[object]]:
    """Return by problem in which chart, and in which panel of it, its curves are drawn."""
    found: dict[str, list[object]] = {}
    for number, part in enumerate(sources.by_measure, 1):
        drawn = dict.fromkeys(curve.cell for curve in curves_of(part.confirmed, part.cells, part.score.way))
        name = "curves" if number == 1 else f"curves-{number}"
        found |= {label: [name, panel] for panel, label in enumerate(drawn)}
    return found


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    runs, cells, score = sources.confirmed, sources.cells, sources.score
    data = curves_of(runs, cells, score.way)
    if not data:
        return None
    drawn = {curve.cell for curve in data}
    averages = [average for average in averages_of(runs, cells, score.way) if average.cell in drawn]
    best = [one for one in best_epochs_of(runs, cells, score.way) if one.cell in drawn]
    trajectories = {curve.name if curve.length == 1 else f"{curve.method}, longer": curve.method for curve in data}
    shade = (
        " Shaded: the epochs that are averaged, from the start that validation chose in the median run (dotted in the "
        "method's colour); the markers right of the last epoch are the averages."
        if averages
        else ""
    )
    epoch = " Open markers: the epoch that validation prefers, in the median run, and its score." if best else ""
    cut = f"at most {100 * SHOWN_BELOW_BEST:.0f} points below" if theme.shares() else "no score that is far worse than"
    band = "the interval of the mean" if score.share else "from quartile to quartile"
    step = max(curve.drawn_every for curve in data)
    units = [found.n for curve in data for found in curve.scores.values()]
    return Chart(
        id="curves",
        heading=heading_of(data, score),
        reading=f"One line a trajectory, with its last weights; the band is {band}.{epoch}{shade}",
        caption=(
            f"{score.way.title} over {prose.numbers(units)} {sources.units} with {score.way.ends}, cut "
            f"at the axis: confirm runs of what validation picked in each. A panel shows {cut} its best."
            f"{f' Of the epochs that were kept one in {step} is drawn.' if step > 1 else ''}"
        ),
        keys=(
            *(Key(name, method, "both" if name == method else "dotted") for name, method in trajectories.items()),
            *([Key("training, at the end", "", "dashed")] if any(theme.known(c.train) for c in data) else []),
            *(Key(f"{method}, best epoch", method, "open") for method in dict.fromkeys(b.method for b in best)),
            *(Key(f"{method}, at the end", method) for method in dict.fromkeys(a.method for a in averages)),
            *([Key("epochs averaged", "", "band")] if any(a.start is not None for a in averages) else []),
        ),
        figure=figure_of(data, averages, score, best),
        table=sources.fitted(table_of(data, averages, score), "runs.parquet"),
    )
