"""How far is the confidence off, and how good are the probabilities? Calibration error and loss on test."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.kit.confirmed import Confirmed, for_methods, standing_for
from dashboards.figures.kit.traces import Figure, hover_of
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.stats.typical import MEAN, MEDIAN, Typical, Way

_ERROR, _LOSS = "expected calibration error", "negative log-likelihood"


@dataclass(frozen=True, slots=True)
class Calibration:
    """One method's weights in one problem: a value a replicate (or seed).

    ``errors`` are fractions (ECE, 15 equal bins), ``losses`` nats.
    """

    cell: str
    method: str
    weights: str
    errors: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def error(self) -> Typical:
        """The calibration error in the mean: it is a share."""
        return MEAN.of(self.errors)

    @property
    def loss(self) -> Typical:
        """The loss in the median: it has no bound."""
        return MEDIAN.of(self.losses)


def calibrations_of(runs: Iterable[Confirmed], cells: Mapping[str, LabelledCell]) -> tuple[Calibration, ...]:
    """Return what every method measured at equal epochs, where the task is a classification."""
    found = []
    for one in for_methods(runs):
        ends = [
            end for end in one.standing if not math.isnan(end.test_calibration_error) and not math.isnan(end.test_loss)
        ]
        if ends:
            errors = one.by_unit(ends, lambda end: end.test_calibration_error)
            losses = one.by_unit(ends, lambda end: end.test_loss)
            found.append(Calibration(cells[one.cell].label, one.method, standing_for(one.method), errors, losses))
    order = [cell.label for cell in cells.values()]
    return tuple(sorted(found, key=lambda one: order.index(one.cell)))


def lower_than(data: Sequence[Calibration], baseline: str) -> dict[str, tuple[int, int]]:
    """Return, by method, in how many problems its mean calibration error is below the baseline's, and of how many."""
    base = {one.cell: one.error.middle for one in data if one.method == baseline}
    tally: dict[str, tuple[int, int]] = {}
    for one in data:
        if one.method != baseline and one.cell in base:
            lower, total = tally.get(one.method, (0, 0))
            tally[one.method] = (lower + (one.error.middle < base[one.cell]), total + 1)
    return tally


def figure_of(data: Sequence[Calibration]) -> Figure:
    """Draw two panels, error and loss: one row a problem, a marker a method, every replicate (or seed) a tick."""
    marks = []
    for one in data:
        errors, losses = tuple(map(theme.hundredths, one.errors)), one.losses
        marks += [_dot(one, _ERROR, errors, "points", MEAN), _dot(one, _LOSS, losses, "nats", MEDIAN)]
    scales = {
        _ERROR: dots.Scale("percentage points, lower is better", holds=0.0),
        _LOSS: dots.Scale("nats, lower is better", holds=0.0),
    }
    return dots.figure_of(marks, scales)


def _dot(one: Calibration, panel: str, values: tuple[float, ...], unit: str, way: Way) -> dots.Dot:
    found = way.of(values)
    said = f"{way.middle} {theme.within(found.middle, found.ends, theme.plain)} {unit}, n = {found.n}"
    hover = hover_of(one.method, one.cell, said)
    return dots.Dot(panel, one.cell, one.method, found.middle, found.ends, values, hover)


def _percent(value: float) -> str:
    """Write a calibration error, which is a fraction whatever the study's scores are."""
    return f"{theme.hundredths(value):.2f}" if theme.known(value) else "–"


def table_of(data: Sequence[Calibration]) -> Table:
    """Return one row a problem and method."""
    errors, losses = [one.error for one in data], [one.loss for one in data]
    return columns.table_of(
        "calibration-error",
        "Expected calibration error and negative log-likelihood on test, over the confirm runs. Of both, lower "
        "is better.",
        (
            columns.words("Problem", "problem", [one.cell for one in data]),
            columns.methods("Method", "method", [one.method for one in data]),
            columns.words("Weights", "weights", [one.weights for one in data]),
            *columns.typical(
                "Mean calibration error, points",
                "calibration_error",
                errors,
                MEAN,
                _percent,
                "calibration_error_ci95",
            ),
            columns.hidden("calibration_error_unit", ["fraction"] * len(data)),
            *columns.typical("Median NLL, nats", "nll", losses, MEDIAN, theme.number, "nll_quartile"),
            columns.hidden("nll_unit", ["nats"] * len(data)),
            columns.counts("n", "n", [one.n for one in errors]),
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    baseline = sources.findings.baseline
    data = calibrations_of(sources.confirmed, sources.cells)
    if not data:
        return None
    clauses = [f"{lower} of {total} with {method}" for method, (lower, total) in lower_than(data, baseline).items()]
    return Chart(
        id="calibration-error",
        heading=(
            f"Problems where the mean calibration error is below that of {baseline}: {prose.listed(clauses)}"
            if clauses
            else "Calibration error and loss on test"
        ),
        reading=(
            "Left is better in both panels. Calibration error: the mean gap between confidence and accuracy; negative "
            "log-likelihood: the test loss, which wrong and confident predictions drive up."
        ),
        caption=(
            f"Over {prose.numbers(len(one.errors) for one in data)} {sources.units}, each a small tick (the mean of "
            "its completed confirm runs): of the error, in 15 equal bins, the mean with its 95 % Student-t interval; "
            "of the loss, which has no bound, the median with its quartiles. An averaging method stands for its "
            "average, every other for its last weights. Descriptive: paired differences are in the table of losses."
        ),
        keys=sources.keys_of(one.method for one in data),
        figure=figure_of(data),
        table=sources.fitted(table_of(data), "runs.parquet"),
    )
