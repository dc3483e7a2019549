"""Evidence: what the tune stage chose for each contender, and what the confirm stage measured of that choice.

The tune stage gives configurations and validation numbers, never a test number; the confirm stage gives test
numbers, and chooses in every run, on that run's own validation, which weights it stands by. Records are read as they
are: the tidy frame holds every epoch of every run, of which conclusions need the last one only.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from study.findings.content import FindingsError, ScoreUnit
from study.findings.streams import Streams, streams_of
from study.findings.units import FRACTION, pooled_tasks, score_units
from study.plan.cells import Cell, Proposal, confirm_runs, proposal_of, search_name, searches
from study.plan.cells import cells as planned_cells
from study.plan.replicates import Replicate
from study.plan.selection import Preferred, Selection, choose, preferred_of
from study.records import Configuration, FactorValue, Measurement, RunRecord, configuration_of
from study.specs.contenders import Contender, contenders, trials_at
from study.specs.spec import StudySpec
from study.stats import Arm
from study.stats.effects import Scores
from study.stats.estimates import mean_of

TuneKey = tuple[int, str, str, float]  # (replicate, cell, search, epochs_factor)


class Confirmed(NamedTuple):
    """One confirm run, with what validation prefers of its weights."""

    run: RunRecord
    preferred: Preferred


@dataclass(frozen=True)
class Tried:
    """What the confirm stage measured of one contender in one cell, replicate by replicate.

    Attributes:
        contender: Whose.
        selections: What validation picked, by replicate; those that are not tuned yet are missing.
        runs: The confirm runs of that pick, by replicate.
        one_tuning: There is one replicate, and the units of an interval are its seeds.
        carried: The weights that protocol 1 carried over from tuning to every run; "": each run chooses its own.
    """

    contender: Contender
    selections: Mapping[int, Selection]
    runs: Mapping[int, Sequence[Confirmed]]
    one_tuning: bool
    carried: str = ""

    def scores(self, metric: str, kind: str = "") -> Scores:
        """Return a final metric by unit and seed: of the weights that every run stands by, or of the best of a kind."""
        found: dict[int, dict[int, float]] = {}
        for unit, one in self.by_unit:
            measured = one.preferred.by_kind.get(kind) if kind else self._standing(one)
            value = getattr(measured, metric) if measured else None
            if value is not None:
                found.setdefault(unit, {})[one.run.job.seed] = value
        return found

    def _standing(self, one: Confirmed) -> Measurement | None:
        """Return the weights that a run stands by: what its own validation prefers of all that it may use."""
        if self.carried:
            named = (m for m in one.run.measurements if (m.weights, m.epoch) == (self.carried, one.run.last_epoch))
            return next(named, None)
        return one.preferred.of(self.contender.reads)

    @cached_property
    def by_unit(self) -> list[tuple[int, Confirmed]]:
        """Every confirm run with its unit: its replicate, or its seed where there is one tuning."""
        return [
            (one.run.job.seed if self.one_tuning else replicate, one)
            for replicate, some in self.runs.items()
            for one in some
        ]

    def probed(self, name: str) -> dict[int, float]:
        """Return a probe by unit, of the weights that stand for the method: its average, if it averages."""
        kind = self.contender.average or "last"
        found: dict[int, list[float]] = {}
        for unit, one in self.by_unit:
            standing = one.preferred.by_kind.get(kind)
            for probe in one.run.probes:
                if standing and (probe.weights, probe.name) == (standing.weights, name):
                    found.setdefault(unit, []).append(probe.value)
        return {unit: statistics.fmean(values) for unit, values in found.items()}

    def statuses(self) -> Counter[str]:
        """Count its runs by status."""
        return Counter(one.run.status for _, one in self.by_unit)

    def gradient_evaluations(self) -> float:
        """Return the mean gradient evaluations of its completed runs (others stop early); NaN without any."""
        return mean_known(one.run.gradient_evaluations for _, one in self.by_unit if one.run.status == "completed")

    def arm(self, metric: str) -> Arm:
        """Return it as one side of a comparison."""
        ended = self.statuses()
        runs = ended.total() - ended["failed"]
        return Arm(self.contender.name, self.scores(metric), runs, ended["diverged"], self.gradient_evaluations())

    def switched_off(self, baseline: "Tried", metric: str) -> set[int]:
        """Return the units in which it is a baseline: the same pick and length, no perturbation, and equal scores.

        A radius of 0 at another learning rate is a pick of its own. Both have to train with the same optimizer.
        """
        ours, theirs = self.scores(metric), baseline.scores(metric)
        trained = attrgetter("epochs_factor", "learning_rate", "weight_decay", "options")
        same = {
            replicate
            for replicate, chosen in self.selections.items()
            if chosen.rho == 0 and (other := baseline.selections.get(replicate)) and trained(chosen) == trained(other)
        }
        units = {unit for unit, one in self.by_unit if one.run.job.replicate in same}
        return {unit for unit in units if unit in ours and ours[unit] == theirs.get(unit)}


class TunedRun(NamedTuple):
    """One tune run, and what is asked of it again and again: read off the record once, in the order of the records.

    With 100,000 runs most time goes into waiting for memory, and records lie there in their own order. ``preferred`` is
    what validation prefers at the run's last epoch; ``number`` is its place among all records.
    """

    trial: int
    number: int
    run: RunRecord
    tried: Proposal
    preferred: Preferred
    cost: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """The tune runs of one search, in the order of their positions, how they ended, and what they cost in all."""

    runs: Sequence[TunedRun]
    statuses: Counter[str]
    gradient_evaluations: int


class Trial(NamedTuple):
    """One tried configuration as one contender reads it: its run, what validation prefers of it, and that score."""

    tuned: TunedRun
    best: Measurement
    value: float


@dataclass(frozen=True)
class Evidence:
    """All that conclusions are drawn from.

    Attributes:
        cells: Those that have records, in the order of the spec.
        replicates: Numbers of those that have a record.
        tuned: What was tuned, by replicate, cell, search and length.
        tried: By cell and contender: every contender of every cell, whether something is selected yet or not.
        scores: What the score of each task is.
        sources: The sources of each own task that runs were measured by.
        streams: Of each own task whose training part is a stream: what its runs saw.
        val_examples: By cell, how many examples its runs were chosen by; of older records none is known.
    """

    spec: StudySpec
    cells: tuple[Cell, ...]
    replicates: tuple[int, ...]
    tuned: dict[TuneKey, Tuned]
    tried: dict[tuple[str, Contender], Tried]
    scores: dict[str, ScoreUnit] = field(default_factory=dict)
    sources: dict[str, Counter[str]] = field(default_factory=dict)
    streams: dict[str, Streams] = field(default_factory=dict)
    val_examples: dict[str, int] = field(default_factory=dict)

    @property
    def pooled(self) -> tuple[Cell, ...]:
        """The cells that can be put together: their scores have one unit."""
        tasks = pooled_tasks(self.scores) if self.scores else tuple(cell.task for cell in self.cells)
        return tuple(cell for cell in self.cells if cell.task in tasks)

    @cached_property
    def _varied(self) -> list[str]:
        values: dict[tuple[str, str], set[FactorValue]] = {}
        for cell in planned_cells(self.spec):
            for name, value in cell.factors.items():
                values.setdefault((name, cell.task), set()).add(value)
        return list(dict.fromkeys(name for (name, _), found in values.items() if len(found) > 1))

    def factors_of(self, cell: Cell) -> dict[str, FactorValue]:
        """Return the factors of a cell that vary within a task of the study: what a task alone decides is none."""
        return {name: cell.factors[name] for name in self._varied if name in cell.factors}

    def spec_in(self, cell: str) -> StudySpec:
        """Return the study as the task of a cell has it."""
        return self.spec.as_of(next((one.task for one in self.cells if one.name == cell), ""))

    def is_share(self, cell: str) -> bool:
        """Tell whether the scores of a cell are shares, which can't be far off."""
        return all(self.scores[one.task].unit == FRACTION for one in self.cells if one.name == cell)

    def of(self, cell: str, one: Contender) -> Tried:
        """Return what was measured of a contender in a cell."""
        return self.tried.get((cell, one)) or Tried(one, {}, {}, self.spec.one_tuning)

    def search(self, replicate: int, cell: str, one: Contender, length: float) -> Tuned:
        """Return a search that serves a contender, an empty one where nothing is tuned yet."""
        return self.tuned.get((replicate, cell, search_name(self.spec, one), length), _NOTHING_TUNED)

    def trials(self, replicate: int, cell: str, one: Contender, length: float) -> list[Trial]:
        """Return what a contender reads of a search, in the order of its trials.

        Diverged ones stand at chance level, pruned ones at what they had reached; failed ones are left out.
        """
        bests = ((run, run.preferred.of(one.reads)) for run in self.search(replicate, cell, one, length).runs)
        return [Trial(run, best, best.val_score) for run, best in bests if best and best.val_score is not None]

    def means(self, scores: Scores) -> dict[int, float]:
        """Return the mean of a metric by unit, over the units that have all of their seeds."""
        whole = self.seeds_a_unit
        return {unit: mean_of(tuple(found.values())) for unit, found in scores.items() if len(found) >= whole}

    @property
    def planned_units(self) -> int:
        """Units of an interval that the plan wants."""
        return self.spec.confirms if self.spec.one_tuning else self.spec.replicates

    @property
    def seeds_a_unit(self) -> int:
        """Confirm seeds of a unit."""
        return 1 if self.spec.one_tuning else self.spec.confirms


def gather(spec: StudySpec, records: Sequence[RunRecord]) -> Evidence:
    """Sort the records of a study, finished or not, into evidence."""
    cells, tuned = _cells(spec, records), _tuned(records)
    confirmed: dict[_Confirming, list[Confirmed]] = {}
    for record in records:
        if record.job.stage == "confirm":
            confirmed.setdefault((configuration_of(record.job), record.job.tested_of), []).append(
                Confirmed(record, preferred_of(record))
            )
    numbers = tuple(sorted({record.job.replicate for record in records}))
    scores = score_units(records, (cell.task for cell in cells))
    sources: dict[str, Counter[str]] = {}
    for record in records:
        for name, source in record.sources.items() if record.measurements else ():
            sources.setdefault(name, Counter())[source] += 1
    known = {record.job.cell: record.val_examples for record in records if record.val_examples}
    sizes = {cell.name: known[cell.name] for cell in cells if cell.name in known}
    evidence = Evidence(spec, cells, numbers, tuned, {}, scores, sources, streams_of(records), sizes)
    for cell in cells:
        for one in contenders(spec.as_of(cell.task)):
            selections = {number: chosen for number in numbers if (chosen := _frozen(evidence, number, cell.name, one))}
            runs = {
                number: sorted(
                    confirmed.get(_confirming(spec, cell.task, chosen), ()), key=lambda found: found.run.job.seed
                )
                for number, chosen in selections.items()
            }
            carried = next((chosen.weights for chosen in selections.values() if spec.protocol == 1), "")
            evidence.tried[cell.name, one] = Tried(one, selections, runs, spec.one_tuning, carried)
    return evidence


def planned_runs(evidence: Evidence) -> int:
    """Return how many runs the study holds in all; an upper bound until every search is tuned.

    Read off the records alone, without asking a sampler anything, so that reading a study needs no Optuna.
    """
    spec, total = evidence.spec, 0
    # Of a replicate nothing but its number and its size is asked.
    planned = [Replicate(number, 0, 0, 0, (0,) * spec.confirms) for number in range(1, spec.replicates + 1)]
    for search in searches(spec, planned):
        number, cell = search.replicate.number, search.cell.name
        total += search.trials
        over = all(
            len(evidence.search(number, cell, one, length).runs) >= trials_at(spec, length)
            for one in search.contenders
            for length in one.lengths
        )
        if not over:
            total += confirm_runs(search)[1]
        else:
            picked = {
                _confirming(spec, search.cell.task, chosen)
                for one in search.contenders
                if (chosen := evidence.of(cell, one).selections.get(number))
                and chosen.epochs_factor == search.epochs_factor
            }
            total += spec.confirms * len(picked)
    return total


_Confirming = tuple[Configuration, tuple[str, ...]]


def _confirming(spec: StudySpec, task: str, chosen: Selection) -> _Confirming:
    """Return what the runs have in common that confirm a pick; those of a loop test what one contender chooses."""
    return configuration_of(chosen), chosen.reads if task in spec.loops else ()


def _frozen(evidence: Evidence, number: int, cell: str, one: Contender) -> Selection | None:
    """Return what validation froze for a contender, once all of its searches have all of their trials."""
    spec = evidence.spec
    compared, ended = 0, []
    for length in one.lengths:
        search = evidence.search(number, cell, one, length)
        if len(search.runs) < trials_at(spec, length):
            return None
        tried = evidence.trials(number, cell, one, length)
        compared += len(tried)
        ended += [trial for trial in tried if trial.tuned.run.status != "pruned"]
    top = max((trial.value for trial in ended), default=0.0)
    level = [(trial.tuned.run, trial.best) for trial in ended if trial.value == top]
    return choose(one, level, compared, spec.search)


def _cells(spec: StudySpec, records: Iterable[RunRecord]) -> tuple[Cell, ...]:
    """Return the cells that have records, in the spec's order.

    Raises:
        FindingsError: a cell that the spec does not hold.
    """
    settings = [(cell.task, cell.factors) for cell in planned_cells(spec)]
    found: dict[int, Cell] = {}
    for name, job in {record.job.cell: record.job for record in records}.items():
        if (job.task, job.factors) not in settings:
            raise FindingsError(
                f"records of the cell {name!r} were given, which the spec {spec.name!r} does not hold; "
                "give the records of one study and its own spec."
            )
        found[settings.index((job.task, job.factors))] = Cell(name, job.task, job.factors)
    return tuple(cell for _, cell in sorted(found.items()))


def _tuned(records: Iterable[RunRecord]) -> dict[TuneKey, Tuned]:
    groups: dict[TuneKey, list[TunedRun]] = {}
    for number, run in enumerate(records):
        job = run.job
        if job.stage == "tune":
            preferred = preferred_of(run) if run.measurements else Preferred({})
            groups.setdefault((job.replicate, job.cell, job.search, job.epochs_factor), []).append(
                TunedRun(job.trial or 0, number, run, proposal_of(job), preferred, run.gradient_evaluations)
            )
    return {
        key: Tuned(sorted(runs), Counter(one.run.status for one in runs), sum(one.cost for one in runs))
        for key, runs in groups.items()
    }


_NOTHING_TUNED = Tuned((), Counter(), 0)


def mean_known(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    known = [value for value in values if value == value]
    return mean_of(known) if known else float("nan")
