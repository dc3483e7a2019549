"""Rows of a study taken apart into replicates, so that they can be put together anew."""

import statistics
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.conditions import python

from study.findings.conclusions import PRIMARY_METRIC
from study.findings.evidence import Evidence, gather
from study.plan.cells import Cell
from study.records import FactorValue
from study.specs.contenders import baselines, contender, others_of
from study.stats import Arm, Contrast, Effect, compare, judge
from study.stats.effects import Scores, Unit
from study.store.results import load


@dataclass(frozen=True, slots=True)
class Row:
    """A method and what it is held against: scores by replicate and confirm seed, of complete replicates."""

    cell: Cell
    name: str
    method: Scores
    baselines: Mapping[str, Scores]
    confirms: int

    @property
    def units(self) -> tuple[int, ...]:
        """The replicates that are complete on all sides."""
        sides = (self.method, *self.baselines.values())
        return tuple(u for u in sorted(self.method) if all(len(side.get(u, ())) >= self.confirms for side in sides))

    def gain(self, baseline: str, units: Collection[int]) -> float:
        """Return the mean gain over a baseline in some replicates."""
        theirs = self.baselines[baseline]
        return statistics.fmean(
            statistics.fmean(self.method[u].values()) - statistics.fmean(theirs[u].values()) for u in units
        )

    def study(self, units: Collection[int], delta: float) -> Effect:
        """Return what a study of some replicates says."""
        sides = [{u: side[u] for u in units} for side in (self.method, *self.baselines.values())]
        return self._effect(sides, len(units), self.confirms, "replicate", delta)

    def one_tuning(self, unit: int, delta: float) -> Effect:
        """Return what one replicate says if it is all there is: its confirm seeds are the units."""
        found = [side[unit] for side in (self.method, *self.baselines.values())]
        sides = [{seed: {seed: value} for seed, value in by_seed.items()} for by_seed in found]
        return self._effect(sides, self.confirms, 1, "seed", delta)

    def _effect(self, sides: Sequence[Scores], planned: int, confirms: int, unit: Unit, delta: float) -> Effect:
        contrast = Contrast(self.cell.name, self.cell.task, (), "tuned", self.name, "G", PRIMARY_METRIC)
        method, *others = (
            Arm(name, scores, runs=1) for name, scores in zip((self.name, *self.baselines), sides, strict=True)
        )
        effect = compare(contrast, method, others, planned=planned, confirms=confirms, unit=unit)
        return judge([effect], delta, 0.05)[0]


def evidence_of(folder: Path) -> Evidence:
    """Read a results folder, finished or not."""
    study = load(folder)
    return gather(study.spec, study.records)


def setting_of(evidence: Evidence, cell: Cell) -> tuple[str, Mapping[str, FactorValue]]:
    """Return all that makes a cell, whatever its study calls it."""
    job = next(one.runs[0].run.job for key, one in evidence.tuned.items() if key[1] == cell.name)
    return job.task, job.factors


def rows_of(evidence: Evidence) -> Iterator[Row]:
    """Yield every method in every cell against its baselines, in the primary budget."""
    spec = evidence.spec
    for cell in evidence.cells:
        for method in others_of(spec):
            ours = evidence.of(cell.name, contender(spec, method, spec.primary_budget)).scores(PRIMARY_METRIC)
            theirs = {
                one.name: evidence.of(cell.name, one).scores(PRIMARY_METRIC)
                for one in baselines(spec, method, spec.primary_budget)
            }
            yield Row(cell, method, ours, theirs, spec.confirms)


def train(spec: Path, folder: Path) -> None:
    """Run a study into a folder."""
    subprocess.run(python("-m", "study.run", str(spec), "--out", str(folder), "--resume"), check=True)
