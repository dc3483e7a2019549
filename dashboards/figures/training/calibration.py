"""How far is the confidence off, and how good are the probabilities? Calibration error and loss on test."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import Confirmed, for_methods, standing_for
from dashboards.figures.kit.panels import Arrangement
from dashboards.figures.kit.traces import Figure
from dashboards.tables.table import Column, Entry, Table, numeric
from study.stats import Estimate, estimate

_ERROR, _LOSS = "expected calibration error", "negative log-likelihood"


@dataclass(frozen=True, slots=True)
class Calibration:
    """One method's weights in one problem: a value a replicate (or seed), mean and 95 % Student-t interval.

    ``errors`` are fractions (ECE, 15 equal bins), ``losses`` nats.
    """

    cell: str
    method: str
    weights: str
    errors: tuple[float, ...]
    losses: tuple[float, ...]
    error: Estimate
    loss: Estimate


def calibrations_of(runs: Iterable[Confirmed], cells: Mapping[str, Cell]) -> tuple[Calibration, ...]:
    """Return what every method measured at equal epochs, where the task is a classification."""
    found = []
    for one in for_methods(runs):
        ends = [
            end for end in one.standing if not math.isnan(end.test_calibration_error) and not math.isnan(end.test_loss)
        ]
        if not ends:
            continue
        errors = one.by_unit(ends, lambda end: end.test_calibration_error)
        losses = one.by_unit(ends, lambda end: end.test_loss)
        found.append(
            Calibration(
                cells[one.cell].label, one.method, standing_for(one.method), errors, losses, estimate(errors),
                estimate(losses),
            )
        )  # fmt: skip
    order = [cell.label for cell in cells.values()]
    return tuple(sorted(found, key=lambda one: order.index(one.cell)))


def lower_than(data: Sequence[Calibration], baseline: str) -> dict[str, tuple[int, int]]:
    """Return, by method, in how many problems its mean calibration error is below the baseline's, and of how many."""
    base = {one.cell: one.error.mean for one in data if one.method == baseline}
    tally: dict[str, tuple[int, int]] = {}
    for one in data:
        if one.method != baseline and one.cell in base:
            lower, total = tally.get(one.method, (0, 0))
            tally[one.method] = (lower + (one.error.mean < base[one.cell]), total + 1)
    return tally


def figure_of(data: Sequence[Calibration]) -> tuple[Figure, Arrangement]:
    """Draw two panels, calibration error and loss: one row a problem, a marker a method, every replicate (or seed) a "
    "tick."""
    errors = [
        dots.Dot(
            panel=_ERROR,
            row=one.cell,
            method=one.method,
            mean=theme.hundredths(one.error.mean),
            ci95=(theme.hundredths(one.error.ci95[0]), theme.hundredths(one.error.ci95[1])),
            values=tuple(theme.hundredths(value) for value in one.errors),
            hover=f"{_who(one)}<br>{_percent(one.error.mean)} points [{_percent(one.error.ci95[0])}, "
            f"{_percent(one.error.ci95[1])}], n = {one.error.n}",
        )
        for one in data
    ]
    losses = [
        dots.Dot(
            panel=_LOSS,
            row=one.cell,
            method=one.method,
            mean=one.loss.mean,
            ci95=one.loss.ci95,
            values=one.losses,
            hover=f"{_who(one)}<br>{theme.number(one.loss.mean)} nats [{theme.number(one.loss.ci95[0])}, "
            f"{theme.number(one.loss.ci95[1])}], n = {one.loss.n}",
        )
        for one in data
    ]
    scales = {_ERROR: dots.Scale("percentage points", holds=0.0), _LOSS: dots.Scale("nats", holds=0.0)}
    return dots.figure_of([*errors, *losses], scales)


def _percent(value: float) -> str:
    """Write a calibration error, which is a fraction whatever the study's scores are."""
    return f"{theme.hundredths(value):.2f}" if theme.known(value) else "–"


def _who(one: Calibration) -> str:
    return f"<b>{theme.plot_text(one.method)}</b> · {theme.plot_text(one.cell)}"


def table_of(data: Sequence[Calibration]) -> Table:
    """Return one row a problem and method."""
    return Table(
        "calibration-error",
        "Expected calibration error and negative log-likelihood on test; means over the confirm runs.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Weights", "weights"),
            numeric("Calibration error, points", "calibration_error"),
            numeric("95 % CI low", "calibration_error_ci95_low"),
            numeric("95 % CI high", "calibration_error_ci95_high"),
            numeric("NLL, nats", "nll"),
            numeric("95 % CI low", "nll_ci95_low"),
            numeric("95 % CI high", "nll_ci95_high"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(one.cell),
                Entry(one.method, method=one.method),
                Entry(one.weights),
                *(Entry(_percent(v), v if theme.known(v) else None) for v in (one.error.mean, *one.error.ci95)),
                *(Entry(theme.number(v), v if theme.known(v) else None) for v in (one.loss.mean, *one.loss.ci95)),
                Entry(str(one.error.n), one.error.n),
            )
            for one in data
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    baseline = sources.findings.baseline
    data = calibrations_of(sources.confirmed, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data)
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
            f"Means over {prose.numbers(one.error.n for one in data)} {sources.units}, each a small tick (the mean of "
            "its completed confirm runs), with their 95 % Student-t intervals; 15 equal bins. An averaging method "
            "stands for its average, every other for its last weights. Descriptive: paired differences are in the "
            "table of losses."
        ),
        keys=(
            *(Key(method, method) for method in dict.fromkeys(one.method for one in data)),
            Key(f"one of the {sources.units}", "", "tick"),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data), "runs.parquet"),
    )
