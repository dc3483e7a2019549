"""A chart as the page shows it, a figure with everything around it that makes it readable; and what it is made from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from dashboards.cells import LabelledCell
from dashboards.contenders import unit_of, unit_words
from dashboards.figures.kit.confirmed import Confirmed, OfMethod, best_epochs_at, confirmed_runs, records_by_method
from dashboards.figures.kit.traces import Figure
from dashboards.score import Score, measures_of, score_of
from dashboards.tables.table import MOST_ROWS, Table, fitted
from study.findings import Findings
from study.records import LineRecord, PlaneRecord, RunRecord

_BY_TASK = ("scores", "score_names", "deltas", "scopes")  # fields of findings, by whose entries they are told
_BY_CELL = (
    "effects", "direct", "averaging", "interactions", "rho_responses", "selections", "delta_strips", "descriptive",
    "tuning_curves",
)  # fmt: skip
_ACROSS = ("syntheses", "moderators", "rules")  # of the pooled tasks alone


@dataclass(frozen=True)
class Sources:
    """What the charts of a study are made from; what several of them need is worked out once.

    Attributes:
        findings: What the study found.
        frame: The tidy frame of `study.store.frame.frame_of`.
        cells: The problems under the names that the page gives them.
        records: The runs with their probes; the frame has no probes.
        lines: Losses along lines between methods' weights.
        planes: Losses over planes through three methods' weights.
    """

    findings: Findings
    frame: pd.DataFrame
    cells: Mapping[str, LabelledCell]
    records: tuple[RunRecord, ...] = ()
    lines: tuple[LineRecord, ...] = ()
    planes: tuple[PlaneRecord, ...] = ()

    @cached_property
    def score(self) -> Score:
        """What the study's scores are called."""
        return score_of(self.findings)

    @cached_property
    def confirmed(self) -> tuple[Confirmed, ...]:
        """The confirm runs of every contender that has any."""
        return confirmed_runs(self.frame, self.findings.selections, one_tuning=unit_of(self.findings) == "seed")

    @cached_property
    def by_method(self) -> tuple[OfMethod, ...]:
        """What was picked for every method at equal epochs, and its completed confirm runs there, with their probes."""
        one_tuning = unit_of(self.findings) == "seed"
        return records_by_method(self.records, self.findings.selections, one_tuning=one_tuning)

    @cached_property
    def best_at(self) -> dict[tuple[str, str], float]:
        """By problem and baseline the epoch that validation prefers in its median run."""
        return best_epochs_at(self.confirmed)

    @cached_property
    def by_measure(self) -> tuple["Sources", ...]:
        """The sources of the tasks of each metric and unit: no two of them ever share a scale, a range or a mean."""
        measures = measures_of(self.findings)
        if len(measures) < 2:
            return (self,)
        return tuple(self._restricted(set(tasks)) for tasks in measures.values())

    def _restricted(self, tasks: set[str]) -> "Sources":
        cells = {name: cell for name, cell in self.cells.items() if cell.task in tasks}
        found = self.findings
        by_task: dict[str, Any] = {
            name: {t: v for t, v in getattr(found, name).items() if t in tasks} for name in _BY_TASK
        }
        by_cell: dict[str, Any] = {
            name: tuple(one for one in getattr(found, name) if one.cell in cells) for name in _BY_CELL
        }
        crossed = tuple(one for one in found.factor_interactions if one.task in tasks)
        across: dict[str, Any] = {name: () for name in _ACROSS if not tasks & set(found.pooled)}
        findings = replace(found, **by_task, **by_cell, **across, factor_interactions=crossed)
        return Sources(
            findings, self.frame[self.frame["task"].isin(tasks)], cells, self.records, self.lines, self.planes
        )

    @property
    def units(self) -> str:
        """What intervals are over: "replicates", "seeds of one tuning"."""
        return unit_words(self.findings)

    def keys_of(self, methods: Iterable[str]) -> tuple["Key", ...]:
        """Return the legend of methods whose replicates (or seeds) are small ticks."""
        return *(Key(method, method) for method in dict.fromkeys(methods)), Key(f"one of the {self.units}", "", "tick")

    def fitted(self, table: Table, where: str, full: int = MOST_ROWS) -> Table:
        """Return as much of a table as the page of this study holds; ``where`` has all of it."""
        return fitted(table, len(self.cells), where, full)


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the legend, which the page draws outside the figure so that it wraps on a phone.

    ``look``: a filled or an ``open`` marker, a ``line`` with the method's dash, a ``dashed`` one, a dotted
    upright ``guide``, ``both`` marker and line, a ``tick`` (one replicate, or seed), the ``band`` of practical
    equivalence, or a ``field`` in ``color``.
    """

    text: str
    method: str
    look: Literal["filled", "open", "line", "dashed", "dotted", "guide", "both", "tick", "band", "field"] = "filled"
    color: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        id: Stable and unique in the page; deep links use it.
        heading: The finding, as a sentence.
        reading: One line on how to read it.
        caption: n and the interval type.
        keys: The legend.
        figure: In the light colours and the wide arrangement.
        table: The same data as a table, and as the CSV download.
        measure: What it is of, where a study has several metrics; "" otherwise.
    """

    id: str
    heading: str
    reading: str
    caption: str
    keys: tuple[Key, ...]
    figure: Figure
    table: Table
    measure: str = ""

    @property
    def heights(self) -> tuple[int, int]:
        """Pixels to reserve on a wide and on a narrow screen, so that nothing moves when the chart is drawn."""
        return int(self.figure.layout["height"]), int(str(self.figure.narrow["height"]))
