"""Tune's view of the agenda: it asks for configurations and is told nothing, since records tell the agenda."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from study.engine.slots import Slots
from study.plan.agenda import Agenda
from study.records import Job


class StaysInTheDriver:
    """Tune pickles its parts for a restore that we do not use; what lives in the driver alone stays out of it."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class AgendaSearcher(StaysInTheDriver, Searcher):
    """Hands the agenda's jobs to Tune, in the agenda's order; a job that needs the cluster to itself goes first.

    Attributes:
        under_way: The job of every trial that was handed out and has not ended.
    """

    def __init__(self, agenda: Agenda, slots: Slots, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._agenda, self._slots, self._clock = agenda, slots, clock
        self._again: deque[Job] = deque()
        self._to_run_alone: deque[Job] = deque()
        self._alone: str | None = None  # the trial that has the cluster to itself
        self._went_alone = 0
        self._alone_from = -math.inf  # on the clock
        self.under_way: dict[str, Job] = {}

    def suggest(  # type: ignore[override]  # FINISHED is a string
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial; None while it must wait; FINISHED at the end."""
        if self.under_way and (self._alone or self._to_run_alone):
            return None
        if self._to_run_alone:
            if self._clock() < self._alone_from:
                return None
            job, self._alone = self._to_run_alone.popleft(), trial_id
            self._went_alone += 1
        elif self._again:
            job = self._again.popleft()
        elif (next_job := self._agenda.next_job()) is not None:
            job = next_job
        else:
            finished: str = Searcher.FINISHED
            return finished if self._agenda.finished else None
        self.under_way[trial_id] = job
        return {
            "job": job.model_dump(mode="json"),
            "cpus": self._slots.cpus,
            "gpus": self._slots.gpus,
            "alone": self._went_alone if self._alone == trial_id else 0,  # which of those that go alone it is
        }

    def ran_alone(self, trial_id: str) -> bool:
        """Whether a trial has the cluster to itself."""
        return self._alone == trial_id

    def end(self, trial_id: str) -> Job:
        """Take a trial off what is under way and return its job."""
        if self._alone == trial_id:
            self._alone = None
        return self.under_way.pop(trial_id)

    def again(self, job: Job) -> None:
        """Hand a job out once more, next of all."""
        self._again.append(job)

    def again_alone(self, job: Job, pause_s: float = 0.0) -> None:
        """Hand a job out once more, as soon as nothing else is under way.

        Args:
            job: The job.
            pause_s: Seconds, ≥ 0, in which nothing more is handed out.
        """
        self._to_run_alone.append(job)
        self._alone_from = self._clock() + pause_s

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: `Recorder` completes the agenda with the record."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the agenda is rebuilt from the records."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
