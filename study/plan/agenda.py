"""The agenda: what to run next, given what has been measured. A pure state machine, without Ray.

It is fed records, whether they come from disk (a resumed study) or from a run that just ended, and hands out jobs.
A job whose record exists is never handed out, so resuming is nothing but feeding the records that are there.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from study.plan.cells import Search, confirm_jobs, expected_cost, searches, tune_job
from study.plan.halving import with_rungs
from study.plan.proposals import needed_outcomes, outcome_of, propose
from study.plan.selection import Selection, select
from study.records import Job, RunRecord
from study.specs.spec import StudySpec

_Made = tuple[str, Job]  # a job with its run id


@dataclass(slots=True)
class _Progress:
    """One search under way.

    Attributes:
        search, trials: What is searched, and how many trials it has.
        cost: Gradient evaluations of one of its runs, about.
        next_trial: The first trial whose job was not made yet.
        records: Its tune records by trial.
        passed_over: Tune jobs that were made while known records were matched with the plan, and have no record.
        selections: What validation picked, once it is tuned; confirm_ids: the runs that re-train it.
        confirmed: How many of these have ended.
    """

    search: Search
    trials: int
    cost: int
    next_trial: int = 0
    records: dict[int, RunRecord] = field(default_factory=dict)
    passed_over: deque[_Made] = field(default_factory=deque)
    selections: list[Selection] = field(default_factory=list)
    confirm_ids: set[str] = field(default_factory=set)
    confirmed: int = 0

    @property
    def tuned(self) -> bool:
        return len(self.records) == self.trials

    @property
    def exhausted(self) -> bool:
        """Every tune job was handed out or has a record."""
        return self.next_trial == self.trials and not self.passed_over

    def confirm_runs(self, seeds: int) -> tuple[int, int]:
        """Return the runs of the confirm stage, at least and at most; the two agree once the search is tuned."""
        confirms = len(self.confirm_ids)
        return (confirms, confirms) if self.tuned else (seeds, seeds * len(self.search.methods))


class Agenda:
    """Hands out the jobs of a study in an order that never idles a slot while there is work.

    Cells are worked through in the spec's order; a search's confirm jobs come as soon as its tune stage is over,
    before the tune jobs of later searches. A job is made when it is asked for, so a study of 100,000 runs is opened as
    fast as one of ten.

    Args:
        spec: The study.
        records: What is measured already.
    """

    def __init__(self, spec: StudySpec, records: Iterable[RunRecord] = ()) -> None:
        self._spec = spec
        self._known = {record.run_id: record for record in records}
        self._progress = [
            _Progress(search, spec.search.trials, expected_cost(spec, search)) for search in searches(spec)
        ]
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
        self._open_confirm_stage(progress)

    @property
    def finished(self) -> bool:
        """Every run of the plan has its record."""
        return not (self._open or self._confirm or self._handed_out)

    @property
    def planned(self) -> tuple[int, int]:
        """Runs of the whole study, at least and at most; the two agree once every search is tuned."""
        confirms = [progress.confirm_runs(self._spec.confirm_seeds) for progress in self._progress]
        trials = sum(progress.trials for progress in self._progress)
        return trials + sum(least for least, _ in confirms), trials + sum(most for _, most in confirms)

    @property
    def gradient_evaluations_left(self) -> int:
        """What the runs without a record cost, about, and at most."""
        return sum(
            progress.cost
            * (
                progress.trials
                - len(progress.records)
                + progress.confirm_runs(self._spec.confirm_seeds)[1]
                - progress.confirmed
            )
            for progress in self._progress
        )

    @property
    def records(self) -> list[RunRecord]:
        """All records that belong to the plan, in the order in which they were taken in."""
        return [self._known[run_id] for run_id in self._owner if run_id in self._known]

    @property
    def selections(self) -> list[Selection]:
        """The configurations that are frozen so far."""
        return [chosen for progress in self._progress for chosen in progress.selections]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the study needs."""
        return tuple(dict.fromkeys(progress.search.cell.task for progress in self._progress))

    def search_of(self, record: RunRecord) -> Search:
        """Return the search that a record of this plan belongs to."""
        return self._owner[record.run_id].search

    def records_with_searches(self) -> list[tuple[RunRecord, Search]]:
        """Return every record with the search that it belongs to."""
        return [(record, self.search_of(record)) for record in self.records]

    def _match_known(self) -> None:
        """Give the records that are there to their searches; only searches that have any are looked through."""
        begun = {_search_key(record.job) for record in self._known.values() if record.job.stage == "tune"}
        for progress in self._progress:
            search = progress.search
            if (search.cell.task, repr(search.cell.factors), search.name, search.epochs_factor) not in begun:
                continue
            unknown: deque[_Made] = deque()
            while made := self._make_tune_job(progress):
                unknown.append(made)
            progress.passed_over = unknown
            self._open_confirm_stage(progress)
        self._close_exhausted()

    def _next_tune_job(self) -> _Made | None:
        """Return the next tune job of the first search that has one now."""
        for progress in self._open:
            made = progress.passed_over.popleft() if progress.passed_over else self._make_tune_job(progress)
            if made is not None:
                if progress.exhausted:
                    self._close_exhausted()
                return made
        return None

    def _close_exhausted(self) -> None:
        self._open = deque(progress for progress in self._open if not progress.exhausted)

    def _make_tune_job(self, progress: _Progress) -> _Made | None:
        """Make the next tune job that has no record; None where there is none, or earlier results must come first."""
        space = self._spec.search
        while progress.next_trial < progress.trials:
            trial = progress.next_trial
            needed = needed_outcomes(space, trial)
            if any(earlier not in progress.records for earlier in range(needed)):
                return None
            records = [progress.records[earlier] for earlier in range(needed)]
            history = [outcome_of(progress.search.methods[-1], record) for record in records]
            job = tune_job(self._spec, progress.search, trial, propose(space, progress.search, trial, history))
            progress.next_trial += 1
            if made := self._entered(progress, with_rungs(self._spec, progress.search, job, records)):
                return made
        return None

    def _open_confirm_stage(self, progress: _Progress) -> None:
        """Make the confirm jobs of a search that is tuned."""
        if not progress.tuned or progress.confirm_ids:
            return
        records = [progress.records[trial] for trial in range(progress.trials)]
        chosen = [select(method, records, self._spec.search) for method in progress.search.methods]
        progress.selections = [selection for selection in chosen if selection is not None]
        for job in confirm_jobs(self._spec, progress.search, progress.selections):
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
    return job.task, repr(job.factors), job.search, job.epochs_factor
