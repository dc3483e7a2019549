"""Loops of a user's own, tried in miniature: every family, both stages, and whether they can be gone on with.

A loop sees few examples where it reads ``train_size`` and ``batch_size``, and is told that it is a trial; what it does
besides is its own. What it reports in it says which weights a study of it may read.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from study.data.pool import TaskError
from study.plan.cells import Cell, Search, gradient_evaluations, tune_job
from study.plan.proposals import propose
from study.records import Job, Measurement, RunRecord, kind_of
from study.specs.contenders import Contender, kinds_read
from study.specs.methods import family_of
from study.specs.spec import StudySpec
from study.tasks.loop import LoopError
from study.tasks.own import Handed
from study.training.checkpoint import CheckpointError
from study.training.loops import LoopRun
from study.training.miniature import SMALL, STILL, MiniatureError, in_miniature, quietly, reason_of
from study.training.stand_ins import shown

_SLOW_S = 5.0  # of the first run in miniature: then the runs of the confirm stage are fewer
_LONG_S = 60.0  # of all of them: worth a note
_OF_THE_PLAN = ("train_size", "batch_size")  # they say what a run costs, whether the loop reads them or not
_COUNTED = 0.1  # share by which a count may differ from the plan's without a note


@dataclass(slots=True)
class LoopTrials:
    """What a loop has done in miniature.

    Attributes:
        kinds: Kinds of weights that it reports, of those that the study reads.
        read: What it has read of what is searched.
        records: By cell, family and stage, a run that reported as many weights as any.
        runs: All of them, by their id and what is read of them: none is made twice without need.
        notes: A sentence each.
        seconds: That they took.
        slow: It takes long even in miniature.
    """

    kinds: tuple[str, ...] = ()
    read: set[str] = field(default_factory=set)
    records: dict[tuple[str, str, str], RunRecord] = field(default_factory=dict)
    runs: dict[tuple[str, tuple[str, ...]], LoopRun] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    slow: bool = False


def try_loop(spec: StudySpec, some: Sequence[tuple[Cell, Sequence[Search]]], factors: dict[str, Handed]) -> LoopTrials:
    """Try a loop in some of its cells.

    Args:
        spec: The study.
        some: The cells, each with its searches of the first replicate.
        factors: By cell, its factors; what is read of them is remembered there.

    Raises:
        LoopError, MiniatureError: the first thing that is wrong.
    """
    found = LoopTrials()
    began = time.perf_counter()
    enough = shown([cell for cell, _ in some], 0)
    for cell, of_cell in some:
        if found.slow and cell not in enough:
            continue  # each value of each factor is tried, and not each of their combinations
        families: dict[str, list[Search]] = {}
        for search in of_cell:
            families.setdefault(search.family, []).append(search)
        if not found.kinds:
            found.kinds = _kinds_of(spec, cell, families, found, factors[cell.name])
            _check_repeats(spec, cell, families, found)
        for family, searches in families.items():
            for job in _jobs(spec, searches, found):
                run = _run(job, found, factors[cell.name])
                kept = found.records.get((cell.name, family, job.stage))
                if kept is None or len(job.reads) > len(kept.job.reads):
                    found.records[cell.name, family, job.stage] = run.record()
        _check_families(spec, cell, found)
    found.seconds = time.perf_counter() - began
    _check_read(spec, some[0][0].task, found)
    if found.seconds > _LONG_S:
        found.notes.append(
            f"task = {some[0][0].task!r} took {found.seconds:.0f} s in miniature; it may do less where trial.miniature "
            "is true."
        )
    return found


def _kinds_of(
    spec: StudySpec, cell: Cell, families: dict[str, list[Search]], found: LoopTrials, factors: Handed
) -> tuple[str, ...]:
    """Return the kinds of weights that a loop reports, of all that its families are asked for.

    Raises:
        LoopError: a row of the study would never have its weights.
    """
    reported: dict[str, set[str]] = {}
    for family, searches in families.items():
        job = _tune_job(spec, searches, kinds_read(_contenders(searches)))
        began = time.perf_counter()
        run = _once(job, found, factors)
        if not reported:
            found.slow = time.perf_counter() - began > _SLOW_S
        if run.record().status == "diverged":
            run = _once(job.model_copy(update={"learning_rate": STILL}), found, factors)
            if run.record().status == "diverged":
                raise LoopError(
                    f"task = {cell.task!r} reported a score that is not finite for {family}, in miniature, with a "
                    "learning rate of next to nothing; mend the data, or what is reported, until it is a number"
                )
        trial = run.trial
        if trial is None or (run.failure and not (trial.returned and trial.missing)):
            raise _refusal(job, run)
        missing = set(trial.missing)
        reported[family] = {*job.reads} - missing
        for kind in sorted(missing - {"best"}):
            rows = [one.method for one in _contenders(searches) if kind in one.reads] or [family]
            raise LoopError(
                f"task = {cell.task!r} never reports weights of the kind {kind!r} at its last epoch, in miniature; "
                f"{', '.join(dict.fromkeys(rows))} would have none: report {_such_as(trial.weights, kind)} with "
                f"epoch = trial.epochs - 1{'' if kind == 'last' else ', or leave that method out'}"
            )
    if len({"best" in kinds for kinds in reported.values()}) > 1:
        without = ", ".join(family for family, kinds in reported.items() if "best" not in kinds)
        raise LoopError(
            f"task = {cell.task!r} reports weights 'best' of some trajectories and not of {without}; keep a checkpoint "
            "for all of them or for none, because all methods choose among the same"
        )
    kinds = tuple(dict.fromkeys(kind for some in reported.values() for kind in ("last", *sorted(some))))
    if not {*spec.weights} & {*kinds}:
        raise LoopError(
            f"weights = {list(spec.weights)} was given, and task = {cell.task!r} never reports weights 'best' in "
            'miniature; keep a checkpoint and report it, or write weights = ["last"]'
        )
    return kinds


def _such_as(names: Iterable[str], kind: str) -> str:
    return " or ".join(repr(name) for name in names if kind_of(name) == kind)


def _jobs(spec: StudySpec, searches: Sequence[Search], found: LoopTrials) -> Iterator[Job]:
    """Yield the jobs of a family: one that tunes for all that it serves, and a test for each kind of choice."""
    offered = tuple(kind for kind in kinds_read(_contenders(searches)) if kind in found.kinds)
    tuned = _tune_job(spec, searches, offered)
    yield tuned
    choices = dict.fromkeys(tuple(kind for kind in one.reads if kind in found.kinds) for one in _contenders(searches))
    some = sorted((kinds for kinds in choices if kinds), key=len)
    for kinds in some[-1:] if found.slow else some:
        update = {
            "stage": "confirm", "seed": searches[0].replicate.confirm[0], "trial": None, "search": "",
            "reads": tuple(dict.fromkeys(("last", *kinds))), "tested_of": kinds,
        }  # fmt: skip
        yield tuned.model_copy(update=update)


def _tune_job(spec: StudySpec, searches: Sequence[Search], reads: tuple[str, ...]) -> Job:
    """Return the first job of a family, perturbed where it perturbs, small."""
    search = searches[0]
    space = spec.search.model_copy(update={"sampler": "qmc", "unperturbed_share": 0.0})
    job = tune_job(spec, search, 0, propose(space, search, 0, []))
    return in_miniature(job.model_copy(update={"reads": reads, "loop": True}), SMALL)


def _contenders(searches: Iterable[Search]) -> tuple[Contender, ...]:
    return tuple(dict.fromkeys(one for search in searches for one in search.contenders))


def _once(job: Job, found: LoopTrials, factors: Handed | None = None) -> LoopRun:
    """Run a job to its end, unless that was done."""
    key = job.run_id, job.reads
    if key not in found.runs:
        found.runs[key] = _begun(job, found, factors)
    return found.runs[key]


def _begun(job: Job, found: LoopTrials, factors: Handed | None = None) -> LoopRun:
    """Run a job to its end, whatever that is."""
    small = Handed(job.factors)
    run = LoopRun(job, "cpu", "", miniature=True, factors=small)
    with quietly():
        run.advance()
    if factors is not None:
        factors.read |= small.read
    found.read |= run.trial.read if run.trial else set()
    return run


def _run(job: Job, found: LoopTrials, factors: Handed | None = None) -> LoopRun:
    """Run a job, which has to succeed.

    Raises:
        LoopError, MiniatureError: it does not.
    """
    run = _once(job, found, factors)
    if run.failure:
        raise _refusal(job, run)
    if run.record().status == "diverged" and job.rho == 0 and job.stage == "tune":
        found.notes += [
            f"task = {job.task!r} diverged in miniature (a score that is not finite) at a learning rate of "
            f"{job.learning_rate:.2g}."
        ]
    return run


def _refusal(job: Job, run: LoopRun, doing: str = "") -> TaskError | MiniatureError:
    """Return what a run in miniature failed with, as a sentence."""
    if isinstance(run.failure, TaskError):
        return run.failure
    trace = run.record().error or ""
    where = f"in miniature, {doing or f'the {job.stage} stage of {job.family}'} in the cell {job.cell!r}"
    return MiniatureError(where, reason_of(trace.strip()), trace)


def _check_repeats(spec: StudySpec, cell: Cell, families: dict[str, list[Search]], found: LoopTrials) -> None:
    """See that a seed decides what is reported, and that a run which is interrupted ends like one that is not."""
    searches = next(iter(families.values()))
    job = next(_jobs(spec, searches, found))
    first, again = _run(job, found), _begun(job, found)
    if _told(first) != _told(again):
        found.notes.append(
            f"task = {cell.task!r} was run twice with one seed, and reported other scores: methods are compared on "
            "equal seeds, which then says less; draw everything from trial.seed."
        )
    else:
        _check_resumes(job, first, found)
    others = (job.model_copy(update={"seed": seed}) for seed in (searches[0].replicate.confirm[0], 1, 2))
    if all(_told(_run(other, found)) == _told(first) for other in others):
        raise LoopError(
            f"task = {cell.task!r} was run with four seeds in miniature, and reported the same scores; draw the split, "
            "the initial weights and the order from trial.seed, because the spread between seeds is what a verdict is "
            "judged by (where the score of a few examples is coarse, report val_loss, too)"
        )


def _check_resumes(job: Job, whole: LoopRun, found: LoopTrials) -> None:
    """Make sure that what a loop saves brings back the same numbers; one that saves nothing starts anew.

    Raises:
        LoopError: it does not.
    """
    with quietly():
        run = LoopRun(job, "cpu", "", miniature=True)
        try:
            while not run.advance(0.0):
                if run.resumable:
                    state = run.state()
                    run.end()
                    run = LoopRun(job, "cpu", "", miniature=True)
                    run.restore(state)
                    break
            else:
                return
            run.advance()
        except CheckpointError as error:
            raise LoopError(
                f"{job.task}: what trial.save was given can't be read again ({error}); give tensors, numbers, texts, "
                "bytes, lists and dicts"
            ) from error
    if run.failure:
        raise _refusal(job, run, "going on from what the loop had saved,")
    if _told(run) != _told(whole):
        raise LoopError(
            f"{job.task}: a run was interrupted after it had saved, in miniature, went on, and reported other scores "
            "than one that was not interrupted; save and restore all of it (weights, optimizer, averages, schedule, "
            "counts, and the states of random numbers), or leave trial.save out: an interrupted run starts anew then"
        )


def _told(run: LoopRun) -> tuple[tuple[Measurement, ...], int]:
    record = run.record()
    return record.measurements, record.gradient_evaluations


def _check_families(spec: StudySpec, cell: Cell, found: LoopTrials) -> None:
    """Make sure that families differ, and that none of them costs more than the ceiling of the study allows."""
    runs = {family: record for (name, family, stage), record in found.records.items()
            if (name, stage) == (cell.name, "tune") and record.status == "completed"}  # fmt: skip
    seen: dict[tuple[object, ...], str] = {}
    for family, record in runs.items():
        last = [(one.epoch, one.val_score, one.val_loss) for one in record.measurements if one.weights == "last"]
        other = seen.setdefault((record.gradient_evaluations, *last), family)
        if other != family:
            raise LoopError(
                f"task = {cell.task!r} reported the same numbers and the same gradient evaluations for the "
                f"trajectories {other!r} and {family!r}, in miniature; do what trial.method says "
                "(trial.build_optimizer does), and where the score of a few examples is coarse, report val_loss, too"
            )
    for method in spec.methods:
        base, own = (spec.table[name].family for name in (spec.table[method].baseline, method))
        if "G" in spec.budgets and {base, own} <= runs.keys():
            spent, allowed = (runs[family].gradient_evaluations for family in (own, base))
            if spent > 1.01 * spec.gradient_ceiling * allowed:
                raise LoopError(
                    f"task = {cell.task!r} reported {spent} gradient evaluations for {method} in miniature, and "
                    f"{allowed} for {spec.table[method].baseline}; gradient_ceiling = {spec.gradient_ceiling:g} allows "
                    f"{spec.gradient_ceiling * allowed:g}: mend the count, raise the ceiling, or leave budget G or the "
                    "method out"
                )
    plain = next((record for record in runs.values() if family_of(record.job).rule is None), None)
    if plain and not any("plans" in note for note in found.notes):
        told, planned = plain.gradient_evaluations, gradient_evaluations(plain.job)
        if abs(told - planned) > _COUNTED * planned:
            found.notes.append(
                f"task = {cell.task!r} reported {told} gradient evaluations in miniature, where the spec plans "
                f"{planned} (whole batches of factors.batch_size out of factors.train_size examples, by the epoch): "
                "what the study costs is planned by the spec."
            )


def _check_read(spec: StudySpec, task: str, found: LoopTrials) -> None:
    """Make sure that what is proposed is read: else the search would be over something else.

    Raises:
        LoopError: it is not.
    """
    families = {spec.table[name].family: spec.table.family_of(name) for name in spec.methods}
    wanted = {
        "learning_rate": True,
        "rho": any(record.job.rho > 0 for record in found.records.values()),
        "schedule": any(family.schedule for family in families.values()),
        "method": len(families) > 1,
        "weight_decay": spec.search.weight_decay is not None,
    }
    for name, searched in wanted.items():
        if searched and name not in found.read:
            raise LoopError(
                f"task = {task!r} never reads trial.{name}, in miniature, which its study is about: train with it, or "
                "let trial.build_optimizer do so"
            )


def check_factors(task: str, given: Iterable[str], cells: Sequence[tuple[str, Handed]]) -> None:
    """Make sure that every factor that a spec gives a loop is read, and that no two cells are the same.

    Raises:
        LoopError: a factor would be in the names of cells and nowhere else.
    """
    read = set[str]().union({"epochs"}, *(handed.read for _, handed in cells))
    varied = {name for name in _OF_THE_PLAN if len({dict.get(handed, name) for _, handed in cells}) > 1}
    unread = [
        name for name in dict.fromkeys(given) if name not in read and (name not in _OF_THE_PLAN or name in varied)
    ]
    if unread:
        raise LoopError(
            f"task = {task!r} was given {', '.join(f'factors.{name}' for name in unread)}, which its loop never reads: "
            f"read trial.factors[{unread[0]!r}] and do what it says, or leave it out of the spec, because nothing else "
            "does and cells would differ in their names alone"
        )
