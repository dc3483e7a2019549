"""The agenda: what to run next, given what has been measured. A pure state machine, without Ray.

It is fed records, whether they come from disk (a resumed study) or from a run that just ended, and hands out jobs.
A job whose record exists is never handed out, so resuming is nothing but feeding the records that are there.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from study.plan import Search, confirm_jobs, searches, tune_job
from study.proposals import needed_outcomes, outcome_of, propose
from study.records import Job, RunRecord
from study.selection import Selection, select
from study.spec import StudySpec


@dataclass(slots=True)
class _Progress:
    """One search under way: its tune records by trial, the next trial, and its confirm jobs once it is tuned."""

    search: Search
    trials: int
    next_trial: int = 0
    records: dict[int, RunRecord] = field(default_factory=dict)
    waiting: deque[Job] = field(default_factory=deque)
    selections: list[Selection] = field(default_factory=list)
    confirm_ids: set[str] = field(default_factory=set)

    @property
    def tuned(self) -> bool:
        return len(self.records) == self.trials


class Agenda:
    """Hands out the jobs of a study in an order that never idles a slot while there is work.

    Cells are worked through in the spec's order; a search's confirm jobs come as soon as its tune stage is over,
    before the tune jobs of later searches.

    Args:
        spec: The study.
        records: What is measured already, by run id.
    """

    def __init__(self, spec: StudySpec, records: Iterable[RunRecord] = ()) -> None:
        self._spec = spec
        self._known = {record.run_id: record for record in records}
        self._progress = [_Progress(search, spec.search.trials) for search in searches(spec)]
        self._owner: dict[str, _Progress] = {}
        self._handed_out: dict[str, Job] = {}
        self._ready: dict[str, deque[Job]] = {"confirm": deque(), "tune": deque()}
        for progress in self._progress:
            self._advance(progress)

    def next_job(self) -> Job | None:
        """Return a job to start now, or None when all that is left waits for runs under way (or nothing is left)."""
        for jobs in self._ready.values():
            if jobs:
                job = jobs.popleft()
                self._handed_out[job.run_id] = job
                return job
        return None

    def complete(self, record: RunRecord) -> None:
        """Take in the record of a job that was handed out; what waited for it becomes ready."""
        self._handed_out.pop(record.run_id, None)
        self._known[record.run_id] = record
        self._take_in(record)
        self._advance(self._owner[record.run_id])

    @property
    def finished(self) -> bool:
        """Every run of the plan has its record."""
        return not any(self._ready.values()) and not self._handed_out

    @property
    def planned(self) -> tuple[int, int]:
        """Runs of the whole study, at least and at most; the two agree once every search is tuned."""
        least = most = 0
        for progress in self._progress:
            seeds = self._spec.confirm_seeds
            confirms = len(progress.confirm_ids)
            least += progress.trials + (confirms if progress.tuned else seeds)
            most += progress.trials + (confirms if progress.tuned else seeds * len(progress.search.methods))
        return least, most

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

    def remaining(self) -> Iterator[Job]:
        """Yield the jobs that are ready or under way: what is known of the work left."""
        yield from self._handed_out.values()
        for jobs in self._ready.values():
            yield from jobs

    def search_of(self, record: RunRecord) -> Search:
        """Return the search that a record of this plan belongs to."""
        return self._owner[record.run_id].search

    def _advance(self, progress: _Progress) -> None:
        """Make ready what a search can start now; take in known records on the way."""
        for job in (*self._new_tune_jobs(progress), *self._new_confirm_jobs(progress)):
            self._ready[job.stage].append(job)

    def _new_tune_jobs(self, progress: _Progress) -> Iterator[Job]:
        space = self._spec.search
        while progress.next_trial < progress.trials:
            trial = progress.next_trial
            needed = needed_outcomes(space, trial)
            if any(earlier not in progress.records for earlier in range(needed)):
                return
            history = [outcome_of(progress.search.methods[-1], progress.records[earlier]) for earlier in range(needed)]
            job = tune_job(self._spec, progress.search, trial, propose(space, progress.search, trial, history))
            progress.next_trial += 1
            yield from self._unless_known(progress, job)

    def _new_confirm_jobs(self, progress: _Progress) -> Iterator[Job]:
        if not progress.tuned or progress.confirm_ids:
            return
        records = [progress.records[trial] for trial in range(progress.trials)]
        chosen = [select(method, records, self._spec.search) for method in progress.search.methods]
        progress.selections = [selection for selection in chosen if selection is not None]
        for job in confirm_jobs(self._spec, progress.search, progress.selections):
            progress.confirm_ids.add(job.run_id)
            yield from self._unless_known(progress, job)

    def _unless_known(self, progress: _Progress, job: Job) -> Iterator[Job]:
        self._owner[job.run_id] = progress
        if job.run_id in self._known:
            self._take_in(self._known[job.run_id])
        else:
            yield job

    def _take_in(self, record: RunRecord) -> None:
        if record.job.trial is not None:
            self._owner[record.run_id].records[record.job.trial] = record
