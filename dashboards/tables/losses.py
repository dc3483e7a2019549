"""Gains in test loss and calibration beside gains in the score: a description, no verdict is drawn from it."""

from collections.abc import Mapping

from dashboards import theme
from dashboards.cells import Cell
from dashboards.comparisons import distinct
from dashboards.contenders import short_budgets
from dashboards.score import score_of
from dashboards.tables.table import Column, Entry, Table, hidden, number_entry, numeric
from study.findings import Findings
from study.stats import Effect


def loss_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return one row a comparison: the gains in test loss (nats), in calibration error and in the score.

    A lower loss or error is a gain. The error has a column where the study has a classification.
    """
    scores = {(effect.cell, effect.method, effect.budget): effect for effect in findings.effects}
    calibration = {(e.cell, e.method, e.budget): e for e in _of_metric(findings, "test_calibration_error") if e.n}
    known = distinct([effect for effect in _of_metric(findings, "test_loss") if effect.n], findings.primary_budget)
    score = score_of(findings)
    order, methods = list(cells), list(findings.methods)
    found = sorted(known, key=lambda f: (order.index(f.effect.cell), methods.index(f.effect.method)))
    rows = []
    for one in found:
        loss = one.effect
        twin = scores.get((loss.cell, loss.method, loss.budget))
        rows.append(
            (
                Entry(cells[loss.cell].label),
                Entry(loss.method, method=loss.method),
                Entry(short_budgets(findings, one.budgets), "+".join(one.budgets)),
                Entry(_nats(loss.mean, loss.ci95), loss.mean),
                *map(number_entry, loss.ci95),
                *([_percentage_points(calibration.get((loss.cell, loss.method, loss.budget)))] if calibration else []),
                _points(twin),
                Entry(str(loss.n), loss.n),
            )
        )
    return Table(
        "losses",
        f"Gains in test loss and in calibration beside those in {score.name}, each over its own strongest baseline.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Budget", "budget"),
            numeric("Loss gain, nats [95 % CI]", "loss_gain"),
            *hidden("loss_ci95_low", "loss_ci95_high"),
            *([numeric("Calibration gain, percentage points [95 % CI]", "calibration_gain")] if calibration else []),
            numeric(f"{score.title} gain, {theme.unit()} [95 % CI]", "score_gain"),
            numeric("n", "n"),
        ),
        tuple(rows),
        tuple(i for i, one in enumerate(found) if i == 0 or found[i - 1].effect.cell != one.effect.cell),
    )


def loss_heading(findings: Findings) -> str:
    """State in how many comparisons score and loss move in opposite directions, by their means."""
    scores = {(effect.cell, effect.method, effect.budget): effect.mean for effect in findings.effects}
    pairs = [
        (effect.mean, scores[effect.cell, effect.method, effect.budget])
        for effect in (one.effect for one in distinct(_of_metric(findings, "test_loss"), findings.primary_budget))
        if effect.n and (effect.cell, effect.method, effect.budget) in scores
    ]
    apart = sum(loss * gain < 0 for loss, gain in pairs)
    name = score_of(findings).name
    return f"Test loss: mean gains point the other way than those in {name} in {apart} of {len(pairs)} comparisons"


def _of_metric(findings: Findings, metric: str) -> list[Effect]:
    return [effect for effect in findings.descriptive if effect.metric == metric]


def _points(effect: Effect | None) -> Entry:
    return Entry(theme.gain_within(effect.mean, effect.ci95), effect.mean) if effect else Entry("–")


def _percentage_points(effect: Effect | None) -> Entry:
    """Write a gain in calibration, which is a fraction whatever the study's scores are."""
    with theme.writing(theme.Writing()):
        return _points(effect)


def _nats(mean: float, ends: tuple[float, float]) -> str:
    low, high = ends
    if not theme.known(low):
        return _signed(mean)
    return f"{_signed(mean)} [{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "−")
    return text if float(f"{value:.3f}") else "0.000"
