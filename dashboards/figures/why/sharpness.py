"""How sharp is the loss around the weights of each method? Probes of the confirm runs: they describe, no more."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.kit.confirmed import OfMethod, Standing, standing_for
from dashboards.figures.kit.traces import Figure, hover_of
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.records import RunRecord
from study.stats import estimate

MEASURES = {
    "top_eigenvalue": "largest Hessian eigenvalue",
    "trace": "Hessian trace",
    "worst_case_rise": "worst-case rise",
    "average_case_rise": "average-case rise",
}
_RISES = ("worst_case_rise", "average_case_rise")


@dataclass(frozen=True, slots=True)
class Sharpness:
    """One probe of one method's weights in one cell.

    ``values`` has one a replicate (or seed): ``mean`` is their geometric mean, ``ci95`` its Student-t interval on the
    log scale; both NaN where a value is not above 0, as leaving it out would make the rest look sharper.
    """

    cell: str
    method: str
    weights: str
    measure: str
    values: tuple[float, ...]
    mean: float
    ci95: tuple[float, float]


def sharpness_of(by_method: Iterable[OfMethod], cells: Mapping[str, LabelledCell]) -> tuple[Sharpness, ...]:
    """Collect the probes of every method at equal epochs; an averaging method stands for its average."""
    found = []
    for (chosen, *_), runs in by_method:
        if chosen.cell not in cells:
            continue
        for measure in MEASURES:
            by_unit: dict[int, list[float]] = {}
            for one in runs:
                value = probed(one, measure)
                if value is not None:
                    by_unit.setdefault(one.unit, []).append(value)
            if by_unit:
                values = tuple(map(statistics.fmean, by_unit.values()))
                weights = standing_for(chosen.method)
                found.append(_summarized(cells[chosen.cell].label, chosen.method, weights, measure, values))
    return tuple(found)


def probed(one: Standing, measure: str) -> float | None:
    """Return a probe's value, None where it was not measured."""
    wanted = one.weights, measure
    values = (p.value for p in one.run.probes if (p.weights, p.name) == wanted and theme.known(p.value))
    return next(values, None)


def trace_error(records: Iterable[RunRecord]) -> float | None:
    """Return the median half-width of the 95 % intervals that the traces come with, over their values."""
    halves = [
        (p.high - p.low) / (2 * p.value)
        for record in records
        for p in record.probes
        if p.name == "trace" and p.low is not None and p.high is not None and p.value > 0
    ]
    return statistics.median(halves) if halves else None


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
        base = means.get((cell, theme.methods()[method].baseline))
        if base is not None and not theme.methods().is_baseline(method):
            ratios.setdefault(method, []).append(math.log(mean / base))
    return {method: (math.exp(sum(logs) / len(logs)), len(logs)) for method, logs in ratios.items()}


def figure_of(data: Sequence[Sharpness], score: Score) -> Figure:
    """Draw one panel a measure on a log axis, one row a cell, the methods of a cell below each other."""
    panels = {measure: _words_of(measure, score) for measure in MEASURES}
    marks = [dots.Dot(panels[s.measure], s.cell, s.method, s.mean, s.ci95, s.values, _hover(s, score)) for s in data]
    several = len({s.measure for s in data})
    scales = {words: dots.Scale(log=True) for words in panels.values()}
    return dots.figure_of(marks, scales, columns=2 if several in (2, 4) else 3)


def _words_of(measure: str, score: Score) -> str:
    return score.loss_head(MEASURES[measure]) if measure in _RISES else MEASURES[measure]


def _hover(s: Sharpness, score: Score) -> str:
    found = theme.within(s.mean, s.ci95, theme.number)
    return hover_of(s.method, s.cell, f"{_words_of(s.measure, score)}: {found}, n = {len(s.values)}")


def table_of(data: Sequence[Sharpness], score: Score) -> Table:
    """Return the probes as a table: one row a cell, method and measure."""
    loss = score.loss_csv_unit
    return columns.table_of(
        "sharpness",
        "Sharpness of the weights of each method at the end of the confirm runs; geometric means.",
        (
            columns.words("Problem", "problem", [s.cell for s in data]),
            columns.methods("Method", "method", [s.method for s in data]),
            columns.words("Weights", "weights", [s.weights for s in data]),
            columns.words("Measure", "measure", [_words_of(s.measure, score) for s in data], [s.measure for s in data]),
            *columns.estimates("Mean", "mean", [(s.mean, s.ci95) for s in data], theme.number),
            columns.counts("n", "n", [len(s.values) for s in data]),
            columns.hidden("unit", [loss if s.measure in _RISES else f"{loss} / distance²" for s in data]),
        ),
    )


def heading_of(data: Sequence[Sharpness]) -> str:
    """State how sharp the weights are against the baseline's, by the first measure that can tell."""
    for measure, words in MEASURES.items():
        found = against_baseline(data, measure)
        if found:
            clauses = [f"{theme.ratio(times)} with {method}" for method, (times, _) in found.items()]
            return f"The {words} is, in the mean and against its baseline's, {prose.listed(clauses)}"
    return "Sharpness of the weights that the confirm runs end with"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = sharpness_of(sources.by_method, sources.cells)
    if not data:
        return None
    without = sum(not theme.known(s.mean) for s in data)
    error = trace_error(sources.records)
    trace = f" The trace of one run is an estimate, to ±{100 * error:.0f}\u202f% in the median (95 %)." if error else ""
    left_out = f" {prose.things(without, 'row')} with a value that is not above 0 get no mean." if without else ""
    return Chart(
        id="sharpness",
        heading=heading_of(data),
        reading=(
            "Left is flatter, on a log axis. Rises are those of the training loss within a fixed distance of the "
            "weights, the same for every method: the largest found, and the mean over random directions."
        ),
        caption=(
            f"Geometric mean over {prose.numbers(len(s.values) for s in data)} {sources.units}, each a small tick, "
            "with its 95 % Student-t interval on the log scale, cut at the axis; an averaging method stands for its "
            f"average, every other for its last weights.{left_out}{trace} Descriptive: flatter "
            "weights need not be better ones, and measures of sharpness can disagree."
        ),
        keys=sources.keys_of(s.method for s in data),
        figure=figure_of(data, sources.score),
        table=sources.fitted(table_of(data, sources.score), "records/"),
    )
