"""Toys that `test_recipes` adds: what a newcomer would write by the recipes of CONTRIBUTING.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.kit.panels import Panel, grid_of_cells, lay_out
from dashboards.figures.kit.traces import scatter
from dashboards.tables import columns
from study.listeners.listener import Listener
from study.records import FactorValue, RunRecord
from study.streams import torch_seed
from study.tasks import Task, classification

COUNT, VALIDATION = 60, 30


def load() -> Tensor:
    """Return the data of the toy task: points, whose class is the sign of their sum."""
    return torch.linspace(-1, 1, 2 * (COUNT + VALIDATION)).reshape(-1, 2)


def build(points: Tensor, factors: Mapping[str, FactorValue], seed: int, test_seed: int) -> Task:
    """Build the toy task; its factor ``stretch`` scales the points."""
    points = points * float(factors.get("stretch", 1.0))
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(torch_seed(seed, "split") % 2**31))
    examples, targets = points[order], (points.sum(1) > 0).long()[order]
    train, val = (examples[:COUNT], targets[:COUNT]), (examples[COUNT:], targets[COUNT:])
    return classification(nn.Linear(2, 2), train, val, lambda: val, classes=2)


class Steps(torch.optim.SGD):
    """A toy optimizer: half of a step."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, lr=lr / 2)


def chart_of(sources: Sources) -> Chart | None:
    """Return a toy figure: how many runs there are of each problem."""
    counts = sources.frame.groupby("cell").run_id.nunique()
    if counts.empty:
        return None
    line = scatter([0.0, 1.0], [float(counts.iloc[0])] * 2, "lines")
    figure = lay_out([Panel("runs", [line], {}, {})], grid_of_cells(1))
    table = columns.table_of("toy", "Runs of each problem.", [columns.counts("Runs", "runs", counts.tolist())])
    return Chart("toy", f"{sum(counts)} runs", "More is more.", "All runs.", (), figure, table)


class Tracker(Listener):
    """Hears of every run and keeps a line of it."""

    def __init__(self, given: str, study: str, folder: Path) -> None:
        self._path, self._study = folder / given, study

    def finished(self, record: RunRecord) -> None:
        with self._path.open("a") as file:
            file.write(f"{self._study} {record.run_id}\n")
