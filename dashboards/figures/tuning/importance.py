"""Which hyper-parameter decides? The share of each in how the trials of a method rank."""

from collections.abc import Sequence

from dashboards import prose, theme
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.traces import Figure, hover_of
from dashboards.tables import columns
from dashboards.tables.table import MOST_RUN_ROWS, Table
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


def figure_of(importances: Sequence[Importance]) -> Figure:
    """Draw one row a hyper-parameter, a marker a method."""
    marks = [
        dots.Dot(_PANEL, words_of(name), i.method, share, dots.NOWHERE, (), _hover(i, name, share))
        for i in importances
        for name, share in i.shares
    ]
    order = [words_of(name) for name in _ORDER]
    marks.sort(key=lambda dot: order.index(dot.row) if dot.row in order else len(order))
    return dots.figure_of(marks, {_PANEL: dots.Scale("share, 0 to 1", holds=0.0)})


def _hover(of: Importance, name: str, share: float) -> str:
    return hover_of(of.method, "", f"{words_of(name)}: share {share:.2f}, R² on unseen settings {of.r2:.2f}")


def words_of(name: str) -> str:
    """Say a hyper-parameter."""
    return name.replace("_", " ")


def table_of(importances: Sequence[Importance]) -> Table:
    """Return one row a method and hyper-parameter."""
    rows = [(i, name, share) for i in importances for name, share in i.shares]
    return columns.table_of(
        "importance",
        "Share of every hyper-parameter in how the trials of a method rank on validation.",
        (
            columns.methods("Method", "method", [i.method for i, _, _ in rows]),
            columns.words(
                "Hyper-parameter", "parameter", [words_of(name) for _, name, _ in rows], [name for _, name, _ in rows]
            ),
            columns.numbers("Share", "share", [share for _, _, share in rows], "{:.2f}".format),
            columns.numbers("R² on unseen settings", "r2", [i.r2 for i, _, _ in rows], "{:.2f}".format),
            columns.counts("Settings", "settings", [i.settings for i, _, _ in rows]),
            columns.counts("Problems", "cells", [i.cells for i, _, _ in rows]),
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = importances_of(sources.findings)
    if not data:
        return None
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
        figure=figure_of(data),
        table=sources.fitted(table_of(data), "runs.parquet", MOST_RUN_ROWS),
    )
