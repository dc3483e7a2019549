"""What does the loss look like between the methods? The plane through three sets of weights, and the ways there."""

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Grid, Panel, lay_out
from dashboards.figures.kit.traces import Figure, Trace, hover_of, line, scatter
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.records import PlaneRecord

Rows = tuple[tuple[float, ...], ...]
MOST_STRETCHED = 2.0  # one range over the other, up to which both axes have one scale
MOST_DRAWN = 24  # planes, two panels each


def planes_of(records: Iterable[PlaneRecord], cells: Mapping[str, LabelledCell]) -> list[PlaneRecord]:
    """Return the planes whose losses are all finite, in the order of cells."""
    known = [
        record
        for record in records
        if record.cell in cells and all(map(math.isfinite, itertools.chain(*record.train_losses, *record.test_losses)))
    ]
    order = list(cells)
    return sorted(known, key=lambda record: order.index(record.cell))


def nearest_to_lowest_test(plane: PlaneRecord) -> str:
    """Return the method whose corner lies nearest to the point of the grid with the lowest test loss."""
    points = ((test, x, y) for _, x, y, _, test in _grid_points(plane))
    _, *lowest = min(points)
    return min(plane.corners, key=lambda corner: math.dist(corner[1:], lowest))[0]


def off_plane(plane: PlaneRecord) -> float:
    """Return how far half of the trajectories' points lie off the plane, over its furthest corner; NaN without any."""
    away = [distance for found in plane.off_plane.values() for distance in found]
    size = max(math.hypot(x, y) for _, x, y in plane.corners)
    return statistics.median(away) / size if away and size else math.nan


def figure_of(planes: Sequence[PlaneRecord], cells: Mapping[str, LabelledCell]) -> Figure:
    """Draw two panels a plane, training and test loss: the higher the loss, the stronger the grey, on a log scale."""
    panels = []
    for plane in planes:
        x, y = _axes(plane)
        for part, losses in (("train", plane.train_losses), ("test", plane.test_losses)):
            traces = [_relief(plane, part, losses), *_paths(plane), *_corners(plane)]
            panels.append(Panel(theme.wrapped(f"{cells[plane.cell].label}: {part}", 24), traces, x, y))
    grid = Grid(
        columns=4, narrow_columns=2, row=200, narrow_row=150, left=40, narrow_left=34, gap=84, x_gap=0.05,
        y_labels="all", at_least=4,
    )  # fmt: skip
    return lay_out(panels, grid)


def _axes(plane: PlaneRecord) -> tuple[dict[str, object], dict[str, object]]:
    """Return both axes, on one scale unless that would leave a thin strip."""
    width, height = plane.x[-1] - plane.x[0], plane.y[-1] - plane.y[0]
    common: dict[str, object] = {"showgrid": False, "nticks": 4}
    x, y = common | {"range": [plane.x[0], plane.x[-1]]}, common | {"range": [plane.y[0], plane.y[-1]]}
    if max(width, height) <= MOST_STRETCHED * min(width, height):
        x |= {"constrain": "domain", "constraintoward": "left"}
        y |= {"constrain": "domain", "constraintoward": "top", "scaleanchor": "x"}
    return x, y


def _relief(plane: PlaneRecord, part: str, losses: Rows) -> Trace:
    logarithmic = min(map(min, losses)) > 0
    heights = [[math.log10(loss) if logarithmic else loss for loss in row] for row in losses]
    return {
        "type": "contour",
        "x": theme.rounded(plane.x),
        "y": theme.rounded(plane.y),
        "z": [theme.rounded(row) for row in heights],
        "colorscale": [[0, theme.PAPER], [1, theme.UNKNOWN]],
        "showscale": False,
        "ncontours": 14,
        "line": {"width": 0.6, "color": theme.MUTED},
        "hoverinfo": "text",
        "hovertext": [[f"{part} loss {theme.number(loss)}" for loss in row] for row in losses],
    }


def _paths(plane: PlaneRecord) -> list[Trace]:
    return [
        scatter(
            [x for x, _ in points],
            [y for _, y in points],
            "lines+markers",
            [hover_of(method, f"{k} of {len(points)} on its way") for k in range(1, len(points) + 1)],
            line=line(theme.style_of(method).color, 1.6),
            marker={"size": 3.5, "color": theme.style_of(method).color},
        )
        for method, points in plane.trajectories.items()
        if points
    ]


def _corners(plane: PlaneRecord) -> list[Trace]:
    return [
        scatter(
            [x],
            [y],
            "markers",
            [hover_of(method, "")],
            marker={
                "symbol": theme.style_of(method).symbol,
                "size": 15 - 3 * number,  # an average may lie upon its baseline: both stay seen
                "color": theme.style_of(method).color,
                "line": {"color": theme.PAPER, "width": 1.2},
            },
        )
        for number, (method, x, y) in enumerate(plane.corners)
    ]


def table_of(planes: Sequence[PlaneRecord], cells: Mapping[str, LabelledCell], score: Score) -> Table:
    """Return one row a point of the grid, then the corners and trajectories, whose own loss is not known."""
    rows = [(plane, *point) for plane in planes for point in (*_grid_points(plane), *_weights(plane))]
    return columns.table_of(
        "plane",
        "Loss over the plane through the weights of three methods; coordinates are distances in weight space.",
        (
            columns.words("Problem", "problem", [cells[plane.cell].label for plane, *_ in rows]),
            columns.counts("Seed", "seed", [plane.seed for plane, *_ in rows]),
            columns.words("Point", "point", [point for _, point, *_ in rows]),
            columns.numbers("x", "x", [x for _, _, x, *_ in rows]),
            columns.numbers("y", "y", [y for _, _, _, y, *_ in rows]),
            columns.numbers(score.loss_head("Train loss"), "train_loss", [train for *_, train, _ in rows]),
            columns.numbers(score.loss_head("Test loss"), "test_loss", [test for *_, test in rows]),
            columns.hidden("unit", [score.loss_csv_unit] * len(rows)),
        ),
    )


def _grid_points(plane: PlaneRecord) -> Iterator[tuple[str, float, float, float | None, float | None]]:
    for y, trains, tests in zip(plane.y, plane.train_losses, plane.test_losses, strict=True):
        for x, train, test in zip(plane.x, trains, tests, strict=True):
            yield "grid", x, y, train, test


def _weights(plane: PlaneRecord) -> Iterator[tuple[str, float, float, float | None, float | None]]:
    for method, x, y in plane.corners:
        yield method, x, y, None, None
    for method, points in plane.trajectories.items():
        for number, (x, y) in enumerate(points, 1):
            yield f"{method} on its way, {number}", x, y, None, None


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = planes_of(sources.planes, sources.cells)
    if not data:
        return None
    left_out = (
        f" The first {MOST_DRAWN} of {len(data)} planes are drawn; all of them are in planes/."
        if len(data) > MOST_DRAWN
        else ""
    )
    nearest = list(map(nearest_to_lowest_test, data))
    clauses = [f"{method} in {nearest.count(method)}" for method in dict.fromkeys(nearest)]
    away = [far for far in map(off_plane, data) if theme.known(far)]
    held = [one.captured for one in data if one.captured is not None]
    projected = (
        f" Trajectories are projected: the plane holds {_percents(held)} of their variance, and half of their points "
        f"lie further from it than {_percents(away)} of the longest distance between the markers; the loss drawn under "
        "such a point is not its own."
        if away and held
        else ""
    )
    methods = dict.fromkeys(method for one in data for method, _, _ in one.corners)
    return Chart(
        id="plane",
        heading=(
            f"Of all points of the grid, the one with the lowest test loss lies nearest to {prose.listed(clauses)} of "
            f"{prose.things(len(data), 'plane')}"
        ),
        reading=(
            "The plane through the weights of three methods, its training loss left and its test loss right: the "
            "stronger the grey, the higher the loss, on a log scale of each panel's own. Thin lines: how training went."
        ),
        caption=(
            f"{prose.numbers([1])} seed a problem, the first of one replicate, hence no interval; {len(data[0].x)} × "
            f"{len(data[0].y)} points, BatchNorm statistics measured anew at each. Axes are distances in weight space, "
            f"on one scale unless one is more than twice as long.{projected}{left_out} Descriptive: a plane shows two "
            "of very many directions."
        ),
        keys=tuple(Key(method, method) for method in methods),
        figure=figure_of(data[:MOST_DRAWN], sources.cells),
        table=sources.fitted(table_of(data, sources.cells, sources.score), "planes/"),
    )


def _percents(shares: Sequence[float]) -> str:
    return f"{prose.span(shares, lambda share: f'{100 * share:.0f}')}\u202f%"
