"""How forgiving is the search space? The share of the trials within δ of the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.contenders import keeps_last, method_of
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement
from dashboards.figures.kit.traces import Figure
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from study.findings import Findings

_PANEL = "trials within δ of the best"


@dataclass(frozen=True, slots=True)
class GoodShare:
    """One search: how many trials it had and which share of them lies within δ of its best, on validation."""

    cell: str
    method: str
    trials: int
    share: float


def shares_of(findings: Findings, cells: Mapping[str, Cell]) -> tuple[GoodShare, ...]:
    """Return the shares of all searches at equal epochs, by problem and method."""
    order, methods = list(cells), list(findings.methods)
    known = [
        c
        for c in findings.tuning_curves
        if c.cell in cells and c.epochs_factor == 1 and c.trials and theme.known(c.within_delta)
    ]
    return tuple(
        GoodShare(cells[c.cell].label, c.method, c.trials[-1], c.within_delta)
        for c in sorted(known, key=lambda c: (order.index(c.cell), methods.index(method_of(c.method))))
    )


def means_of(shares: Sequence[GoodShare]) -> dict[str, float]:
    """Return the mean share over problems, by method."""
    found: dict[str, list[float]] = {}
    for share in shares:
        found.setdefault(share.method, []).append(share.share)
    return {method: sum(values) / len(values) for method, values in found.items()}


def figure_of(shares: Sequence[GoodShare]) -> tuple[Figure, Arrangement]:
    """Draw one row a problem, a marker a method."""
    marks = [
        dots.Dot(
            panel=_PANEL,
            row=s.cell,
            method=s.method,
            mean=theme.hundredths(s.share),
            ci95=(float("nan"), float("nan")),
            values=(),
            hover=f"<b>{theme.plot_text(s.method)}</b> · {theme.plot_text(s.cell)}<br>"
            f"{theme.percent(s.share, 0)} of the trials, {s.trials} a search",
            filled=not keeps_last(s.method),
        )
        for s in shares
    ]
    return dots.figure_of(marks, {_PANEL: dots.Scale("% of trials", holds=0.0)})


def table_of(shares: Sequence[GoodShare], score: Score) -> Table:
    """Return one row a search."""
    return Table(
        "good-space",
        f"Share of the trials whose validation {score.name} lies within δ of the best one.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            numeric("Share", "share_within_delta"),
            numeric("Trials", "trials"),
        ),
        tuple(
            (
                Entry(s.cell),
                Entry(s.method, method=s.method),
                Entry(theme.percent(s.share), s.share),
                Entry(str(s.trials), s.trials),
            )
            for s in shares
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = shares_of(sources.findings, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data)
    clauses = [f"{100 * share:.0f}\u202f% with {method}" for method, share in means_of(data).items()]
    return Chart(
        id="good-space",
        heading=f"Within δ of the best lie, in the mean over problems, {prose.listed(clauses)} of the trials",
        reading=(
            "The further right, the less the settings matter: that share of the trials lies within "
            f"{prose.deltas(sources.findings)} of the best of its replicate's search on validation."
        ),
        caption=(
            f"{prose.numbers(share.trials for share in data)} trials a search, at equal epochs. No interval: the best "
            "is one of the same trials, so the share is never 0."
        ),
        keys=tuple(
            Key(role, role, "open" if keeps_last(role) else "filled") for role in dict.fromkeys(s.method for s in data)
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, sources.score), "findings.json"),
    )
