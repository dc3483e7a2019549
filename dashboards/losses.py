"""Gains in test loss beside gains in accuracy: a description, no verdict is drawn from it."""

from collections.abc import Mapping

from dashboards import theme
from dashboards.cells import Cell
from dashboards.effects import distinct
from dashboards.tables import Column, Entry, Table, numeric
from study.findings import Findings
from study.stats import Effect


def loss_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return one row a comparison: the gain in test loss in nats (lower loss is a gain), and that in accuracy."""
    accuracy = {(effect.cell, effect.method, effect.budget): effect for effect in findings.effects}
    known = distinct([effect for effect in _losses(findings) if effect.n], findings.primary_budget)
    order, methods = list(cells), list(findings.methods)
    found = sorted(known, key=lambda f: (order.index(f.effect.cell), methods.index(f.effect.method)))
    rows = []
    for one in found:
        loss = one.effect
        twin = accuracy.get((loss.cell, loss.method, loss.budget))
        rows.append(
            (
                Entry(cells[loss.cell].label),
                Entry(loss.method, method=loss.method),
                Entry("either" if len(one.budgets) > 1 else one.budget_words, "+".join(one.budgets)),
                Entry(_nats(loss.mean, loss.ci95), loss.mean),
                Entry(theme.gain_within(twin.mean, twin.ci95), twin.mean) if twin else Entry("–"),
                Entry(str(loss.n), loss.n),
            )
        )
    return Table(
        "losses",
        "Gains in test loss (negative log-likelihood) beside those in accuracy.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("At equal …", "budget"),
            numeric("Loss gain, nats [95 % CI]", "loss_gain"),
            numeric("Accuracy gain, points [95 % CI]", "accuracy_gain"),
            numeric("n", "n"),
        ),
        tuple(rows),
        tuple(i for i, one in enumerate(found) if i == 0 or found[i - 1].effect.cell != one.effect.cell),
    )


def loss_heading(findings: Findings) -> str:
    """State in how many comparisons accuracy and loss move in opposite directions, by their means."""
    accuracy = {(effect.cell, effect.method, effect.budget): effect.mean for effect in findings.effects}
    pairs = [
        (effect.mean, accuracy[effect.cell, effect.method, effect.budget])
        for effect in (one.effect for one in distinct(_losses(findings), findings.primary_budget))
        if effect.n and (effect.cell, effect.method, effect.budget) in accuracy
    ]
    apart = sum(loss * gain < 0 for loss, gain in pairs)
    return f"Test loss: mean gains point the other way than those in accuracy in {apart} of {len(pairs)} comparisons"


def _losses(findings: Findings) -> list[Effect]:
    return [effect for effect in findings.descriptive if effect.metric == "test_loss"]


def _nats(mean: float, ends: tuple[float, float]) -> str:
    low, high = ends
    if not theme.known(low):
        return _signed(mean)
    return f"{_signed(mean)} [{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "−")
    return text if float(f"{value:.3f}") else "0.000"
