"""The plan: from a spec to cells, searches and jobs. Pure and printable; nothing is trained here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from study.methods import BASELINE, METHODS, Family
from study.records import FactorValue, Job
from study.selection import Selection
from study.spec import StudySpec, cell_factors

TUNE_SEED = 0
FIRST_CONFIRM_SEED = 1000  # far from the tune seed: the two stages share no stream


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
    and SWA. With TPE every method steers its own search. ``epochs_factor`` 2 is the baseline's search under equal
    gradient evaluations.
    """

    cell: Cell
    name: str
    family: Family
    epochs_factor: int
    methods: tuple[str, ...]

    @property
    def key(self) -> str:
        """Unique name within the study; also names its Optuna studies."""
        longer = f" {self.epochs_factor}x epochs" if self.epochs_factor > 1 else ""
        return f"{self.cell.name} | {self.name}{longer}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """Hyper-parameters that a search wants tried; units as in `Job`."""

    learning_rate: float
    rho: float
    average_start: float


def cells(spec: StudySpec) -> list[Cell]:
    """Return the study's cells in the spec's order; equal ones stand once."""
    by_content = {
        repr((problem.task, factors)): (problem.task, factors)
        for problem in spec.problems
        for factors in cell_factors(problem)
    }
    settings = list(by_content.values())
    return [Cell(_name(task, factors, settings), task, factors) for task, factors in settings]


def _name(
    task: str, factors: Mapping[str, FactorValue], settings: Iterable[tuple[str, Mapping[str, FactorValue]]]
) -> str:
    siblings = [other for other_task, other in settings if other_task == task]
    varied = [name for name in factors if len({repr(other[name]) for other in siblings}) > 1]
    return " ".join([task, *(f"{name}={factors[name]}" for name in varied)])


def searches(spec: StudySpec) -> list[Search]:
    """Return every search of the study, cell by cell."""
    return [search for cell in cells(spec) for search in _searches_of(cell, spec)]


def _searches_of(cell: Cell, spec: StudySpec) -> list[Search]:
    needs_longer_baseline = "G" in spec.budgets and any(METHODS[name].gradients_per_step == 2 for name in spec.methods)
    found = (
        [Search(cell, name, METHODS[name].family, 1, (name,)) for name in spec.methods]
        if spec.search.sampler == "tpe"
        else _shared_searches(cell, spec)
    )
    if needs_longer_baseline:
        family = METHODS[BASELINE].family
        name = BASELINE if spec.search.sampler == "tpe" else family
        found.append(Search(cell, name, family, 2, (BASELINE,)))
    return found


def _shared_searches(cell: Cell, spec: StudySpec) -> list[Search]:
    families = dict.fromkeys(METHODS[name].family for name in spec.methods)
    return [
        Search(cell, family, family, 1, tuple(m for m in spec.methods if METHODS[m].family == family))
        for family in families
    ]


def tune_job(spec: StudySpec, search: Search, trial: int, proposal: Proposal) -> Job:
    """Return the job that tries a proposal. All proposals train on one seed, so they are compared in pairs."""
    return _job(spec, search.cell, search.family, search.epochs_factor, proposal).model_copy(
        update={"stage": "tune", "seed": TUNE_SEED, "trial": trial, "search": search.name}
    )


def confirm_jobs(spec: StudySpec, search: Search, selections: Iterable[Selection]) -> list[Job]:
    """Return the jobs that re-train the selected configurations on fresh seeds; methods that agree share them."""
    configurations = dict.fromkeys(
        Proposal(chosen.learning_rate, chosen.rho, chosen.average_start) for chosen in selections
    )
    return [
        _job(spec, search.cell, search.family, search.epochs_factor, configuration).model_copy(
            update={"seed": FIRST_CONFIRM_SEED + index}
        )
        for configuration in configurations
        for index in range(spec.confirm_seeds)
    ]


def _job(spec: StudySpec, cell: Cell, family: Family, epochs_factor: int, proposal: Proposal) -> Job:
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
        average_starts=spec.average_starts,
        seed=FIRST_CONFIRM_SEED,
    )


def gradient_evaluations(job: Job) -> int:
    """Return the gradient evaluations of a job's training, in examples: what it costs, known before it runs."""
    batch = int(job.factors["batch_size"])
    steps = int(job.factors["train_size"]) // batch * job.epochs
    passes = 2 if job.rho > 0 else 1
    return steps * batch * passes


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
        rho = spec.search.rho.low if search.family == "sam" else 0.0
        job = _job(
            spec,
            search.cell,
            search.family,
            search.epochs_factor,
            Proposal(spec.search.learning_rate.low, rho, 0.5),
        )
        cost = gradient_evaluations(job)
        least, most = spec.confirm_seeds, spec.confirm_seeds * len(search.methods)
        trials = spec.search.trials
        found.append(StageSize(search, "tune", (trials, trials), (trials * cost, trials * cost)))
        found.append(StageSize(search, "confirm", (least, most), (least * cost, most * cost)))
    return found
