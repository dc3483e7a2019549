"""The plan: from a spec to cells, searches and jobs. Pure and printable; nothing is trained here."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from study.plan.replicates import Replicate, replicates_of
from study.plan.selection import Selection
from study.records import FactorValue, Family, Job
from study.specs.contenders import Contender, at_equal_epochs, contenders, kinds_read, trials_at
from study.specs.methods import FAMILIES, family_of
from study.specs.space import BATCH
from study.specs.spec import SearchSpace, StudySpec, cell_factors

LEAST_PROBE = 100  # gradient evaluations: fewer are not enough to probe three examples
_START_DECIMALS = 4  # finer than an epoch of any run; keeps names such as swa@0.6172 short


@dataclass(frozen=True, slots=True)
class Cell:
    """One problem setting: a task with all its factors fixed.

    ``name`` is the task with what varies between the study's cells of it, such as ``digits label_noise=0.3``.
    """

    name: str
    task: str
    factors: Mapping[str, FactorValue]


@dataclass(frozen=True, slots=True)
class Search:
    """One search for hyper-parameters in one replicate of one cell: whose proposals they are and whom they serve.

    With QMC the proposals do not depend on results, so a family's runs are shared: one base run answers for SGD with
    any weights and for SWA. With TPE every contender steers its own search. A search at more than the cell's epochs has
    the first proposals of the one at these, as many as its budget buys.

    Attributes:
        name: The family's with QMC, the contender's role with TPE.
        trajectory: What is searched; ``family`` is its name.
        contenders: Those whose configuration may come out of it.
    """

    cell: Cell
    replicate: Replicate
    name: str
    trajectory: Family
    epochs_factor: float
    trials: int
    contenders: tuple[Contender, ...]

    @property
    def family(self) -> str:
        """Name of the trajectory that is searched."""
        return self.contenders[0].family

    @property
    def roles(self) -> dict[str, Contender]:
        """Those that it serves by role, each once: a method reads the same of it under every budget."""
        return {one.role: one for one in self.contenders}


class Proposal(NamedTuple):
    """Hyper-parameters that a search wants tried; units as in `Job`."""

    learning_rate: float
    rho: float
    average_start: float
    weight_decay: float | None = None
    options: tuple[tuple[str, float], ...] = ()

    def value_of(self, name: str) -> float | None:
        """Return one of its hyper-parameters; None if it is not searched."""
        found: float | None = dict(self.options).get(name, getattr(self, name, None))
        return found


def proposal_of(tried: Job | Selection) -> Proposal:
    """Return the hyper-parameters that a job was given, or that validation picked."""
    return Proposal(*(getattr(tried, name) for name in Proposal._fields))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished trial as a search sees it.

    ``value`` is what is maximised, None for a trial that failed; ``pruned_at`` is the epoch at which it was stopped,
    where ``value`` is what it had reached, and None for one that ran to its end.
    """

    proposal: Proposal
    value: float | None
    pruned_at: int | None = None


def start_of(space: SearchSpace, proposed: float) -> float:
    """Return a proposed start of averaging as a run takes it: rounded, and within its range all the same."""
    return space.average_start.within(round(proposed, _START_DECIMALS))


def cells(spec: StudySpec) -> list[Cell]:
    """Return the study's cells in the spec's order; equal ones stand once."""
    by_content = {
        repr((problem.task, factors)): (problem.task, factors)
        for problem in spec.problems
        for factors in cell_factors(problem)
    }
    settings = list(by_content.values())
    varied = {task: _varied([factors for other, factors in settings if other == task]) for task, _ in settings}
    return [
        Cell(" ".join([task, *(f"{name}={_worded(factors[name])}" for name in varied[task])]), task, factors)
        for task, factors in settings
    ]


def _worded(value: FactorValue) -> str:
    """Return a value as it stands in a cell's name: a text with blanks, = or the like in quotes, as names differ."""
    plain = not isinstance(value, str) or re.fullmatch(r"[\w.:/+-]+", value)
    return f"{value}" if plain else json.dumps(value, ensure_ascii=False)


def _varied(siblings: Sequence[Mapping[str, FactorValue]]) -> list[str]:
    """Return the names of the factors that differ between the cells of one task."""
    return [name for name in siblings[0] if len({(type(own[name]), own[name]) for own in siblings}) > 1]


def searches(spec: StudySpec, replicates: Iterable[Replicate] | None = None) -> list[Search]:
    """Return every search of some replicates (None: all of the spec's), in each replicate cell by cell.

    Replicate by replicate, so that a study that is interrupted holds whole replicates.
    """
    chosen = cells(spec)
    served = {task: _served(spec.as_of(task)) for task in {cell.task for cell in chosen}}
    return [
        Search(cell, replicate, name, spec.table.families[serving[0].family], length, trials_at(spec, length), serving)
        for replicate in (replicates_of(spec) if replicates is None else replicates)
        for cell in chosen
        for (length, name), serving in served[cell.task]
    ]


def _served(spec: StudySpec) -> list[tuple[tuple[float, str], tuple[Contender, ...]]]:
    """Group the contenders by the searches that serve them: their family's with QMC, their own with TPE."""
    served: dict[tuple[float, str], list[Contender]] = {}
    for one in contenders(spec):
        for length in one.lengths:
            served.setdefault((length, search_name(spec, one)), []).append(one)
    return [(key, tuple(some)) for key, some in sorted(served.items(), key=lambda item: item[0][0])]


def search_name(spec: StudySpec, one: Contender) -> str:
    """Return the name of the searches that serve a contender: its family's when trajectories are shared."""
    return one.family if spec.search.sampler == "qmc" else one.role


def tune_job(spec: StudySpec, search: Search, trial: int, proposal: Proposal) -> Job:
    """Return the job that tries a proposal. All of a replicate train on one seed, so they are compared in pairs."""
    update = {"stage": "tune", "trial": trial, "search": search.name, "reads": kinds_read(search.contenders)}
    return _job(spec, search, proposal).model_copy(update=update)


def confirm_jobs(spec: StudySpec, some: Iterable[Search], selections: Iterable[Selection]) -> list[Job]:
    """Return the jobs that re-train the selected configurations on fresh seeds; contenders that agree share them.

    A loop tests one set of weights in a run, so its contenders share where they choose among the same kinds alone.

    With probes, the first seed of each replicate (every one, where there is one tuning) also says how sharp the last
    weights and the averages of the cell's own epochs are; the effort is the same for all weights of a cell. With
    features, those runs are described that re-train what the baseline at equal epochs has picked.

    Args:
        spec, selections: The study, and what validation picked in it.
        some: The searches, of one replicate of one cell and one name, that the selections come from.
    """
    by_length = {search.epochs_factor: search for search in some}
    loop = any(search.cell.task in spec.loops for search in by_length.values())
    readers: dict[tuple[float, Proposal, tuple[str, ...]], list[Selection]] = {}
    for chosen in selections:
        alone = chosen.reads if loop else ()
        readers.setdefault((chosen.epochs_factor, proposal_of(chosen), alone), []).append(chosen)
    jobs = []
    for (length, proposal, alone), reading in readers.items():
        search = by_length[length]
        kinds = alone or tuple(kind for chosen in reading for kind in chosen.reads)
        reads = tuple(dict.fromkeys(("last", *kinds)))
        described = any(
            chosen.contender == at_equal_epochs(spec, chosen.method).name
            for chosen in reading
            if spec.table.is_baseline(chosen.method)
        )
        for index, seed in enumerate(search.replicate.confirm):
            looked_at = not loop and length == 1 and (index == 0 or spec.one_tuning)
            probes = spec.probes and looked_at
            update = {
                "seed": seed,
                "reads": reads,
                "tested_of": alone,
                "probed": tuple(kind for kind in reads if kind != "best") if probes else (),
                "probe_evaluations": _probe_evaluations(spec, search) if probes else 0,
                "features": spec.features and looked_at and described,
            }
            jobs.append(_job(spec, search, proposal).model_copy(update=update))
    return jobs


def _probe_evaluations(spec: StudySpec, search: Search) -> int:
    """Return the gradient evaluations that probing one set of weights may take, the same for every method of a cell.

    It is a share of the cheapest run's, over the most weights that a run is probed for: how sharp weights look depends
    on how many examples are looked at, so a method that trains at twice the cost must not be probed on twice as many.
    """
    plain = _job(spec, search, Proposal(spec.search.learning_rate.low, 0.0, 0.5)).model_copy(
        update={"family": "base", "own_family": None, "epochs_factor": 1.0}
    )
    weights = max(Counter(spec.table[method].family for method in spec.methods).values())
    return max(LEAST_PROBE, int(spec.probe_budget * gradient_evaluations(plain) / weights))


def _job(spec: StudySpec, search: Search, proposal: Proposal) -> Job:
    kinds = {spec.table[method].weights for method in spec.methods}
    return Job(
        stage="confirm",
        cell=search.cell.name,
        task=search.cell.task,
        loop=search.cell.task in spec.loops,
        factors=dict(search.cell.factors),
        replicate=search.replicate.number,
        test_seed=search.replicate.test,
        family=search.family,
        own_family=None if search.family in FAMILIES else search.trajectory,
        own_methods={} if search.family in FAMILIES else spec.table.reading(search.family),
        epochs_factor=search.epochs_factor,
        **proposal._asdict(),
        average_starts=spec.average_starts,
        ema_decays=spec.ema_decays if "ema" in kinds else (),
        lawa_windows=spec.lawa_windows if "lawa" in kinds else (),
        seed=search.replicate.tune,
    )


def gradient_evaluations(job: Job, epochs: int | None = None) -> int:
    """Return the gradient evaluations of a job's training, or of its first epochs, in examples: known before it runs.

    Of an optimizer whose passes differ from step to step it is what its first steps make expect.
    """
    steps, what = steps_per_epoch(job) * (job.epochs if epochs is None else epochs), family_of(job)
    perturbed = max(0, steps - first_perturbed_step(job)) if what.rule and job.rho > 0 else 0
    passes = what.needs.passes if what.needs else 1
    return round(steps * passes + perturbed) * int(job.factors["batch_size"])


def steps_per_epoch(job: Job) -> int:
    """Return the optimizer steps of an epoch; the last, smaller batch is left out."""
    return int(job.factors["train_size"]) // int(job.factors["batch_size"])


def first_perturbed_step(job: Job) -> int:
    """Return the step, from 0, at which a job's family begins to perturb."""
    return int(family_of(job).perturb_from * steps_per_epoch(job) * job.epochs)


@dataclass(frozen=True, slots=True)
class StageSize:
    """Runs and gradient evaluations of one stage of one search: at least, at most."""

    search: Search
    stage: str
    runs: tuple[int, int]
    gradient_evaluations: tuple[int, int]


def sizes(spec: StudySpec, replicates: Iterable[Replicate] | None = None) -> list[StageSize]:
    """Return the size of every stage of every search before anything has run.

    The confirm stage is a range: contenders share a run when validation picks them the same configuration.
    """
    found = []
    for search in searches(spec, replicates):
        job = _typical_job(spec, search)
        cost = gradient_evaluations(job)
        least, most = confirm_runs(search)
        shortest = gradient_evaluations(job, min(spec.search.rungs(spec.average_starts, job.epochs), default=None))
        pruned = max(0, search.trials - BATCH)  # at most: the first batch always runs to its end
        tuning = ((search.trials - pruned) * cost + pruned * shortest, search.trials * cost)
        found.append(StageSize(search, "tune", (search.trials, search.trials), tuning))
        found.append(StageSize(search, "confirm", (least, most), (least * cost, most * cost)))
    return found


def confirm_runs(search: Search) -> tuple[int, int]:
    """Return the runs that confirm what a search has found, at least and at most.

    A contender that may use several lengths is counted where it costs most.
    """
    confirms = len(search.replicate.confirm)
    sure = any(one.lengths == (search.epochs_factor,) for one in search.contenders)
    possible = sum(one.lengths[-1] == search.epochs_factor for one in search.contenders)
    return confirms * sure, confirms * possible


def expected_cost(spec: StudySpec, search: Search) -> int:
    """Return the gradient evaluations of one run of a search that perturbs wherever its family does, and is not cut."""
    return gradient_evaluations(_typical_job(spec, search))


def _typical_job(spec: StudySpec, search: Search) -> Job:
    rho = spec.search.rho.low if spec.search.has_radius(search.family, search.trajectory) else 0.0
    return _job(spec, search, Proposal(spec.search.learning_rate.low, rho, 0.5))
