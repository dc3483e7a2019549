"""Does the confidence tell the truth? Accuracy against confidence on test, for the weights of every method."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.contenders import unit_of
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import Standing, records_by_method, standing_for
from dashboards.figures.kit.panels import Arrangement, Axes, anchor, anchors, axis, grid_of_cells, lay_out
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.tables.table import Column, Entry, Table, numeric
from study.plan.selection import Selection
from study.records import Reliability, RunRecord
from study.stats import estimate

LEAST_SHARE = 0.01  # of a method's predictions: emptier bins are left out of the drawing, not of the error


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of confidence over all runs: ``count`` predictions, their mean confidence and accuracy.

    ``ci95``: of the accuracy, Student-t over replicates (or seeds) of the ratio's linear part; NaN with one.
    """

    part: int
    count: int
    confidence: float
    accuracy: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Diagram:
    """One method's weights in one problem: the bins that hold a prediction."""

    cell: str
    method: str
    weights: str
    units: int
    bins: tuple[Bin, ...]

    @property
    def shown(self) -> tuple[Bin, ...]:
        """The bins with at least one in a hundred of the predictions."""
        total = sum(found.count for found in self.bins)
        return tuple(found for found in self.bins if found.count >= LEAST_SHARE * total)

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy over all predictions; above 0 the method promises too much."""
        total = sum(found.count for found in self.bins)
        return sum(found.count * (found.confidence - found.accuracy) for found in self.bins) / total


def diagrams_of(
    records: Iterable[RunRecord],
    selections: Iterable[Selection],
    cells: Mapping[str, Cell],
    *,
    one_tuning: bool = False,
) -> tuple[Diagram, ...]:
    """Return the diagrams of every method at equal epochs; an averaging method stands for its average.

    A replicate's predictions are one sample: the intervals are over replicates, or over the seeds of one tuning.
    """
    found = []
    for (chosen, *_), runs in records_by_method(records, selections, one_tuning=one_tuning):
        measured = [(one.unit, own) for one in runs if (own := _measured(one))]
        if measured and chosen.cell in cells:
            weights = standing_for(chosen.method)
            units = len({unit for unit, _ in measured})
            found.append(Diagram(cells[chosen.cell].label, chosen.method, weights, units, _bins(measured)))
    order = [cell.label for cell in cells.values()]
    return tuple(sorted(found, key=lambda diagram: order.index(diagram.cell)))


def _measured(one: Standing) -> Reliability | None:
    return next((r for r in one.run.reliability if r.weights == one.weights and any(r.counts)), None)


def _bins(measured: Sequence[tuple[int, Reliability]]) -> tuple[Bin, ...]:
    """Pool the predictions of all runs, bin by bin; ``measured`` gives each run's unit."""
    bins = []
    units = sorted({unit for unit, _ in measured})
    for part in range(len(measured[0][1].counts)):
        counts, right = ([0.0] * len(units) for _ in (0, 1))
        for unit, found in measured:
            counts[units.index(unit)] += found.counts[part]
            right[units.index(unit)] += found.counts[part] * found.accuracy[part]
        total = sum(counts)
        if not total:
            continue
        accuracy = sum(right) / total
        scale = len(units) / total
        linear = [accuracy + (hits - accuracy * count) * scale for hits, count in zip(right, counts, strict=True)]
        confidence = sum(found.counts[part] * found.confidence[part] for _, found in measured) / total
        bins.append(Bin(part, int(total), confidence, accuracy, estimate(linear).ci95))
    return tuple(bins)


def figure_of(diagrams: Sequence[Diagram]) -> tuple[Figure, Arrangement]:
    """Draw one panel a problem: a line a method, the diagonal is perfect calibration."""
    names = list(dict.fromkeys(diagram.cell for diagram in diagrams))
    traces: list[Trace] = []
    axes: Axes = {}
    shapes: list[dict[str, object]] = []
    for panel, name in enumerate(names):
        here = [diagram for diagram in diagrams if diagram.cell == name]
        low = min(found.confidence for diagram in here for found in diagram.shown)
        start = max(0.0, min(low, min(found.accuracy for diagram in here for found in diagram.shown)) - 0.05)
        traces += [_trace(diagram, panel) for diagram in here]
        shapes.append(
            {"type": "line", "xref": anchor("x", panel), "yref": anchor("y", panel), "layer": "below"}
            | {"x0": 0, "y0": 0, "x1": 100, "y1": 100, "line": {"color": theme.MUTED, "width": 1, "dash": "dot"}}
        )
        ends = [theme.hundredths(start), 102]
        axes[axis("x", panel)] = {"title": {"text": "confidence, %"}, "range": ends, "nticks": 6}
        axes[axis("y", panel)] = {"range": ends, "nticks": 6}
    titles = [theme.wrapped(name, 22) for name in names]
    return lay_out(traces, titles, grid_of_cells(len(titles)), axes, y_title="test accuracy, %", shapes=shapes)


def _trace(diagram: Diagram, panel: int) -> Trace:
    style, shown = theme.style_of(diagram.method), diagram.shown
    ends = [found.ci95 if theme.known(found.ci95[0]) else (found.accuracy, found.accuracy) for found in shown]
    return scatter(
        x=theme.rounded([theme.hundredths(found.confidence) for found in shown]),
        y=theme.rounded([theme.hundredths(found.accuracy) for found in shown]),
        error_y={
            "type": "data",
            "array": theme.rounded(
                [theme.hundredths(min(1.0, high) - f.accuracy) for f, (_, high) in zip(shown, ends, strict=True)]
            ),
            "arrayminus": theme.rounded(
                [theme.hundredths(f.accuracy - max(0.0, low)) for f, (low, _) in zip(shown, ends, strict=True)]
            ),
            "width": 0,
            "thickness": 1,
            "color": theme.faded(style.color, 0.5),
        },
        mode="lines+markers",
        line={"color": style.color, "width": 1.6, "dash": style.dash},
        marker={"symbol": style.symbol, "size": 7, "color": style.color},
        hoverinfo="text",
        hovertext=[
            f"<b>{theme.plot_text(diagram.method)}</b>, {theme.plot_text(diagram.weights)}<br>confidence "
            f"{theme.percent(f.confidence)}, accuracy {theme.percent(f.accuracy)}<br>95 % CI "
            f"{theme.percent(f.ci95[0])} to {theme.percent(f.ci95[1])}, {theme.count(f.count)} predictions"
            for f in shown
        ],
        **anchors(panel),
    )


def table_of(diagrams: Sequence[Diagram]) -> Table:
    """Return one row a bin."""
    return Table(
        "reliability",
        "Confidence and accuracy on test by bin of confidence, all runs together.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Weights", "weights"),
            numeric("Confidence", "confidence"),
            numeric("Accuracy", "accuracy"),
            numeric("95 % CI low", "ci95_low"),
            numeric("95 % CI high", "ci95_high"),
            numeric("Predictions", "predictions"),
        ),
        tuple(
            (
                Entry(diagram.cell),
                Entry(diagram.method),
                Entry(diagram.weights),
                Entry(theme.percent(found.confidence), found.confidence),
                Entry(theme.percent(found.accuracy), found.accuracy),
                *(Entry(theme.percent(end), end if theme.known(end) else None) for end in found.ci95),
                Entry(theme.count(found.count), found.count),
            )
            for diagram in diagrams
            for found in diagram.shown
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = diagrams_of(
        sources.records, sources.findings.selections, sources.cells, one_tuning=unit_of(sources.findings) == "seed"
    )
    if not data:
        return None
    figure, narrow = figure_of(data)
    methods = dict.fromkeys(diagram.method for diagram in data)
    clauses = []
    for method in methods:
        own = [diagram.overconfidence for diagram in data if diagram.method == method]
        clauses.append(f"{method} in {sum(value > 0 for value in own)} of {len(own)}")
    return Chart(
        id="reliability",
        heading=f"Problems where the mean confidence is above the accuracy: {prose.listed(clauses)}",
        reading=(
            "On the dotted diagonal the confidence tells the truth; below it, the predictions are right less often "
            "than they promise. An averaging method stands for its average, every other for its last weights."
        ),
        caption=(
            f"Test predictions of {prose.numbers(diagram.units for diagram in data)} {sources.units} in 15 equal bins "
            "of confidence, those with less than 1 % of a method's predictions left out; 95 % Student-t intervals over "
            f"{sources.units}. Descriptive."
        ),
        keys=tuple(Key(method, method, "both") for method in methods),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data), "records/"),
    )
