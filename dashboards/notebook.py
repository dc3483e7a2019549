"""What a notebook shows of a study: the report's figures one by one, and what the terminal says at its end."""

import html
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from dashboards import theme
from dashboards.cells import cells_of
from dashboards.charts import charts_of
from dashboards.closing import closing
from dashboards.comparisons import without_early_verdicts
from dashboards.figures.kit.chart import Sources
from study.store.record_files import read_lines, read_planes

if TYPE_CHECKING:
    from study.store.results import Study

_TITLE_CHARACTERS = 90  # a line of a title, at its size in a notebook of the usual width
_TITLE_LINE_PX = 20


def figures_of(study: "Study") -> dict[str, go.Figure]:
    """Return every figure of the report that has data, by name, under its heading."""
    findings = without_early_verdicts(study.findings)
    lines, planes = tuple(read_lines(study.folder)), tuple(read_planes(study.folder))
    sources = Sources(findings, study.frame, cells_of(findings, study.frame), study.records, lines, planes)
    return {name: _alone(chart.figure.as_plotly(), chart.heading) for name, chart in charts_of(sources).items()}


def summary_of(study: "Study") -> str:
    """Return the question, and the verdicts and the answer as the terminal gives them, as HTML without a script."""
    return f"<pre>{html.escape(study.findings.question)}\n\n{html.escape(closing(study.findings, study.frame))}</pre>"


def _alone(figure: go.Figure, heading: str) -> go.Figure:
    """Return a figure that stands without the page: with its heading above it."""
    title = theme.wrapped(heading, _TITLE_CHARACTERS)
    more = _TITLE_LINE_PX * (title.count("<br>") + 2)
    place = {"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 8}}
    return figure.update_layout(
        title={"text": title, "font": {"size": 14}, **place},
        margin_t=(figure.layout.margin.t or 0) + more,
        height=figure.layout.height + more,
    )
