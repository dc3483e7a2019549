"""What does the loss look like between the methods? The plane through three sets of weights, and the ways there."""

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement, Axes, Grid, anchor, anchors, axis, lay_out
from dashboards.figures.kit.traces import Figure, Trace, contour, scatter
from dashboards.tables.table import Column, Entry, Table, numeric
from study.records import PlaneRecord

Rows = tuple[tuple[float, ...], ...]
MOST_STRETCHED = 2.0  # one range over the other, up to which both axes have one scale
MOST_DRAWN = 24  # planes, two panels each


@dataclass(frozen=True, slots=True)
class Plane:
    """The loss over one plane, one seed.

    Attributes:
        cell, seed: Whose weights they are.
        corners: Method, x and y; distances in weight space from the first one.
        x, y: The grid. train, test: losses, one row a y.
        trajectories: By method, where its weights lay, projected.
        off_plane: Median distance of those points from the plane over that of the corners from the origin; NaN without.
        captured: Share of the trajectories' variance in the plane; NaN without.
    """

    cell: str
    seed: int
    corners: tuple[tuple[str, float, float], ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    train: Rows
    test: Rows
    trajectories: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
    off_plane: float
    captured: float

    @property
    def nearest_to_lowest_test(self) -> str:
        """The method whose corner lies nearest to the point of the grid with the lowest test loss."""
        _, x, y = min((loss, self.x[j], self.y[i]) for i, row in enumerate(self.test) for j, loss in enumerate(row))
        return min(self.corners, key=lambda corner: math.dist(corner[1:], (x, y)))[0]


def planes_of(records: Iterable[PlaneRecord], cells: Mapping[str, Cell]) -> tuple[Plane, ...]:
    """Return the planes whose losses are all finite, in the order of cells."""
    known = [
        record
        for record in records
        if record.cell in cells and all(map(math.isfinite, itertools.chain(*record.train_losses, *record.test_losses)))
    ]
    order = list(cells)
    return tuple(
        _plane(record, cells[record.cell].label) for record in sorted(known, key=lambda r: order.index(r.cell))
    )


def _plane(record: PlaneRecord, cell: str) -> Plane:
    away = [distance for found in record.off_plane.values() for distance in found]
    size = max(math.hypot(x, y) for _, x, y in record.corners)
    return Plane(
        cell=cell,
        seed=record.seed,
        corners=record.corners,
        x=record.x,
        y=record.y,
        train=record.train_losses,
        test=record.test_losses,
        trajectories=tuple(record.trajectories.items()),
        off_plane=statistics.median(away) / size if away and size else math.nan,
        captured=math.nan if record.captured is None else record.captured,
    )


def figure_of(planes: Sequence[Plane]) -> tuple[Figure, Arrangement]:
    """Draw two panels a plane, training and test loss: the higher the loss, the stronger the grey, on a log scale."""
    traces: list[Trace] = []
    axes: Axes = {}
    titles = []
    for number, plane in enumerate(planes):
        for side, (part, losses) in enumerate((("train", plane.train), ("test", plane.test))):
            panel = 2 * number + side
            traces += [_relief(plane, part, losses, panel), *_paths(plane, panel), *_corners(plane, panel)]
            titles.append(theme.wrapped(f"{plane.cell}: {part}", 24))
            axes[axis("x", panel)], axes[axis("y", panel)] = _axes(plane, panel)
    grid = Grid(
        columns=4, narrow_columns=2, row=200, narrow_row=150, left=40, narrow_left=34, gap=84, x_gap=0.05,
        y_labels="all", at_least=4,
    )  # fmt: skip
    return lay_out(traces, titles, grid, axes)


def _axes(plane: Plane, panel: int) -> tuple[dict[str, object], dict[str, object]]:
    """Return both axes, on one scale unless that would leave a thin strip."""
    width, height = plane.x[-1] - plane.x[0], plane.y[-1] - plane.y[0]
    common: dict[str, object] = {"showgrid": False, "nticks": 4}
    x, y = common | {"range": [plane.x[0], plane.x[-1]]}, common | {"range": [plane.y[0], plane.y[-1]]}
    if max(width, height) <= MOST_STRETCHED * min(width, height):
        x |= {"constrain": "domain", "constraintoward": "left"}
        y |= {"constrain": "domain", "constraintoward": "top", "scaleanchor": anchor("x", panel)}
    return x, y


def _relief(plane: Plane, part: str, losses: Rows, panel: int) -> Trace:
    logarithmic = min(map(min, losses)) > 0
    heights = [[math.log10(loss) if logarithmic else loss for loss in row] for row in losses]
    return contour(
        x=theme.rounded(plane.x),
        y=theme.rounded(plane.y),
        z=[theme.rounded(row) for row in heights],
        colorscale=[[0, theme.PAPER], [1, theme.UNKNOWN]],
        showscale=False,
        ncontours=14,
        line={"width": 0.6, "color": theme.MUTED},
        hoverinfo="text",
        hovertext=[[f"{part} loss {theme.number(loss)}" for loss in row] for row in losses],
        **anchors(panel),
    )


def _paths(plane: Plane, panel: int) -> list[Trace]:
    return [
        scatter(
            x=theme.rounded([x for x, _ in points]),
            y=theme.rounded([y for _, y in points]),
            mode="lines+markers",
            line={"color": theme.style_of(method).color, "width": 1.6},
            marker={"size": 3.5, "color": theme.style_of(method).color},
            hoverinfo="text",
            hovertext=[
                f"{theme.plot_text(method)}, {k} of {len(points)} on its way" for k in range(1, len(points) + 1)
            ],
            **anchors(panel),
        )
        for method, points in plane.trajectories
        if points
    ]


def _corners(plane: Plane, panel: int) -> list[Trace]:
    return [
        scatter(
            x=theme.rounded([x]),
            y=theme.rounded([y]),
            mode="markers",
            marker={
                "symbol": theme.style_of(method).symbol,
                "size": 15 - 3 * number,  # an average may lie upon its baseline: both stay seen
                "color": theme.style_of(method).color,
                "line": {"color": theme.PAPER, "width": 1.2},
            },
            hoverinfo="text",
            hovertext=[f"<b>{theme.plot_text(method)}</b>"],
            **anchors(panel),
        )
        for number, (method, x, y) in enumerate(plane.corners)
    ]


def table_of(planes: Sequence[Plane]) -> Table:
    """Return one row a point of the grid, then the corners and trajectories, whose own loss is not known."""
    return Table(
        "plane",
        "Loss over the plane through the weights of three methods; coordinates are distances in weight space.",
        (
            Column("Problem", "problem"),
            numeric("Seed", "seed"),
            Column("Point", "point"),
            numeric("x", "x"),
            numeric("y", "y"),
            numeric("Train loss", "train_loss"),
            numeric("Test loss", "test_loss"),
        ),
        tuple(
            (
                Entry(plane.cell),
                Entry(str(plane.seed), plane.seed),
                Entry(point),
                Entry(theme.number(x), x),
                Entry(theme.number(y), y),
                Entry(theme.number(train), train),
                Entry(theme.number(test), test),
            )
            for plane in planes
            for point, x, y, train, test in (*_grid_points(plane), *_weights(plane))
        ),
    )


def _grid_points(plane: Plane) -> Iterator[tuple[str, float, float, float | None, float | None]]:
    for y, trains, tests in zip(plane.y, plane.train, plane.test, strict=True):
        for x, train, test in zip(plane.x, trains, tests, strict=True):
            yield "grid", x, y, train, test


def _weights(plane: Plane) -> Iterator[tuple[str, float, float, float | None, float | None]]:
    for method, x, y in plane.corners:
        yield method, x, y, None, None
    for method, points in plane.trajectories:
        for number, (x, y) in enumerate(points, 1):
            yield f"{method} on its way, {number}", x, y, None, None


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = planes_of(sources.planes, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data[:MOST_DRAWN])
    left_out = (
        f" The first {MOST_DRAWN} of {len(data)} planes are drawn; all of them are in planes/."
        if len(data) > MOST_DRAWN
        else ""
    )
    nearest = [one.nearest_to_lowest_test for one in data]
    clauses = [f"{method} in {nearest.count(method)}" for method in dict.fromkeys(nearest)]
    away = [one.off_plane for one in data if theme.known(one.off_plane)]
    held = [one.captured for one in data if theme.known(one.captured)]
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
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data), "planes/"),
    )


def _percents(shares: Sequence[float]) -> str:
    return f"{prose.span(shares, lambda share: f'{100 * share:.0f}')}\u202f%"
