"""One synthetic study for all tests of the report: findings, frame and page are made once."""

from dataclasses import dataclass

import pandas as pd
import pytest
from synthetic import synthetic_study

from dashboards.cells import LabelledCell, cells_of
from dashboards.report import build_report
from study.findings import Findings, find
from study.store.frame import frame_of


@dataclass(frozen=True)
class Material:
    """What a report is made of."""

    findings: Findings
    frame: pd.DataFrame

    @property
    def cells(self) -> dict[str, LabelledCell]:
        return cells_of(self.findings, self.frame)


def material(planned: int | None = None, **settings: object) -> Material:
    spec, records = synthetic_study(**settings)  # type: ignore[arg-type]
    return Material(find(spec, records, len(records) if planned is None else planned), frame_of(records))


@pytest.fixture(scope="session")
def make():
    return material


@pytest.fixture(scope="session")
def study() -> Material:
    return material(failed=0.005, diverged=0.01)


@pytest.fixture(scope="session")
def page(study: Material) -> str:
    return build_report(study.findings, study.frame)
