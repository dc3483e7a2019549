"""The charts that describe why: sharpness of the weights, and the loss between them. No verdict rests on them."""

from collections.abc import Iterable, Mapping, Sequence

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key
from dashboards.figures.why import lines, plane, relation, sharpness
from dashboards.score import score_of
from dashboards.tables.limits import fitted
from study.findings import Findings
from study.records import LineRecord, PlaneRecord, RunRecord


def why_charts(
    findings: Findings,
    records: Iterable[RunRecord],
    measured: Iterable[LineRecord],
    planes: Iterable[PlaneRecord],
    cells: Mapping[str, Cell],
) -> list[Chart]:
    """Return the descriptive charts that have data."""
    records = tuple(records)
    made = (
        _sharpness(findings, records, cells),
        _relation(findings, records, cells),
        _lines(measured, cells),
        _plane(planes, cells),
    )
    return [chart for chart in made if chart is not None]


def _sharpness(findings: Findings, records: Iterable[RunRecord], cells: Mapping[str, Cell]) -> Chart | None:
    data = sharpness.sharpness_of(records, findings.selections, cells)
    if not data:
        return None
    figure, narrow = sharpness.figure_of(data)
    without = sum(not theme.known(s.mean) for s in data)
    error = sharpness.trace_error(records)
    trace = f" The trace of one run is an estimate, to ±{_percents([error])} in the median." if error else ""
    left_out = f" {prose.things(without, 'row')} with a value that is not above 0 get no mean." if without else ""
    return Chart(
        id="sharpness",
        heading=_sharpness_heading(data),
        reading=(
            "Left is flatter, on a log axis. Rises are those of the training loss within a fixed distance of the "
            "weights, the same for every method: the largest found, and the mean over random directions."
        ),
        caption=(
            f"Geometric mean over {prose.seeds(len(s.values) for s in data)} confirm seeds, each a small tick, with "
            f"its 95 % Student-t interval on the log scale, cut at the axis.{left_out}{trace} Descriptive: flatter "
            "weights need not be better ones, and measures of sharpness can disagree."
        ),
        keys=(*(Key(m, m) for m in dict.fromkeys(s.method for s in data)), Key("one seed", "", "tick")),
        figure=figure,
        narrow=narrow,
        table=fitted(sharpness.table_of(data), len(cells), "records/"),
    )


def _sharpness_heading(data: Sequence[sharpness.Sharpness]) -> str:
    for measure, words in sharpness.MEASURES.items():
        found = sharpness.against_baseline(data, measure)
        if found:
            clauses = [f"{theme.ratio(times)} with {method}" for method, (times, _) in found.items()]
            name = words.removesuffix(", nats")
            return f"The {name} is, in the mean and against its baseline's, {prose.listed(clauses)}"
    return "Sharpness of the weights that the confirm runs end with"


def _relation(findings: Findings, records: Iterable[RunRecord], cells: Mapping[str, Cell]) -> Chart | None:
    data = relation.relations_of(findings, records, cells)
    if not data:
        return None
    score = score_of(findings)
    figure, narrow = relation.figure_of(data, score)
    adjusted = [(r.method, r.slope) for r in data if r.slope is not None]
    without = [r.method for r in data if r.slope is None]
    sure = [method for method, slope in adjusted if slope.ci95[0] > 0 or slope.ci95[1] < 0]
    told = [
        f"{method} {theme.gain(slope.slope)} [{theme.gain(slope.ci95[0])}, {theme.gain(slope.ci95[1])}]"
        for method, slope in adjusted
    ]
    sentence = (
        f" Gain in {score.points} per doubling of the eigenvalue: {prose.listed(told)}; HC3 with Student's t, 95 %, "
        "unadjusted for the number of slopes."
        if told
        else ""
    )
    if without:
        sentence += (
            f" No relation within a method is shown for {prose.listed(without)}: adjusting for the learning rate takes "
            f"at least {relation.MIN_CELLS} problems."
        )
    points = [point for one in data for point in one.points]
    problems = len({point.cell for point in points})
    return Chart(
        id="relation",
        heading=(
            f"Adjusted for the learning rate, the gain moves with the sharpness of the weights for "
            f"{len(sure)} of {prose.things(len(adjusted), 'method')}, by the 95 % interval"
            if adjusted
            else f"Gain against sharpness in {prose.things(problems, 'problem')}: too few to relate them"
        ),
        reading=(
            "One marker a problem. Left of the upright line the method's weights are flatter than the baseline's, "
            "above the level one it gains. A slope between markers is no cause: problems differ in more than sharpness."
        ),
        caption=(
            f"Sharpness from {prose.seeds(p.seeds[0] for p in points)} seeds, gain from the other "
            f"{prose.seeds(p.seeds[1] for p in points)}: disjoint halves, so that no run is on both axes.{sentence} "
            "Descriptive: no interval of a slope makes it a cause."
        ),
        keys=tuple(Key(one.method, one.method) for one in data),
        figure=figure,
        narrow=narrow,
        table=fitted(relation.table_of(data), len(cells), "records/"),
    )


def _lines(measured: Iterable[LineRecord], cells: Mapping[str, Cell]) -> Chart | None:
    ways = lines.ways_of(measured, cells)
    if not ways:
        return None
    drawn = lines.drawn_of(ways)
    figure, narrow = lines.figure_of(drawn)
    panels, shown = (len({(way.cell, way.start) for way in some}) for some in (ways, drawn))
    left_out = (
        f" The {shown} of {panels} panels with the highest barriers are drawn; all lines are in lines/."
        if shown < panels
        else ""
    )
    found = lines.barriers(ways)
    told = [f"{_span(heights)} nats from {start} to {end}" for (start, end), heights in found.items()]
    highest = [f"{theme.number(max(heights))} nats on the way to {end}" for (_, end), heights in found.items()]
    return Chart(
        id="lines",
        heading=f"The highest mean barrier in the training loss is {prose.listed(highest)}",
        reading=(
            "From the baseline's weights on the left to each method's on the right. A hump in a solid line is a "
            "barrier: the two lie in different valleys."
        ),
        caption=(
            f"Thick: mean over {prose.seeds(way.barrier.n for way in ways)} seeds; thin: every seed. Barrier, the "
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
        table=fitted(lines.table_of(ways), len(cells), "lines/"),
    )


def _span(heights: Sequence[float]) -> str:
    low, high = theme.number(min(heights)), theme.number(max(heights))
    return low if low == high else f"{low} to {high}"


def _plane(planes: Iterable[PlaneRecord], cells: Mapping[str, Cell]) -> Chart | None:
    data = plane.planes_of(planes, cells)
    if not data:
        return None
    figure, narrow = plane.figure_of(data[: plane.MOST_DRAWN])
    left_out = (
        f" The first {plane.MOST_DRAWN} of {len(data)} planes are drawn; all of them are in planes/."
        if len(data) > plane.MOST_DRAWN
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
            f"{prose.seeds([1])} seed a problem, the first, hence no interval; {len(data[0].x)} × {len(data[0].y)} "
            "points, BatchNorm statistics measured anew at each. Axes are distances in weight space, on one scale "
            f"unless one is more than twice as long.{projected}{left_out} Descriptive: a plane shows two of very many "
            "directions."
        ),
        keys=tuple(Key(method, method) for method in methods),
        figure=figure,
        narrow=narrow,
        table=fitted(plane.table_of(data), len(cells), "planes/"),
    )


def _percents(shares: Sequence[float]) -> str:
    low, high = (f"{100 * end:.0f}" for end in (min(shares), max(shares)))
    return f"{low}\u202f%" if low == high else f"{low} to {high}\u202f%"
