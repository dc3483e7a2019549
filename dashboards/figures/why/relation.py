"""Do flatter weights go with larger gains? One point a problem; a description that says nothing about causes.

The gain comes from every second replicate (or seed of one tuning) and the sharpness from those between them: a
baseline that happened to do badly in one would otherwise move both axes at once.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import OfMethod
from dashboards.figures.kit.dots import NOWHERE, log_axis
from dashboards.figures.kit.panels import FAR, Grid, Panel, inliers, lay_out, marker
from dashboards.figures.kit.traces import Figure, Trace, hover_of, level, line, scatter, upright
from dashboards.figures.why.sharpness import probed
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.findings import Findings
from study.stats import Slope, robust_slopes
from study.stats.typical import Way

MEASURE = "top_eigenvalue"
MIN_CELLS = 6  # an intercept, two slopes, and three degrees of freedom


@dataclass(frozen=True, slots=True)
class Point:
    """One method in one problem.

    Attributes:
        ratio: Geometric mean of its top eigenvalue over that of its baseline, over the units that the gain leaves out.
        gain: Gain over the other units, put together as scores are.
        rate: Learning rate of the method over that of its baseline, geometric means over replicates.
        units: Units (replicates, or seeds of one tuning) behind the sharpness and behind the gain.
    """

    cell: str
    method: str
    ratio: float
    gain: float
    rate: float
    units: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Relation:
    """One method: its points, and the slope of the gain on the log2 of the ratio, adjusted for the log of the rates.

    ``slope`` is None where the problems are fewer than six: with fewer, nothing is left to judge it by.
    """

    method: str
    points: tuple[Point, ...]
    slope: Slope | None


def relations_of(
    findings: Findings, by_method: Iterable[OfMethod], cells: Mapping[str, LabelledCell], way: Way
) -> tuple[Relation, ...]:
    """Return the methods whose sharpness and gain are both known in some problem, at equal epochs where possible."""
    probes: dict[tuple[str, str], dict[int, float]] = {}
    rates: dict[tuple[str, str], float] = {}
    for chosen, runs in by_method:
        values: dict[int, list[float]] = {}
        for one in runs:
            value = probed(one, MEASURE)
            if value is not None and value > 0:
                values.setdefault(one.unit, []).append(math.log(value))
        key = chosen[0].cell, chosen[0].method
        probes[key] = {unit: statistics.fmean(logs) for unit, logs in values.items()}
        rates[key] = math.exp(statistics.fmean(math.log(one.learning_rate) for one in chosen))
    budgets = {effect.budget for effect in findings.effects}
    budget = "E" if "E" in budgets else findings.primary_budget  # the weights whose sharpness was measured
    found: dict[str, list[Point]] = {}
    for effect in findings.effects:
        own, base = (effect.cell, effect.method), (effect.cell, findings.table[effect.method].baseline)
        if effect.budget != budget or effect.cell not in cells or not {own, base} <= probes.keys():
            continue
        sharp = [unit for unit in effect.units[::2] if unit in probes[own] and unit in probes[base]]
        gains = effect.differences[1::2]
        if sharp and gains:
            log = statistics.fmean(probes[own][unit] - probes[base][unit] for unit in sharp)
            point = Point(
                cells[effect.cell].label, effect.method, math.exp(log), way.of(gains).middle,
                rates[own] / rates[base], (len(sharp), len(gains)),
            )  # fmt: skip
            found.setdefault(effect.method, []).append(point)
    return tuple(Relation(m, tuple(found[m]), adjusted_slope(found[m])) for m in findings.methods if m in found)


def adjusted_slope(points: Sequence[Point]) -> Slope | None:
    """Return the slope of the gain per doubling of the ratio, adjusted for the learning rates; None with few points."""
    if len(points) < MIN_CELLS:
        return None
    predictors = [[math.log2(p.ratio) for p in points]]
    rates = [math.log10(p.rate) for p in points]
    if max(rates) - min(rates) > 1e-9:
        predictors.append(rates)
    slope = robust_slopes([p.gain for p in points], predictors)[0]
    return slope if theme.known(slope.slope) else None


def figure_of(relations: Sequence[Relation], score: Score) -> Figure:
    """Draw one panel a method: sharpness over the baseline's across, gain up; axes shared."""
    points = [point for relation in relations for point in relation.points]
    ratios = [p.ratio for p in points] + [1.0]
    low, high = inliers([p.gain for p in points] + [0.0], holds=[0.0], times=FAR)
    room = 0.1 * theme.least(high - low, 0.01)
    x = log_axis(min(ratios) / 1.3, max(ratios) * 1.3, "{}×") | {"title": {"text": "sharpness, × base"}}
    y = {"range": [theme.in_points(low - room), theme.in_points(high + room)]}
    dotted = line(theme.MUTED, 1, "dot")
    guides = [upright(1, dotted), level(0, dotted)]
    panels = [Panel(theme.plot_text(one.method), [_trace(one, (low, high))], x, y, guides) for one in relations]
    grid = Grid(
        columns=3, narrow_columns=2, row=200, narrow_row=165, left=58, narrow_left=50, gap=104, x_gap=0.06,
        y_labels="first", at_least=2, top=30,
    )  # fmt: skip
    return lay_out(panels, grid, y_title=f"gain, {score.percentage_points}")


def _trace(relation: Relation, span: tuple[float, float]) -> Trace:
    low, high = span
    return scatter(
        [point.ratio for point in relation.points],
        [theme.in_points(min(max(point.gain, low), high)) for point in relation.points],
        "markers",
        [
            hover_of(
                point.method,
                point.cell,
                f"{theme.ratio(point.ratio)} the baseline's eigenvalue (n = {point.units[0]})",
                f"{theme.gain(point.gain)} {theme.unit()} (n = {point.units[1]} others)",
            )
            for point in relation.points
        ],
        marker=marker(theme.style_of(relation.method), 9, filled=True) | _arrows(relation, span),
    )


def _arrows(relation: Relation, span: tuple[float, float]) -> dict[str, object]:
    """Return markers that point to where gains lie beyond the panel, if any do."""
    gains = [point.gain for point in relation.points]
    if span[0] <= min(gains) and max(gains) <= span[1]:
        return {}
    own = theme.style_of(relation.method).symbol
    return {"symbol": ["triangle-down" if g < span[0] else "triangle-up" if g > span[1] else own for g in gains]}


def table_of(relations: Sequence[Relation], score: Score) -> Table:
    """Return one row a point, with its method's adjusted slope where there is one."""
    points = [point for relation in relations for point in relation.points]
    slopes = [relation.slope for relation in relations for _ in relation.points]
    return columns.table_of(
        "relation",
        "Gain in every second replicate (or seed), and sharpness over the baseline's in those between them.",
        (
            columns.methods("Method", "method", [p.method for p in points]),
            columns.words("Problem", "problem", [p.cell for p in points]),
            columns.numbers("Eigenvalue, × baseline's", "eigenvalue_ratio", [p.ratio for p in points], theme.ratio),
            columns.numbers(f"Gain, {theme.unit()}", "gain", [p.gain for p in points], theme.gain),
            columns.numbers(
                "Learning rate, × baseline's", "learning_rate_ratio", [p.rate for p in points], theme.ratio
            ),
            columns.counts("n, sharpness", "n_sharpness", [p.units[0] for p in points]),
            columns.counts("n, gain", "n_gain", [p.units[1] for p in points]),
            columns.hidden("slope_per_doubling", [slope.slope if slope else None for slope in slopes]),
            *columns.hidden_ends("slope_ci95", [slope.ci95 if slope else NOWHERE for slope in slopes]),
            columns.units([score] * len(points)),
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    score = sources.score
    data = relations_of(sources.findings, sources.by_method, sources.cells, score.way)
    if not data:
        return None
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
            f"at least {MIN_CELLS} problems."
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
            f"Sharpness from {prose.numbers(p.units[0] for p in points)} {sources.units}, {score.way.middle} gain "
            f"over the strongest baseline from the other {prose.numbers(p.units[1] for p in points)}: disjoint halves, "
            "so that no run is on both axes. An averaging method stands for its average, every other for its last "
            f"weights.{sentence} Descriptive: no interval of a slope makes it a cause."
        ),
        keys=tuple(Key(one.method, one.method) for one in data),
        figure=figure_of(data, score),
        table=sources.fitted(table_of(data, score), "records/"),
    )
