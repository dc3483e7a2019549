"""Evidence: what the tune stage chose for each method, and what the confirm stage measured of that choice.

The tune stage gives configurations and validation numbers, never a test number; the confirm stage gives test
numbers and chooses nothing. Records are read as they are: the tidy frame holds every epoch of every run, of
which conclusions need the last one only.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from study.findings.content import FindingsError
from study.plan.cells import Proposal, confirm_jobs, epochs_factors, searches
from study.plan.selection import Bests, Selection, bests_at, choose
from study.records import Configuration, FactorValue, Measurement, RunRecord, configuration_of
from study.specs.methods import METHODS
from study.specs.spec import StudySpec, cell_factors

Key = tuple[str, str, float]  # (cell, method or search, epochs_factor)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as its records show it; ``factors`` are those that vary within a task of the study."""

    name: str
    task: str
    factors: tuple[tuple[str, FactorValue], ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """What the confirm stage measured of one selected configuration; empty while nothing is selected.

    ``finals`` holds the measurements at the last epoch by seed and weights; failed runs have none.
    """

    selection: Selection | None
    runs: Sequence[RunRecord]
    finals: Mapping[int, Mapping[str, Measurement]]

    def selected(self, metric: str) -> dict[int, float]:
        """Return a final metric of the selected weights by seed."""
        return self.values(metric, self.selection.weights) if self.selection else {}

    def values(self, metric: str, weights: str) -> dict[int, float]:
        """Return a final metric of some weights by seed."""
        found = {
            seed: getattr(by_weights[weights], metric)
            for seed, by_weights in self.finals.items()
            if weights in by_weights
        }
        return {seed: value for seed, value in found.items() if value is not None}

    def probed(self, name: str) -> dict[int, float]:
        """Return a probe by seed, of the weights that stand for the method: its average, if it averages."""
        weights = (self.selection.average or "last") if self.selection else ""
        return {
            run.job.seed: probe.value
            for run in self.runs
            for probe in run.probes
            if (probe.weights, probe.name) == (weights, name)
        }

    def statuses(self) -> Counter[str]:
        """Count its runs by status."""
        return Counter(run.status for run in self.runs)

    def gradient_evaluations(self) -> float:
        """Return the mean gradient evaluations of its completed runs (others stop early); NaN without any."""
        return mean_known(run.gradient_evaluations for run in self.runs if run.status == "completed")


class TunedRun(NamedTuple):
    """One tune run, and what is asked of it again and again: read off the record once, in the order of the records.

    With 100,000 runs most time goes into waiting for memory, and records lie there in their own order. ``bests`` is
    what validation prefers at the run's last epoch; ``number`` is its place among all records.
    """

    trial: int
    number: int
    run: RunRecord
    tried: Proposal
    bests: Bests
    cost: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """The tune runs of one search, in the order of their positions, how they ended, and what they cost in all."""

    runs: Sequence[TunedRun]
    statuses: Counter[str]
    gradient_evaluations: int


class Trial(NamedTuple):
    """One tried configuration as one method reads it: its run, what validation prefers of its weights, that score."""

    tuned: TunedRun
    best: Measurement
    value: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that conclusions are drawn from.

    Attributes:
        cells: In the order of the spec.
        tuned: What was tuned, by (cell, search, epochs_factor).
        arms: By (cell, method, epochs_factor); only where something is selected.
        trials: By the same keys, in the order of their positions. Diverged ones stand at chance level, pruned ones at
            what they had reached when they were stopped; failed ones are left out.
    """

    spec: StudySpec
    cells: tuple[Cell, ...]
    tuned: dict[Key, Tuned]
    arms: dict[Key, Arm]
    trials: dict[Key, list[Trial]]

    def arm(self, cell: str, method: str, epochs_factor: float = 1) -> Arm:
        """Return the arm of a method, an empty one where nothing is selected yet."""
        return self.arms.get((cell, method, epochs_factor), Arm(None, (), {}))

    def search(self, cell: str, method: str, epochs_factor: float = 1) -> Tuned:
        """Return the search that serves a method, an empty one where nothing is tuned yet."""
        return self.tuned.get((cell, search_of(self.spec, method), epochs_factor), _NOTHING_TUNED)


def gather(spec: StudySpec, records: Sequence[RunRecord]) -> Evidence:
    """Sort the records of a study, finished or not, into evidence."""
    cells, tuned = _cells(spec, records), _tuned(records)
    confirmed: dict[Configuration, list[RunRecord]] = {}
    for record in records:
        if record.job.stage == "confirm":
            confirmed.setdefault(configuration_of(record.job), []).append(record)
    arms, trials = {}, {}
    for cell in cells:
        for method in spec.methods:
            for factor in epochs_factors(spec, method):
                search = tuned.get((cell.name, search_of(spec, method), factor), _NOTHING_TUNED)
                tried = _trials(method, search)
                trials[cell.name, method, factor] = tried
                finished, pruned = len(search.runs) >= spec.search.trials, bool(search.statuses["pruned"])
                chosen = _frozen(spec, method, tried, pruned=pruned) if finished else None
                if chosen is not None:
                    runs = confirmed.get(configuration_of(chosen), [])
                    arms[cell.name, method, factor] = Arm(chosen, runs, _finals(runs))
    return Evidence(spec, cells, tuned, arms, trials)


def planned_runs(evidence: Evidence) -> int:
    """Return how many runs the study holds in all; an upper bound until every search is tuned.

    Read off the records alone, without asking a sampler anything, so that reading a study needs no Optuna.
    """
    spec, total = evidence.spec, 0
    for search in searches(spec):
        key = search.cell.name, search.name, search.epochs_factor
        total += spec.search.trials
        if len(evidence.tuned.get(key, _NOTHING_TUNED).runs) < spec.search.trials:
            total += spec.confirm_seeds * len(search.methods)
        else:
            arms = [evidence.arm(search.cell.name, method, search.epochs_factor) for method in search.methods]
            total += len(confirm_jobs(spec, search, [arm.selection for arm in arms if arm.selection]))
    return total


def _trials(method: str, search: Tuned) -> list[Trial]:
    kind = METHODS[method].weights
    bests = ((one, one.bests.of_kind(kind)) for one in search.runs)
    return [Trial(one, best, best.val_score) for one, best in bests if best and best.val_score is not None]


def search_of(spec: StudySpec, method: str) -> str:
    """Return the name of the search that serves a method: its family's when trajectories are shared."""
    return METHODS[method].family if spec.search.sampler == "qmc" else method


def _finals(runs: Iterable[RunRecord]) -> dict[int, dict[str, Measurement]]:
    """Return the measurements at the runs' last epochs by seed and weights."""
    return {
        run.job.seed: {m.weights: m for m in run.measurements if m.epoch == epochs}
        for run in runs
        for epochs in [run.job.epochs]
    }


def _frozen(spec: StudySpec, method: str, tried: Sequence[Trial], *, pruned: bool) -> Selection | None:
    """Return what validation froze of a search that has all of its trials."""
    ended = [trial for trial in tried if trial.tuned.run.status != "pruned"] if pruned else tried
    top = max((trial.value for trial in ended), default=0.0)
    level = [(trial.tuned.run, trial.best) for trial in ended if trial.value == top]
    return choose(method, level, len(tried), spec.search)


def _cells(spec: StudySpec, records: Iterable[RunRecord]) -> tuple[Cell, ...]:
    """Return the cells that have records, in the spec's order.

    Raises:
        FindingsError: a cell that the spec does not hold.
    """
    settings = [(problem.task, factors) for problem in spec.problems for factors in cell_factors(problem)]
    varied = _varied_factors(settings)
    jobs = {record.job.cell: record.job for record in records}
    for name, job in jobs.items():
        if (job.task, job.factors) not in settings:
            raise FindingsError(
                f"records of the cell {name!r} were given, which the spec {spec.name!r} does not hold; "
                "give the records of one study and its own spec."
            )
    return tuple(
        Cell(name, job.task, tuple((factor, job.factors[factor]) for factor in varied if factor in job.factors))
        for name, job in sorted(jobs.items(), key=lambda item: settings.index((item[1].task, item[1].factors)))
    )


def _varied_factors(settings: Iterable[tuple[str, dict[str, FactorValue]]]) -> list[str]:
    """Return the factors that vary between cells of one task; what the task alone decides is not a factor."""
    values: dict[tuple[str, str], set[FactorValue]] = {}
    for task, factors in settings:
        for name, value in factors.items():
            values.setdefault((name, task), set()).add(value)
    return list(dict.fromkeys(name for (name, _), found in values.items() if len(found) > 1))


def _tuned(records: Iterable[RunRecord]) -> dict[Key, Tuned]:
    groups: dict[Key, list[TunedRun]] = {}
    statuses: dict[Key, list[str]] = {}
    epochs: dict[Key, int] = {}
    for number, run in enumerate(records):
        job = run.job
        if job.stage == "tune":
            key = job.cell, job.search, job.epochs_factor
            if key not in epochs:  # the same for all of a search
                groups[key], statuses[key], epochs[key] = [], [], job.epochs
            bests = bests_at(run.measurements, run.last_epoch if run.status == "pruned" else epochs[key])
            tried = Proposal(job.learning_rate, job.rho, job.average_start, job.weight_decay)
            groups[key].append(TunedRun(job.trial or 0, number, run, tried, bests, run.gradient_evaluations))
            statuses[key].append(run.status)
    return {
        key: Tuned(sorted(runs), Counter(statuses[key]), sum(one.cost for one in runs)) for key, runs in groups.items()
    }


_NOTHING_TUNED = Tuned((), Counter(), 0)


def ratio(numerator: Arm, denominator: Arm) -> float:
    """Return the gradient evaluations of one arm ÷ those of another, per completed run; NaN without."""
    base = denominator.gradient_evaluations()
    return numerator.gradient_evaluations() / base if base > 0 else float("nan")


def mean_known(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    known = [value for value in values if value == value]
    return statistics.fmean(known) if known else float("nan")
