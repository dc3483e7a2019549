"""The agenda: what to run next, given what has been measured. A pure state machine, without Ray.

It is fed records, whether they come from disk (a resumed study) or from a run that just ended, and hands out jobs,
replicate by replicate. A job whose record exists is never handed out, so resuming is nothing but feeding the records
that are there.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from study.plan.cells import Search, confirm_jobs, confirm_runs, expected_cost, searches, tune_job
from study.plan.halving import with_rungs
from study.plan.proposals import needed_outcomes, outcome_of, propose
from study.plan.replicates import replicate_of
from study.plan.selection import Selection, select
from study.records import Job, RunRecord
from study.specs.spec import StudySpec

_Made = tuple[str, Job]  # a job with its run id


@dataclass(slots=True)
class _Progress:
    """One search under way.

    Attributes:
        search: What is searched.
        cost: Gradient evaluations of one of its runs, about.
        next_trial: The first trial whose job was not made yet.
        records: Its tune records by trial.
        passed_over: Tune jobs that were made while known records were matched with the plan, and have no record.
        confirm_ids: The runs that re-train what it has found; confirmed: how many of these have ended.
    """

    search: Search
    cost: int
    next_trial: int = 0
    records: dict[int, RunRecord] = field(default_factory=dict)
    passed_over: deque[_Made] = field(default_factory=deque)
    confirm_ids: set[str] = field(default_factory=set)
    confirmed: int = 0

    @property
    def tuned(self) -> bool:
        return len(self.records) == self.search.trials

    @property
    def exhausted(self) -> bool:
        """Every tune job was handed out or has a record."""
        return self.next_trial == self.search.trials and not self.passed_over

    @property
    def in_order(self) -> list[RunRecord]:
        return [self.records[trial] for trial in range(self.search.trials)]


@dataclass(slots=True)
class _Tuning:
    """The searches whose lengths some contenders choose between: of one name, in one replicate of one cell.

    Attributes:
        parts: The searches, by ascending length.
        selections: What validation picked, once all of them are tuned.
    """

    parts: list[_Progress] = field(default_factory=list)
    selections: list[Selection] | None = None

    @property
    def tuned(self) -> bool:
        return all(part.tuned for part in self.parts)


class Agenda:
    """Hands out the jobs of a study in an order that never idles a slot while there is work.

    Replicates are worked through one after the other, and in each the cells in the spec's order; confirm jobs come as
    soon as the searches that they rest on are over, before the tune jobs of later searches. A job is made when it is
    asked for, so a study of 100,000 runs is opened as fast as one of ten.

    Args:
        spec, records: The study, and what is measured of it already.
        replicates: Numbers of the replicates to run; None: all that the spec plans.
    """

    def __init__(
        self, spec: StudySpec, records: Iterable[RunRecord] = (), replicates: Iterable[int] | None = None
    ) -> None:
        self.spec = spec
        self._known = {record.run_id: record for record in records}
        chosen = None if replicates is None else [replicate_of(spec, number) for number in replicates]
        costs: dict[tuple[str, str, float], int] = {}  # the same in every replicate
        self._progress: list[_Progress] = []
        self._tunings: dict[tuple[int, str, str], _Tuning] = {}
        for search in searches(spec, chosen):
            kind = search.cell.name, search.name, search.epochs_factor
            if kind not in costs:
                costs[kind] = expected_cost(spec, search)
            progress = _Progress(search, costs[kind])
            self._progress.append(progress)
            self._tunings.setdefault(_tuning_key(search), _Tuning()).parts.append(progress)
        self._open = deque(self._progress)
        self._owner: dict[str, _Progress] = {}
        self._handed_out: set[str] = set()
        self._confirm: deque[_Made] = deque()
        self._match_known()

    def next_job(self) -> Job | None:
        """Return a job to start now, or None when all that is left waits for runs under way (or nothing is left)."""
        made = self._confirm.popleft() if self._confirm else self._next_tune_job()
        if made is None:
            return None
        self._handed_out.add(made[0])
        return made[1]

    def complete(self, record: RunRecord) -> None:
        """Take in the record of a job that was handed out; what waited for it becomes ready."""
        self._handed_out.discard(record.run_id)
        self._known[record.run_id] = record
        progress = self._owner[record.run_id]
        self._take_in(progress, record)
        self._open_confirm_stage(self._tunings[_tuning_key(progress.search)])

    @property
    def finished(self) -> bool:
        """Every run of the plan has its record."""
        return not (self._open or self._confirm or self._handed_out)

    @property
    def planned(self) -> tuple[int, int]:
        """Runs of the whole study, at least and at most; the two agree once every search is tuned."""
        confirms = [self._confirm_runs(progress) for progress in self._progress]
        trials = sum(progress.search.trials for progress in self._progress)
        return trials + sum(least for least, _ in confirms), trials + sum(most for _, most in confirms)

    def _confirm_runs(self, progress: _Progress) -> tuple[int, int]:
        if self._tunings[_tuning_key(progress.search)].selections is None:
            return confirm_runs(progress.search)
        return len(progress.confirm_ids), len(progress.confirm_ids)

    @property
    def gradient_evaluations_left(self) -> int:
        """What the runs without a record cost, about, and at most."""
        return sum(
            progress.cost
            * (progress.search.trials - len(progress.records) + self._confirm_runs(progress)[1] - progress.confirmed)
            for progress in self._progress
        )

    @property
    def numbers(self) -> frozenset[int]:
        """Numbers of the replicates that are to be run."""
        return frozenset(progress.search.replicate.number for progress in self._progress)

    @property
    def replicates(self) -> tuple[int, int]:
        """Replicates that are whole, and those that are to be run."""
        left = {p.search.replicate.number for p in self._progress if not self._whole(p)}
        return len(self.numbers - left), len(self.numbers)

    def _whole(self, progress: _Progress) -> bool:
        tuning = self._tunings[_tuning_key(progress.search)]
        return tuning.selections is not None and progress.confirmed == len(progress.confirm_ids)

    @property
    def records(self) -> list[RunRecord]:
        """All records that belong to the plan, in the order in which they were taken in."""
        return [self._known[run_id] for run_id in self._owner if run_id in self._known]

    @property
    def selections(self) -> list[Selection]:
        """The configurations that are frozen so far."""
        return [chosen for tuning in self._tunings.values() for chosen in tuning.selections or ()]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the study needs."""
        return tuple(dict.fromkeys(progress.search.cell.task for progress in self._progress))

    def search_of(self, record: RunRecord) -> Search:
        """Return the search that a record of this plan belongs to."""
        return self._owner[record.run_id].search

    def _match_known(self) -> None:
        """Give the records that are there to their searches; only searches that have any are looked through."""
        begun = {_search_key(record.job) for record in self._known.values() if record.job.stage == "tune"}
        for progress in self._progress:
            search = progress.search
            key = search.replicate.number, search.cell.task, repr(search.cell.factors), search.name
            if (*key, search.epochs_factor) not in begun:
                continue
            unknown: deque[_Made] = deque()
            while made := self._make_tune_job(progress):
                unknown.append(made)
            progress.passed_over = unknown
        for tuning in self._tunings.values():
            self._open_confirm_stage(tuning)
        self._close_exhausted()

    def _next_tune_job(self) -> _Made | None:
        """Return the next tune job of the first search that has one now, or what that search has come to."""
        for progress in self._open:
            made = progress.passed_over.popleft() if progress.passed_over else self._make_tune_job(progress)
            if progress.exhausted:
                self._close_exhausted()
            if made is not None:
                return made
            # The records of its last trials may have been there before those that they had to wait for.
            self._open_confirm_stage(self._tunings[_tuning_key(progress.search)])
            if self._confirm:
                return self._confirm.popleft()
        return None

    def _close_exhausted(self) -> None:
        self._open = deque(progress for progress in self._open if not progress.exhausted)

    def _make_tune_job(self, progress: _Progress) -> _Made | None:
        """Make the next tune job that has no record; None where there is none, or earlier results must come first."""
        space, search = self.spec.search, progress.search
        while progress.next_trial < search.trials:
            trial = progress.next_trial
            needed = needed_outcomes(space, trial)
            if any(earlier not in progress.records for earlier in range(needed)):
                return None
            records = [progress.records[earlier] for earlier in range(needed)]
            history = [outcome_of(search.contenders[-1], record) for record in records]
            job = tune_job(self.spec, search, trial, propose(space, search, trial, history))
            progress.next_trial += 1
            if made := self._entered(progress, with_rungs(self.spec, search, job, records)):
                return made
        return None

    def _open_confirm_stage(self, tuning: _Tuning) -> None:
        """Make the confirm jobs of what is tuned."""
        if tuning.selections is not None or not tuning.tuned:
            return
        tuning.selections = []
        for one in dict.fromkeys(one for part in tuning.parts for one in part.search.contenders):
            serving = [part for part in tuning.parts if part.search.epochs_factor in one.lengths]
            records = [record for part in serving for record in part.in_order]
            if chosen := select(one, records, self.spec.search):
                tuning.selections.append(chosen)
        by_length = {part.search.epochs_factor: part for part in tuning.parts}
        for job in confirm_jobs(self.spec, [part.search for part in tuning.parts], tuning.selections):
            progress = by_length[job.epochs_factor]
            progress.confirm_ids.add(job.run_id)
            if made := self._entered(progress, job):
                self._confirm.append(made)

    def _entered(self, progress: _Progress, job: Job) -> _Made | None:
        """Enter a job in the plan; return it with its run id, or take its record in if there is one.

        A record that lacks weights is none: a study that has grown by a method needs more of the same run.
        """
        run_id = job.run_id  # a hash of all that it holds: made once
        self._owner[run_id] = progress
        known = self._known.get(run_id)
        if known and known.job.measures(job):
            self._take_in(progress, known)
            return None
        return run_id, job

    @staticmethod
    def _take_in(progress: _Progress, record: RunRecord) -> None:
        if record.job.trial is not None:
            progress.records[record.job.trial] = record
        else:
            progress.confirmed += 1


def _search_key(job: Job) -> tuple[object, ...]:
    return job.replicate, job.task, repr(job.factors), job.search, job.epochs_factor


def _tuning_key(search: Search) -> tuple[int, str, str]:
    return search.replicate.number, search.cell.name, search.name
