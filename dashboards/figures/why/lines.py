"""Is there a barrier between the weights of two methods? The loss on the straight line from one to the other."""

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement, Axes, anchors, axis, grid_of_cells, lay_out
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.tables.table import Column, Entry, Table, numeric
from study.findings.quantities import barrier
from study.records import LineRecord
from study.stats import Estimate, estimate

MOST_DRAWN = 40  # panels


@dataclass(frozen=True, slots=True)
class Way:
    """All lines between the same two methods in one cell.

    ``alphas`` run from 0 (``start``) to 1 (``end``); ``train`` and ``test`` hold one line a run, losses in nats;
    ``barrier``: the highest rise of the training loss above the straight line between its ends, over runs.
    """

    cell: str
    start: str
    end: str
    alphas: tuple[float, ...]
    train: tuple[tuple[float, ...], ...]
    test: tuple[tuple[float, ...], ...]
    barrier: Estimate


def ways_of(lines: Iterable[LineRecord], cells: Mapping[str, Cell]) -> tuple[Way, ...]:
    """Group the lines by cell and by the methods at their ends, in the order of cells and of methods."""
    groups: dict[tuple[str, str, str], list[LineRecord]] = {}
    for line in sorted(lines, key=lambda line: (line.replicate, line.seed)):
        if line.cell in cells and all(map(theme.known, (*line.train_losses, *line.test_losses))):
            groups.setdefault((line.cell, line.start, line.end), []).append(line)
    names, methods = list(cells), list(theme.methods())
    ordered = sorted(groups, key=lambda key: (names.index(key[0]), methods.index(key[1]), methods.index(key[2])))
    ways = []
    for key in ordered:
        alike = [line for line in groups[key] if line.alphas == groups[key][0].alphas]
        ways.append(
            Way(
                cell=cells[key[0]].label,
                start=key[1],
                end=key[2],
                alphas=alike[0].alphas,
                train=tuple(line.train_losses for line in alike),
                test=tuple(line.test_losses for line in alike),
                barrier=estimate([barrier(line) for line in alike]),
            )
        )
    return tuple(ways)


def mean_of(losses: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean loss over runs at every point of the line."""
    return tuple(statistics.fmean(at) for at in zip(*losses, strict=True))


def drawn_of(ways: Sequence[Way], limit: int = MOST_DRAWN) -> tuple[Way, ...]:
    """Return the ways of the ``limit`` panels, a cell and a baseline each, with the highest mean barriers."""
    highest: dict[tuple[str, str], float] = {}
    for way in ways:
        panel = (way.cell, way.start)
        highest[panel] = max(highest.get(panel, way.barrier.mean), way.barrier.mean)
    kept = set(heapq.nlargest(limit, highest, key=lambda panel: highest[panel]))
    return tuple(way for way in ways if (way.cell, way.start) in kept)


def figure_of(ways: Sequence[Way]) -> tuple[Figure, Arrangement]:
    """Draw one panel a cell and baseline: all runs thin, their mean thick; test loss dashed."""
    panels: dict[tuple[str, str], list[Way]] = {}
    for way in ways:
        panels.setdefault((way.cell, way.start), []).append(way)
    traces: list[Trace] = []
    axes: Axes = {}
    for panel, ((_, start), here) in enumerate(panels.items()):
        for way in here:
            traces += [*_traces(way, way.train, panel, "train"), *_traces(way, way.test, panel, "test")]
        values = [v for way in here for losses in (*way.train, *way.test) for v in losses]
        room = 0.06 * max(max(values) - min(values), 0.05)
        axes[axis("x", panel)] = {
            "tickvals": [0, 1],
            "ticktext": [theme.plot_text(start), theme.plot_text(here[0].end) if len(here) == 1 else "method"],
            "range": [-0.12, 1.12],
        }
        axes[axis("y", panel)] = {"range": [max(0.0, min(values) - room), max(values) + room], "nticks": 5}
    several = len({start for _, start in panels}) > 1
    titles = [theme.wrapped(f"{cell}, from {start}" if several else cell, 22) for cell, start in panels]
    return lay_out(traces, titles, grid_of_cells(len(titles)), axes, y_title="loss, nats")


def _traces(way: Way, losses: Sequence[Sequence[float]], panel: int, part: str) -> list[Trace]:
    color, dash = theme.style_of(way.end).color, "solid" if part == "train" else "dash"
    thin_x = [alpha for _ in losses for alpha in (*way.alphas, None)]
    thin_y = [value for one in losses for value in (*theme.rounded(one), None)]
    mean = mean_of(losses)
    return [
        scatter(
            x=thin_x,
            y=thin_y,
            mode="lines",
            line={"color": theme.faded(color, 0.3), "width": 1, "dash": dash},
            hoverinfo="skip",
            **anchors(panel),
        ),
        scatter(
            x=theme.rounded(way.alphas),
            y=theme.rounded(mean),
            mode="lines",
            line={"color": color, "width": 2.4, "dash": dash},
            hoverinfo="text",
            hovertext=[
                f"<b>{part} loss</b>, {alpha:.0%} of the way to {theme.plot_text(way.end)}"
                f"<br>{theme.number(value)} nats, n = {len(losses)}"
                for alpha, value in zip(way.alphas, mean, strict=True)
            ],
            **anchors(panel),
        ),
    ]


def barriers(ways: Iterable[Way]) -> dict[tuple[str, str], list[float]]:
    """Return the mean barriers of all cells by pair of methods."""
    found: dict[tuple[str, str], list[float]] = {}
    for way in ways:
        found.setdefault((way.start, way.end), []).append(way.barrier.mean)
    return found


def table_of(ways: Iterable[Way]) -> Table:
    """Return one row a point of a mean line, with the barrier of its line."""
    return Table(
        "lines",
        "Mean loss over runs on the straight lines between the weights of two methods, and the training barrier.",
        (
            Column("Problem", "problem"),
            Column("From", "start"),
            Column("To", "end"),
            numeric("Share of the way", "alpha"),
            numeric("Train loss", "train_loss"),
            numeric("Test loss", "test_loss"),
            numeric("Barrier [95 % CI]", "barrier"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(way.cell),
                Entry(way.start, method=way.start),
                Entry(way.end, method=way.end),
                Entry(f"{alpha:.2f}", alpha),
                Entry(theme.number(train), train),
                Entry(theme.number(test), test),
                Entry(_barrier_words(way.barrier), way.barrier.mean),
                Entry(str(way.barrier.n), way.barrier.n),
            )
            for way in ways
            for alpha, train, test in zip(way.alphas, mean_of(way.train), mean_of(way.test), strict=True)
        ),
    )


def _barrier_words(found: Estimate) -> str:
    low, high = found.ci95
    mean = theme.number(found.mean)
    return f"{mean} [{theme.number(low)}, {theme.number(high)}]" if theme.known(low) else mean


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    ways = ways_of(sources.lines, sources.cells)
    if not ways:
        return None
    drawn = drawn_of(ways)
    figure, narrow = figure_of(drawn)
    panels, shown = (len({(way.cell, way.start) for way in some}) for some in (ways, drawn))
    left_out = (
        f" The {shown} of {panels} panels with the highest barriers are drawn; all lines are in lines/."
        if shown < panels
        else ""
    )
    found = barriers(ways)
    told = [
        f"{prose.span(heights, theme.number)} nats from {start} to {end}" for (start, end), heights in found.items()
    ]
    highest = [f"{theme.number(max(heights))} nats on the way to {end}" for (_, end), heights in found.items()]
    return Chart(
        id="lines",
        heading=f"The highest mean barrier in the training loss is {prose.listed(highest)}",
        reading=(
            "From the baseline's weights on the left to each method's on the right. A hump in a solid line is a "
            "barrier: the two lie in different valleys."
        ),
        caption=(
            f"Thick: mean over {prose.numbers(way.barrier.n for way in ways)} confirm runs, the first of every "
            "replicate; thin: every run. Barrier, the "
            f"highest rise above the straight line between the ends: {prose.listed(told)}; 95 % Student-t intervals "
            f"are in the table. BatchNorm statistics are measured anew at every point.{left_out} Descriptive."
        ),
        keys=(
            Key("training loss", "", "line"),
            Key("test loss", "", "dashed"),
            *(Key(end, end) for end in dict.fromkeys(w.end for w in ways)),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(ways), "lines/"),
    )
