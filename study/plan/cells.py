"""The plan: from a spec to cells, searches and jobs. Pure and printable; nothing is trained here."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.plan.selection import Selection
from study.records import FactorValue, Job
from study.specs.methods import FAMILIES, METHODS, epochs_factor_of_baseline
from study.specs.spec import StudySpec, cell_factors

TUNE_SEED = 0
_LEAST_PROBE = 100  # gradient evaluations: fewer are not enough to probe three examples
FIRST_CONFIRM_SEED = 1000  # far from the tune seed: the two stages share no stream
BATCH = 4  # trials of a batch do not see each other's results, so they can run side by side
START_DECIMALS = 4  # finer than an epoch of any run; keeps names such as swa@0.6172 short


@dataclass(frozen=True, slots=True)
class Cell:
    """One problem setting: a task with all its factors fixed.

    ``name`` is the task and the factors that vary between the study's cells of that task, such as
    ``digits label_noise=0.3 schedule=cosine``; ``factors`` holds every factor.
    """

    name: str
    task: str
    factors: Mapping[str, FactorValue]


@dataclass(frozen=True, slots=True)
class Search:
    """One search for hyper-parameters in one cell: whose proposals they are and which methods they serve.

    With QMC the proposals do not depend on results, so a family's runs are shared: one base run answers for SGD
    and SWA. With TPE every method steers its own search. With an ``epochs_factor`` above 1 it is the baseline's
    search under equal gradient evaluations.
    """

    cell: Cell
    name: str
    family: str
    epochs_factor: float
    methods: tuple[str, ...]

    @property
    def key(self) -> str:
        """Unique name within the study; also names its Optuna studies."""
        longer = f" {self.epochs_factor:g}x epochs" if self.epochs_factor > 1 else ""
        return f"{self.cell.name} | {self.name}{longer}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """Hyper-parameters that a search wants tried; units as in `Job`."""

    learning_rate: float
    rho: float
    average_start: float
    weight_decay: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished trial as a search sees it.

    ``value`` is what is maximised, None for a trial that failed; ``pruned_at`` is the epoch at which it was stopped,
    where ``value`` is what it had reached, and None for one that ran to its end.
    """

    proposal: Proposal
    value: float | None
    pruned_at: int | None = None


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
        Cell(" ".join([task, *(f"{name}={factors[name]}" for name in varied[task])]), task, factors)
        for task, factors in settings
    ]


def _varied(siblings: Sequence[Mapping[str, FactorValue]]) -> list[str]:
    """Return the names of the factors that differ between the cells of one task."""
    return [name for name in siblings[0] if len({(type(own[name]), own[name]) for own in siblings}) > 1]


def searches(spec: StudySpec) -> list[Search]:
    """Return every search of the study, cell by cell."""
    return [search for cell in cells(spec) for search in _searches_of(cell, spec)]


def _searches_of(cell: Cell, spec: StudySpec) -> list[Search]:
    """Group the methods by the search that serves them: their family's with QMC, their own with TPE."""
    served: dict[tuple[float, str], list[str]] = {}
    for method in spec.methods:
        name = METHODS[method].family if spec.search.sampler == "qmc" else method
        for factor in epochs_factors(spec, method):
            served.setdefault((factor, name), []).append(method)
    return [
        Search(cell, name, METHODS[methods[0]].family, factor, tuple(methods))
        for (factor, name), methods in sorted(served.items(), key=lambda item: item[0][0])
    ]


def epochs_factors(spec: StudySpec, method: str) -> list[float]:
    """Return the multiples of the cell's epochs that a method is tuned at: 1, and for a baseline what others need."""
    held_against = [other for other in spec.methods if METHODS[other].baseline == method]
    needed = (epochs_factor_of_baseline(m, b, spec.reference_times) for m in held_against for b in spec.budgets)
    return sorted({1.0, *needed})


def tune_job(spec: StudySpec, search: Search, trial: int, proposal: Proposal) -> Job:
    """Return the job that tries a proposal. All proposals train on one seed, so they are compared in pairs."""
    return _job(spec, search.cell, search.family, search.epochs_factor, proposal).model_copy(
        update={"stage": "tune", "seed": TUNE_SEED, "trial": trial, "search": search.name}
    )


def confirm_jobs(spec: StudySpec, search: Search, selections: Iterable[Selection]) -> list[Job]:
    """Return the jobs that re-train the selected configurations on fresh seeds; methods that agree share them.

    A run measures the weights that stand for its methods, and the last ones beside them. With probes, it also says how
    sharp they are; the effort is the same for all weights of a cell.
    """
    probes = spec.probes and search.epochs_factor == 1
    standing: dict[Proposal, dict[str, None]] = {}  # an ordered set of weights
    for chosen in selections:
        configuration = Proposal(chosen.learning_rate, chosen.rho, chosen.average_start, chosen.weight_decay)
        standing.setdefault(configuration, {})[chosen.average or "last"] = None
    return [
        _job(spec, search.cell, search.family, search.epochs_factor, configuration).model_copy(
            update={
                "seed": FIRST_CONFIRM_SEED + index,
                "probed": tuple(weights) if probes else (),
                "measured": tuple(name for name in weights if name != "last"),
                "probe_evaluations": _probe_evaluations(spec, search.cell) if probes else 0,
            }
        )
        for configuration, weights in standing.items()
        for index in range(spec.confirm_seeds)
    ]


def _probe_evaluations(spec: StudySpec, cell: Cell) -> int:
    """Return the gradient evaluations that probing one set of weights may take, the same for every method of a cell.

    It is a share of the cheapest run's, over the most weights that a run is probed for: how sharp weights look depends
    on how many examples are looked at, so a method that trains at twice the cost must not be probed on twice as many.
    """
    plain = _job(spec, cell, "base", 1.0, Proposal(spec.search.learning_rate.low, 0.0, 0.5))
    weights = max(Counter(METHODS[method].family for method in spec.methods).values())
    return max(_LEAST_PROBE, int(spec.probe_budget * gradient_evaluations(plain) / weights))


def _job(spec: StudySpec, cell: Cell, family: str, epochs_factor: float, proposal: Proposal) -> Job:
    kinds = {METHODS[method].weights for method in spec.methods}
    return Job(
        stage="confirm",
        cell=cell.name,
        task=cell.task,
        factors=dict(cell.factors),
        family=family,
        epochs_factor=epochs_factor,
        learning_rate=proposal.learning_rate,
        rho=proposal.rho,
        average_start=proposal.average_start,
        weight_decay=proposal.weight_decay,
        average_starts=spec.average_starts,
        ema_decays=spec.ema_decays if "ema" in kinds else (),
        lawa_windows=spec.lawa_windows if "lawa" in kinds else (),
        seed=FIRST_CONFIRM_SEED,
    )


def gradient_evaluations(job: Job, epochs: int | None = None) -> int:
    """Return the gradient evaluations of a job's training, in examples: what it costs, known before it runs.

    Args:
        job: The job.
        epochs: Count this many first epochs alone; None counts them all.
    """
    steps = steps_per_epoch(job) * (job.epochs if epochs is None else epochs)
    perturbed = max(0, steps - first_perturbed_step(job)) if job.rho > 0 else 0
    return (steps + perturbed) * int(job.factors["batch_size"])


def steps_per_epoch(job: Job) -> int:
    """Return the optimizer steps of an epoch; the last, smaller batch is left out."""
    return int(job.factors["train_size"]) // int(job.factors["batch_size"])


def first_perturbed_step(job: Job) -> int:
    """Return the step, from 0, at which a job's family begins to perturb."""
    return int(FAMILIES[job.family].perturb_from * steps_per_epoch(job) * job.epochs)


@dataclass(frozen=True, slots=True)
class StageSize:
    """Runs and gradient evaluations of one stage of one search: at least, at most."""

    search: Search
    stage: str
    runs: tuple[int, int]
    gradient_evaluations: tuple[int, int]


def sizes(spec: StudySpec) -> list[StageSize]:
    """Return the size of every stage before anything has run.

    The confirm stage is a range: methods of one family share a run when validation picks them the same
    configuration.
    """
    found = []
    for search in searches(spec):
        job = _typical_job(spec, search)
        cost = gradient_evaluations(job)
        least, most = spec.confirm_seeds, spec.confirm_seeds * len(search.methods)
        trials = spec.search.trials
        shortest = gradient_evaluations(job, min(spec.search.rungs(spec.average_starts, job.epochs), default=None))
        pruned = max(0, trials - BATCH)  # at most: the first batch always runs to its end
        tuning = ((trials - pruned) * cost + pruned * shortest, trials * cost)
        found.append(StageSize(search, "tune", (trials, trials), tuning))
        found.append(StageSize(search, "confirm", (least, most), (least * cost, most * cost)))
    return found


def expected_cost(spec: StudySpec, search: Search) -> int:
    """Return the gradient evaluations of one run of a search that perturbs wherever its family does, and is not cut."""
    return gradient_evaluations(_typical_job(spec, search))


def _typical_job(spec: StudySpec, search: Search) -> Job:
    rho = spec.search.rho.low if FAMILIES[search.family].rule else 0.0
    proposal = Proposal(spec.search.learning_rate.low, rho, 0.5)
    return _job(spec, search.cell, search.family, search.epochs_factor, proposal)
