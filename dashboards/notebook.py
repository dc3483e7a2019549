"""What a notebook shows of a study: the report's figures one by one, and the verdicts as a table."""

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from dashboards import prose, theme
from dashboards.cells import Cell, cells_of
from dashboards.charts import charts_of
from dashboards.comparisons import without_early_verdicts
from dashboards.figures.kit.chart import Sources
from dashboards.score import shown
from dashboards.tables import verdicts
from study.findings import Findings
from study.records import RunRecord
from study.store.record_files import read_lines, read_planes

_TITLE_CHARACTERS = 90  # a line of a title, at its size in a notebook of the usual width
_TITLE_LINE_PX = 20


@dataclass(frozen=True)
class Notebook:
    """A study as a notebook shows it; everything is made when it is asked for.

    Attributes:
        folder: Its results folder, for the losses on lines and planes.
        findings: What it found.
        frame: The tidy frame of `study.store.frame.frame_of`.
        records: Its runs.
    """

    folder: Path
    findings: Findings
    frame: pd.DataFrame
    records: tuple[RunRecord, ...]

    @cached_property
    def figures(self) -> dict[str, go.Figure]:
        """Every figure that has data, by name, under its heading."""
        lines, planes = tuple(read_lines(self.folder)), tuple(read_planes(self.folder))
        charts = charts_of(Sources(self._shown, self.frame, self._cells, self.records, lines, planes))
        return {name: _alone(chart.figure.as_plotly(), chart.heading) for name, chart in charts.items()}

    @property
    def verdicts_html(self) -> str:
        """Question, answer and verdict table as HTML that holds no script and no style of a page."""
        with shown(self._shown):
            table = verdicts.verdict_table(self._shown, self._cells)
        columns = [index for index, column in enumerate(table.columns) if column.csv]
        heads = "".join(f"<th>{html.escape(table.columns[index].title)}</th>" for index in columns)
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(row[index].text)}</td>' for index in columns)}</tr>" for row in table.rows
        )
        answer = html.escape(prose.answer(self._shown, self._cells))
        return (
            f"<p>{html.escape(self.findings.question)}<br><b>{answer}</b></p>"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        )

    @cached_property
    def _shown(self) -> Findings:
        return without_early_verdicts(self.findings)

    @cached_property
    def _cells(self) -> dict[str, Cell]:
        return cells_of(self._shown, self.frame)


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
            "yanchor": "top",
            "pad": {"t": 8},
        },
        margin_t=margin + more,
        height=figure.layout.height + more,
    )
