"""Is there a barrier between the weights of two methods? The loss on the straight line from one to the other."""

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import FAR, Panel, grid_of_cells, inliers, lay_out
from dashboards.figures.kit.traces import Figure, Trace, line, scatter
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.findings.quantities import barrier
from study.records import LineRecord
from study.stats.typical import MEDIAN, Typical

MOST_DRAWN = 40  # panels


@dataclass(frozen=True, slots=True)
class Way:
    """All lines between the same two methods in one cell.

    ``alphas`` run from 0 (``start``) to 1 (``end``); ``train`` and ``test`` hold one line a run;
    ``barriers``: of every run the highest rise of the training loss above the straight line between its ends.
    """

    cell: str
    start: str
    end: str
    alphas: tuple[float, ...]
    train: tuple[tuple[float, ...], ...]
    test: tuple[tuple[float, ...], ...]
    barriers: tuple[float, ...]

    @property
    def barrier(self) -> Typical:
        """What the barriers of its runs are typically like."""
        return MEDIAN.of(self.barriers)

    @property
    def middle_train(self) -> list[float]:
        """The median training loss over runs at every point of the line."""
        return list(map(statistics.median, zip(*self.train, strict=True)))

    @property
    def middle_test(self) -> list[float]:
        """The median test loss over runs at every point of the line."""
        return list(map(statistics.median, zip(*self.test, strict=True)))


def ways_of(lines: Iterable[LineRecord], cells: Mapping[str, LabelledCell]) -> tuple[Way, ...]:
    """Group the lines by cell and by the methods at their ends, in the order of cells and of methods."""
    groups: dict[tuple[str, str, str], list[LineRecord]] = {}
    for one in sorted(lines, key=lambda one: (one.replicate, one.seed)):
        if one.cell in cells and all(map(theme.known, (*one.train_losses, *one.test_losses))):
            groups.setdefault((one.cell, one.start, one.end), []).append(one)
    names, methods = list(cells), list(theme.methods())
    ordered = sorted(groups, key=lambda key: (names.index(key[0]), methods.index(key[1]), methods.index(key[2])))
    ways = []
    for key in ordered:
        alike = [one for one in groups[key] if one.alphas == groups[key][0].alphas]
        ways.append(
            Way(
                cell=cells[key[0]].label,
                start=key[1],
                end=key[2],
                alphas=alike[0].alphas,
                train=tuple(one.train_losses for one in alike),
                test=tuple(one.test_losses for one in alike),
                barriers=tuple(map(barrier, alike)),
            )
        )
    return tuple(ways)


def drawn_of(ways: Sequence[Way], limit: int = MOST_DRAWN) -> tuple[Way, ...]:
    """Return the ways of the ``limit`` panels, a cell and a baseline each, with the highest median barriers."""
    highest: dict[tuple[str, str], float] = {}
    for way in ways:
        panel = (way.cell, way.start)
        highest[panel] = max(highest.get(panel, way.barrier.middle), way.barrier.middle)
    kept = set(heapq.nlargest(limit, highest, key=lambda panel: highest[panel]))
    return tuple(way for way in ways if (way.cell, way.start) in kept)


def figure_of(ways: Sequence[Way], score: Score) -> Figure:
    """Draw one panel a cell and baseline: all runs thin, their median thick; test loss dashed."""
    groups: dict[tuple[str, str], list[Way]] = {}
    for way in ways:
        groups.setdefault((way.cell, way.start), []).append(way)
    several = len({start for _, start in groups}) > 1
    panels = [
        _panel(f"{cell}, from {start}" if several else cell, start, here, score)
        for (cell, start), here in groups.items()
    ]
    return lay_out(panels, grid_of_cells(len(panels)), y_title=f"{score.loss_head('loss')}, lower is better")


def _panel(title: str, start: str, ways: Sequence[Way], score: Score) -> Panel:
    traces: list[Trace] = []
    for way in ways:
        traces += _traces(way, way.train, way.middle_train, "train", score)
        traces += _traces(way, way.test, way.middle_test, "test", score)
    worst, best = _span(ways)
    room = 0.06 * max(worst - best, 0.05)
    low = best - room
    end = theme.plot_text(ways[0].end) if len(ways) == 1 else "method"
    x = {"tickvals": [0, 1], "ticktext": [theme.plot_text(start), end], "range": [-0.12, 1.12]}
    y = {"range": [low if best < 0 else max(0.0, low), worst + room]}
    return Panel(theme.wrapped(title, 22), traces, x, y)


def _span(ways: Sequence[Way]) -> tuple[float, float]:
    """Return the highest and the lowest loss that a panel shows: all medians, and all runs but those far out."""
    runs = [losses for way in ways for losses in (*way.train, *way.test)]
    middles = [losses for way in ways for losses in (way.middle_train, way.middle_test)]
    _, worst = inliers(list(map(max, runs)), times=FAR)
    best, _ = inliers(list(map(min, runs)), times=FAR)
    return max(worst, *map(max, middles)), min(best, *map(min, middles))


def _traces(
    way: Way, losses: Sequence[Sequence[float]], middle: Sequence[float], part: str, score: Score
) -> list[Trace]:
    color, dash = theme.style_of(way.end).color, "solid" if part == "train" else "dash"
    hover = [
        f"<b>{part} loss</b>, {alpha:.0%} of the way to {theme.plot_text(way.end)}"
        f"<br>{score.loss_text(value)}, n = {len(losses)}"
        for alpha, value in zip(way.alphas, middle, strict=True)
    ]
    thin_x = [alpha for _ in losses for alpha in (*way.alphas, None)]
    thin_y = [value for one in losses for value in (*one, None)]
    return [
        scatter(thin_x, thin_y, "lines", line=line(theme.faded(color, 0.3), 1, dash)),
        scatter(way.alphas, middle, "lines", hover, line=line(color, 2.4, dash)),
    ]


def barriers(ways: Iterable[Way]) -> dict[tuple[str, str], list[float]]:
    """Return the median barriers of all cells by pair of methods."""
    found: dict[tuple[str, str], list[float]] = {}
    for way in ways:
        found.setdefault((way.start, way.end), []).append(way.barrier.middle)
    return found


def table_of(ways: Iterable[Way], score: Score) -> Table:
    """Return one row a point of a median line, with the barrier of its line."""
    rows = [
        (way, alpha, train, test)
        for way in ways
        for alpha, train, test in zip(way.alphas, way.middle_train, way.middle_test, strict=True)
    ]
    barriers = [way.barrier for way, *_ in rows]
    return columns.table_of(
        "lines",
        "Median loss over runs on the straight lines between the weights of two methods, and the training barrier.",
        (
            columns.words("Problem", "problem", [way.cell for way, *_ in rows]),
            columns.methods("From", "start", [way.start for way, *_ in rows]),
            columns.methods("To", "end", [way.end for way, *_ in rows]),
            columns.numbers("Share of the way", "alpha", [alpha for _, alpha, *_ in rows], "{:.2f}".format),
            columns.numbers(score.loss_head("Train loss"), "train_loss", [train for *_, train, _ in rows]),
            columns.numbers(score.loss_head("Test loss"), "test_loss", [test for *_, test in rows]),
            *columns.typical(score.loss_head("Barrier"), "barrier", barriers, MEDIAN, theme.number, "barrier_quartile"),
            columns.counts("n", "n", [b.n for b in barriers]),
            columns.hidden("unit", [score.loss_csv_unit] * len(rows)),
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    ways = ways_of(sources.lines, sources.cells)
    if not ways:
        return None
    drawn, score = drawn_of(ways), sources.score
    panels, shown = (len({(way.cell, way.start) for way in some}) for some in (ways, drawn))
    left_out = (
        f" The {shown} of {panels} panels with the highest barriers are drawn; all lines are in lines/."
        if shown < panels
        else ""
    )
    found = barriers(ways)
    told = [f"{prose.span(heights, score.loss_text)} from {start} to {end}" for (start, end), heights in found.items()]
    highest = [f"{score.loss_text(max(heights))} on the way to {end}" for (_, end), heights in found.items()]
    return Chart(
        id="lines",
        heading=f"The highest median barrier in the training loss is {prose.listed(highest)}",
        reading=(
            "From the baseline's weights on the left to each method's on the right. A hump in a solid line is a "
            "barrier: the two lie in different valleys."
        ),
        caption=(
            f"Thick: median over {prose.numbers(way.barrier.n for way in ways)} confirm runs, the first of every "
            "replicate; thin: every run, cut at the panel where it is far out. Barrier, the highest rise above the "
            f"straight line between the ends, in the median: {prose.listed(told)}; its quartiles are in the table. "
            f"BatchNorm statistics are measured anew at every point.{left_out} Descriptive."
        ),
        keys=(
            Key("training loss", "", "line"),
            Key("test loss", "", "dashed"),
            *(Key(end, end) for end in dict.fromkeys(w.end for w in ways)),
        ),
        figure=figure_of(drawn, score),
        table=sources.fitted(table_of(ways, score), "lines/"),
    )
