"""What a notebook shows of a study: the report's figures one by one, and the verdicts as a table."""

import html
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from dashboards import prose, theme
from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.comparisons import pending_in, without_early_verdicts
from dashboards.tables import verdicts
from study.store.record_files import read_lines, read_planes

if TYPE_CHECKING:
    from study.store.results import Study

_TITLE_CHARACTERS = 90  # a line of a title, at its size in a notebook of the usual width
_TITLE_LINE_PX = 20


def figures_of(study: "Study") -> dict[str, go.Figure]:
    """Return every figure that has data, by name, under its heading and with its legend."""
    findings = without_early_verdicts(study.findings, pending_in(study.findings, study.frame))
    cells = cells_of(findings, study.frame)
    lines, planes = read_lines(study.folder), read_planes(study.folder)
    charts = charts_of(findings, study.frame, cells, study.records, lines, planes)
    return {name: _alone(chart.figure.as_plotly(), chart.heading) for name, chart in charts.items()}


def _alone(figure: go.Figure, heading: str) -> go.Figure:
    """Return a figure that stands without the page: with its heading above it."""
    title = theme.wrapped(heading, _TITLE_CHARACTERS)
    more = _TITLE_LINE_PX * (title.count("<br>") + 2)
    margin = figure.layout.margin.t or 0
    return figure.update_layout(
        title={
            "text": title,
            "font": {"size": 14},
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yref": "container",
            "pad": {"t": 8},
        }
        | {"yanchor": "top"},
        margin_t=margin + more,
        height=figure.layout.height + more,
    )


def verdicts_html(study: "Study") -> str:
    """Return question, answer and verdict table as HTML that holds no script and no style of a page."""
    findings = without_early_verdicts(study.findings, pending_in(study.findings, study.frame))
    cells = cells_of(findings, study.frame)
    table = verdicts.verdict_table(findings, cells)
    columns = [index for index, column in enumerate(table.columns) if column.csv]
    heads = "".join(f"<th>{html.escape(table.columns[index].title)}</th>" for index in columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(row[index].text)}</td>' for index in columns)}</tr>" for row in table.rows
    )
    answer = html.escape(prose.answer(findings, cells))
    return (
        f"<p>{html.escape(findings.question)}<br><b>{answer}</b></p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )
