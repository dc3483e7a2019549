"""Which hyper-parameter decides? The share of each in how the trials of a method rank."""

from collections.abc import Sequence

from dashboards import prose, theme
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement
from dashboards.figures.kit.traces import Figure
from dashboards.tables.table import MOST_RUN_ROWS, Column, Entry, Table, numeric
from study.findings import Findings
from study.stats import Importance

_ORDER = ("learning_rate", "rho", "average_start", "weight_decay")
_PANEL = "share in the ranking"


def importances_of(findings: Findings) -> tuple[Importance, ...]:
    """Return the importances whose surface predicts settings that it has not seen: only those can be read."""
    return tuple(i for i in findings.importances if i.shares and all(theme.known(share) for _, share in i.shares))


def unknown_methods(findings: Findings) -> list[str]:
    """Return the methods whose importance can't be said."""
    known = {importance.method for importance in importances_of(findings)}
    return [importance.method for importance in findings.importances if importance.method not in known]


def deciding(importances: Sequence[Importance]) -> dict[str, tuple[str, float]]:
    """Return, by method, the hyper-parameter with the largest share; those with nothing else to decide are left out."""
    return {i.method: max(i.shares, key=lambda pair: pair[1]) for i in importances if len(i.shares) > 1}


def figure_of(importances: Sequence[Importance]) -> tuple[Figure, Arrangement]:
    """Draw one row a hyper-parameter, a marker a method."""
    shown = dict.fromkeys(name for importance in importances for name, _ in importance.shares)
    names = sorted(shown, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    marks = [
        dots.Dot(
            panel=_PANEL,
            row=words_of(name),
            method=i.method,
            mean=share,
            ci95=(float("nan"), float("nan")),
            values=(),
            hover=f"<b>{theme.plot_text(i.method)}</b>: {words_of(name)}<br>share {share:.2f}, "
            f"R² on unseen settings {i.r2:.2f}",
        )
        for row in names
        for i in importances
        for name, share in i.shares
        if name == row
    ]
    return dots.figure_of(marks, {_PANEL: dots.Scale("share, 0 to 1", holds=0.0)})


def words_of(name: str) -> str:
    """Say a hyper-parameter."""
    return theme.plot_text(name.replace("_", " "))


def table_of(importances: Sequence[Importance]) -> Table:
    """Return one row a method and hyper-parameter."""
    return Table(
        "importance",
        "Share of every hyper-parameter in how the trials of a method rank on validation.",
        (
            Column("Method", "method"),
            Column("Hyper-parameter", "parameter"),
            numeric("Share", "share"),
            numeric("R² on unseen settings", "r2"),
            numeric("Settings", "settings"),
            numeric("Problems", "cells"),
        ),
        tuple(
            (
                Entry(i.method, method=i.method),
                Entry(words_of(name), name),
                Entry(f"{share:.2f}", share),
                Entry(f"{i.r2:.2f}", i.r2),
                Entry(str(i.settings), i.settings),
                Entry(str(i.cells), i.cells),
            )
            for i in importances
            for name, share in i.shares
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = importances_of(sources.findings)
    if not data:
        return None
    figure, narrow = figure_of(data)
    clauses = [f"{words_of(name)} for {method} ({share:.2f})" for method, (name, share) in deciding(data).items()]
    predicted = prose.span([i.r2 for i in data], "{:.2f}".format)
    unknown = unknown_methods(sources.findings)
    left_out = f" Nothing can be said for {prose.listed(unknown)}." if unknown else ""
    return Chart(
        id="importance",
        heading=(
            f"How trials rank is decided most by {prose.listed(clauses)}"
            if clauses
            else "Each method has one hyper-parameter alone, which decides all that settings decide"
        ),
        reading=(
            "A marker is the share of one hyper-parameter in how the trials of a method rank on validation; the shares "
            "of a method sum to 1."
        ),
        caption=(
            f"Evaluator: {data[0].evaluator}; other evaluators ask other questions. "
            f"{prose.numbers(i.settings for i in data)} settings over "
            f"{prose.things(max(i.cells for i in data), 'problem')} and all replicates; no interval. Shown only where "
            f"the surface predicts settings that it has not seen (R² {predicted}).{left_out}"
        ),
        keys=tuple(Key(i.method, i.method) for i in data),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data), "runs.parquet", MOST_RUN_ROWS),
    )
