"""A results folder read back as one `Study`: records, frame and findings."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from study.files import write_atomically
from study.findings import Findings, find, write_findings
from study.records import RunRecord
from study.specs.spec import StudySpec
from study.store.folder import ResultsError, extended_from, frozen_spec, records_of
from study.store.frame import frame_of
from study.store.record_files import read_lines

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, repr=False)
class Study:
    """A study as read from its folder.

    ``frame`` is the tidy frame of `study.store.frame.frame_of`, ``findings`` are computed from the records at reading.
    ``figures`` and ``figure`` are the report's, for a notebook, where a study shows itself as its verdicts.
    """

    folder: Path
    spec: StudySpec
    records: tuple[RunRecord, ...]
    frame: pd.DataFrame
    findings: Findings

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the report's figures that this study has data for."""
        return tuple(self._drawn)

    def figure(self, name: str) -> "Figure":
        """Return one of the report's figures.

        Raises:
            ResultsError: no such figure, or no data for it.
        """
        if name not in self.figures:
            raise ResultsError(
                f"{name!r} was given as a figure; this study has {', '.join(self.figures) or 'none yet'}."
            )
        return self._drawn[name]

    def __repr__(self) -> str:
        counts = self.findings.counts
        return f"<Study {self.spec.name!r}: {counts.ended:,} of {counts.planned:,} runs, {counts.failed:,} failed>"

    # Beside `study.run` the one place where `study` asks `dashboards` for something.
    def _repr_html_(self) -> str:
        from dashboards.notebook import summary_of  # noqa: PLC0415  # as below

        return summary_of(self)

    @cached_property
    def _drawn(self) -> "dict[str, Figure]":
        from dashboards.notebook import figures_of  # noqa: PLC0415  # reading is instant, plotly takes a second to import

        return figures_of(self)


def load(folder: Path | str) -> Study:
    """Read a results folder: records alone decide, so a deleted or stale view does not matter.

    Raises:
        ResultsError: no such folder, no spec in it, or a spec that was changed after the start.
        RecordError: a record that can't be read.
    """
    folder = Path(folder)
    spec = frozen_spec(folder)
    if spec is None:
        raise ResultsError(
            f"{folder} was given as a results folder; it has no spec.toml; "
            "give a folder that `python -m study.run` has written."
        )
    records = records_of(folder, spec)
    return Study(
        folder,
        spec,
        records,
        frame_of(records),
        find(spec, records, lines=read_lines(folder), extended_from=extended_from(folder)),
    )


def write_frame_and_findings(study: Study) -> None:
    """Write ``runs.parquet`` and ``findings.json`` anew, each atomically."""
    write_atomically(study.folder / "runs.parquet", study.frame.to_parquet(index=False))
    write_findings(study.folder / "findings.json", study.findings)
