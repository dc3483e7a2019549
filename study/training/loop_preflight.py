"""Loops of a user's own, tried in miniature: every family, both stages, and whether they can be gone on with.

A loop sees few examples where it reads ``train_size`` and ``batch_size``, and is told that it is a trial; what it does
besides is its own. What it reports in it says which weights a study of it may read.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from study.data.pool import TaskError
from study.plan.cells import Cell, Search, gradient_evaluations
from study.records import Job, Measurement, RunRecord, kind_of
from study.specs.contenders import Contender, kinds_read
from study.specs.methods import family_of
from study.specs.spec import StudySpec
from study.tasks.loop import LoopError
from study.tasks.own import Handed
from study.training.checkpoint import CheckpointError
from study.training.loops import LoopRun
from study.training.miniature import (
    SMALL,
    STILL,
    Families,
    MiniatureError,
    first_job,
    in_miniature,
    quietly,
    reason_of,
)  # fmt: skip
from study.training.stand_ins import shown

_SLOW_S = 5.0  # of the first run in miniature: then the runs of the confirm stage are fewer
_LONG_S = 60.0  # of all of them: worth a note
_OF_THE_PLAN = ("train_size", "batch_size")  # they say what a run costs, whether the loop reads them or not
_COUNTED = 0.1  # share by which a count may differ from the plan's without a note


class LoopTrials:
    """Tries a loop in miniature.

    Args:
        spec: The study.
        planned: All cells of the loop.

    Attributes:
        kinds: Kinds of weights that it reports, of those that the study reads.
        records: By cell, family and stage, a run that reported as many weights as any.
        notes: What the user should know, a sentence each.
    """

    def __init__(self, spec: StudySpec, planned: Sequence[Cell]) -> None:
        self._spec, self._task = spec, planned[0].task
        self.kinds: tuple[str, ...] = ()
        self.records: dict[tuple[str, str, str], RunRecord] = {}
        self.notes: list[str] = []
        self._factors = {cell.name: Handed(cell.factors) for cell in planned}  # remember what is read of them
        self._read: set[str] = set()  # of what is searched
        self._runs: dict[
            tuple[str, tuple[str, ...]], LoopRun
        ] = {}  # by id and what is read of them: none is made twice
        self._slow = False

    def try_cells(self, some: Sequence[tuple[Cell, Families]]) -> None:
        """Try the loop in some of its cells, each given with its searches of the first replicate.

        Raises:
            LoopError, MiniatureError: the first thing that is wrong.
        """
        began = time.perf_counter()
        enough = shown([cell for cell, _ in some], 0)
        for cell, families in some:
            if self._slow and cell not in enough:
                continue  # each value of each factor is tried, and not each of their combinations
            if not self.kinds:
                self.kinds = self._kinds_of(families)
                self._check_repeats(next(iter(families.values())))
            for family, searches in families.items():
                for job in self._jobs(searches):
                    record = self._run(job).record()
                    kept = self.records.get((cell.name, family, job.stage))
                    if kept is None or len(job.reads) > len(kept.job.reads):
                        self.records[cell.name, family, job.stage] = record
            self._check_families(cell)
        self._check_read()
        self._check_factors()
        if (seconds := time.perf_counter() - began) > _LONG_S:
            self.notes.append(
                f"task = {self._task!r} took {seconds:.0f} s in miniature; it may do less where trial.miniature is "
                "true."
            )

    def _kinds_of(self, families: Families) -> tuple[str, ...]:
        """Return the kinds of weights that the loop reports, of all that its families are asked for.

        Raises:
            LoopError: a row of the study would never have its weights.
        """
        reported: dict[str, set[str]] = {}
        for family, searches in families.items():
            job = self._tune_job(searches, kinds_read(_contenders(searches)))
            began = time.perf_counter()
            run = self._ended(job)
            if not reported:
                self._slow = time.perf_counter() - began > _SLOW_S
            if run.record().status == "diverged":
                run = self._ended(job.model_copy(update={"learning_rate": STILL}))
                if run.record().status == "diverged":
                    raise LoopError(
                        f"task = {self._task!r} reported a score that is not finite for {family}, in miniature, with a "
                        "learning rate of next to nothing; mend the data, or what is reported, until it is a number"
                    )
            trial = run.trial
            if trial is None or (run.failure and not (trial.returned and trial.missing)):
                raise _refusal(job, run)
            missing = set(trial.missing)
            reported[family] = {*job.reads} - missing
            for kind in sorted(missing - {"best"}):
                rows = [one.method for one in _contenders(searches) if kind in one.reads] or [family]
                such_as = " or ".join(repr(name) for name in trial.weights if kind_of(name) == kind)
                raise LoopError(
                    f"task = {self._task!r} never reports weights of the kind {kind!r} at its last epoch, in "
                    f"miniature; {', '.join(dict.fromkeys(rows))} would have none: report {such_as} with "
                    f"epoch = trial.epochs - 1{'' if kind == 'last' else ', or leave that method out'}"
                )
        if len({"best" in kinds for kinds in reported.values()}) > 1:
            without = ", ".join(family for family, kinds in reported.items() if "best" not in kinds)
            raise LoopError(
                f"task = {self._task!r} reports weights 'best' of some trajectories and not of {without}; keep a "
                "checkpoint for all of them or for none, because all methods choose among the same"
            )
        kinds = tuple(dict.fromkeys(kind for some in reported.values() for kind in ("last", *sorted(some))))
        if not {*self._spec.weights} & {*kinds}:
            raise LoopError(
                f"weights = {list(self._spec.weights)} was given, and task = {self._task!r} never reports weights "
                "'best' in miniature; keep a checkpoint and report it, or write weights = [\"last\"]"
            )
        return kinds

    def _jobs(self, searches: Sequence[Search]) -> Iterator[Job]:
        """Yield the jobs of a family: one that tunes for all that it serves, and a test for each kind of choice."""
        served = _contenders(searches)
        tuned = self._tune_job(searches, tuple(kind for kind in kinds_read(served) if kind in self.kinds))
        yield tuned
        choices = dict.fromkeys(tuple(kind for kind in one.reads if kind in self.kinds) for one in served)
        some = sorted((kinds for kinds in choices if kinds), key=len)
        for kinds in some[-1:] if self._slow else some:
            update = {
                "stage": "confirm", "seed": searches[0].replicate.confirm[0], "trial": None, "search": "",
                "reads": tuple(dict.fromkeys(("last", *kinds))), "tested_of": kinds,
            }  # fmt: skip
            yield tuned.model_copy(update=update)

    def _tune_job(self, searches: Sequence[Search], reads: tuple[str, ...]) -> Job:
        """Return the first job of a family, perturbed where it perturbs, small."""
        job = first_job(self._spec, searches[0])
        return in_miniature(job.model_copy(update={"reads": reads, "loop": True}), SMALL)

    def _ended(self, job: Job) -> LoopRun:
        """Run a job to its end, whatever that is, unless that was done."""
        key = job.run_id, job.reads
        if key not in self._runs:
            self._runs[key] = self._run_anew(job)
        return self._runs[key]

    def _run_anew(self, job: Job) -> LoopRun:
        small = Handed(job.factors)
        run = LoopRun(job, "cpu", "", miniature=True, factors=small)
        with quietly():
            run.advance()
        self._factors[job.cell].read |= small.read
        self._read |= run.trial.read if run.trial else set()
        return run

    def _run(self, job: Job) -> LoopRun:
        """Run a job, which has to succeed.

        Raises:
            LoopError, MiniatureError: it does not.
        """
        run = self._ended(job)
        if run.failure:
            raise _refusal(job, run)
        if run.record().status == "diverged" and job.rho == 0 and job.stage == "tune":
            self.notes.append(
                f"task = {job.task!r} diverged in miniature (a score that is not finite) at a learning rate of "
                f"{job.learning_rate:.2g}."
            )
        return run

    def _check_repeats(self, searches: Sequence[Search]) -> None:
        """See that a seed decides what is reported, and that a run which is interrupted ends like one that is not."""
        job = next(self._jobs(searches))
        first = self._run(job)
        if _told(first) != _told(self._run_anew(job)):
            self.notes.append(
                f"task = {self._task!r} was run twice with one seed, and reported other scores: methods are compared "
                "on equal seeds, which then says less; draw everything from trial.seed."
            )
        else:
            _check_resumes(job, first)
        others = (job.model_copy(update={"seed": seed}) for seed in (searches[0].replicate.confirm[0], 1, 2))
        if all(_told(self._run(other)) == _told(first) for other in others):
            raise LoopError(
                f"task = {self._task!r} was run with four seeds in miniature, and reported the same scores; draw the "
                "split, the initial weights and the order from trial.seed, because the spread between seeds is what a "
                "verdict is judged by (where the score of a few examples is coarse, report val_loss, too)"
            )

    def _check_families(self, cell: Cell) -> None:
        """Make sure that families differ, and that none of them costs more than the ceiling of the study allows."""
        spec = self._spec
        runs = {family: record for (name, family, stage), record in self.records.items()
                if (name, stage) == (cell.name, "tune") and record.status == "completed"}  # fmt: skip
        seen: dict[tuple[object, ...], str] = {}
        for family, record in runs.items():
            last = [(one.epoch, one.val_score, one.val_loss) for one in record.measurements if one.weights == "last"]
            other = seen.setdefault((record.gradient_evaluations, *last), family)
            if other != family:
                raise LoopError(
                    f"task = {self._task!r} reported the same numbers and the same gradient evaluations for the "
                    f"trajectories {other!r} and {family!r}, in miniature; do what trial.method says "
                    "(trial.build_optimizer does), and where the score of a few examples is coarse, report val_loss, "
                    "too"
                )
        for method in spec.methods:
            base, own = (spec.table[name].family for name in (spec.table[method].baseline, method))
            if "G" in spec.budgets and {base, own} <= runs.keys():
                spent, allowed = (runs[family].gradient_evaluations for family in (own, base))
                if spent > 1.01 * spec.gradient_ceiling * allowed:
                    raise LoopError(
                        f"task = {self._task!r} reported {spent} gradient evaluations for {method} in miniature, and "
                        f"{allowed} for {spec.table[method].baseline}; gradient_ceiling = {spec.gradient_ceiling:g} "
                        f"allows {spec.gradient_ceiling * allowed:g}: mend the count, raise the ceiling, or leave "
                        "budget G or the method out"
                    )
        plain = next((record for record in runs.values() if family_of(record.job).rule is None), None)
        if plain and not any("plans" in note for note in self.notes):
            told, planned = plain.gradient_evaluations, gradient_evaluations(plain.job)
            if abs(told - planned) > _COUNTED * planned:
                self.notes.append(
                    f"task = {self._task!r} reported {told} gradient evaluations in miniature, where the spec plans "
                    f"{planned} (whole batches of factors.batch_size out of factors.train_size examples, by the "
                    "epoch): what the study costs is planned by the spec."
                )

    def _check_read(self) -> None:
        """Make sure that what is proposed is read: else the search would be over something else."""
        table, methods = self._spec.table, self._spec.methods
        wanted = {
            "learning_rate": True,
            "rho": any(record.job.rho > 0 for record in self.records.values()),
            "schedule": any(table.family_of(name).schedule for name in methods),
            "method": len({table[name].family for name in methods}) > 1,
            "weight_decay": self._spec.search.weight_decay is not None,
        }
        for name, searched in wanted.items():
            if searched and name not in self._read:
                raise LoopError(
                    f"task = {self._task!r} never reads trial.{name}, in miniature, which its study is about: train "
                    "with it, or let trial.build_optimizer do so"
                )

    def _check_factors(self) -> None:
        """Make sure that every factor that the spec gives is read: else cells would differ in their names alone."""
        given = [name for problem in self._spec.problems if problem.task == self._task for name in problem.factors]
        cells = self._factors.values()
        read = {"epochs"}.union(*(handed.read for handed in cells))
        read |= {name for name in _OF_THE_PLAN if len({dict.get(handed, name) for handed in cells}) == 1}
        if unread := [name for name in dict.fromkeys(given) if name not in read]:
            raise LoopError(
                f"task = {self._task!r} was given {', '.join(f'factors.{name}' for name in unread)}, which its loop "
                f"never reads: read trial.factors[{unread[0]!r}] and do what it says, or leave it out of the spec, "
                "because nothing else does and cells would differ in their names alone"
            )


def _contenders(searches: Iterable[Search]) -> tuple[Contender, ...]:
    return tuple(dict.fromkeys(one for search in searches for one in search.contenders))


def _told(run: LoopRun) -> tuple[tuple[Measurement, ...], int]:
    record = run.record()
    return record.measurements, record.gradient_evaluations


def _refusal(job: Job, run: LoopRun, doing: str = "") -> TaskError | MiniatureError:
    """Return what a run in miniature failed with, as a sentence."""
    if isinstance(run.failure, TaskError):
        return run.failure
    trace = run.record().error or ""
    where = f"in miniature, {doing or f'the {job.stage} stage of {job.family}'} in the cell {job.cell!r}"
    return MiniatureError(where, reason_of(trace.strip()), trace)


def _check_resumes(job: Job, whole: LoopRun) -> None:
    """Make sure that what a loop saves brings back the same numbers; one that saves nothing starts anew.

    Raises:
        LoopError: it does not.
    """
    with quietly():
        run = LoopRun(job, "cpu", "", miniature=True)
        while not run.resumable:
            if run.advance(0.0):
                return
        state = run.state()
        run.end()
        run = LoopRun(job, "cpu", "", miniature=True)
        try:
            run.restore(state)
        except CheckpointError as error:
            raise LoopError(
                f"{job.task}: what trial.save was given can't be read again ({error}); give tensors, numbers, texts, "
                "bytes, lists and dicts"
            ) from error
        run.advance()
    if run.failure:
        raise _refusal(job, run, "going on from what the loop had saved,")
    if _told(run) != _told(whole):
        raise LoopError(
            f"{job.task}: a run was interrupted after it had saved, in miniature, went on, and reported other scores "
            "than one that was not interrupted; save and restore all of it (weights, optimizer, averages, schedule, "
            "counts, and the states of random numbers), or leave trial.save out: an interrupted run starts anew then"
        )
