"""Tune's view of the agenda: it asks for configurations and is told nothing, since records tell the agenda.

And what it asks of its scheduler: whether an actor may go that has nothing to do for a moment.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from study.engine.bare_ray import idle_actors_of
from study.engine.slots import Slots
from study.plan.agenda import Agenda
from study.records import Job


class StaysInTheDriver:
    """Tune pickles its parts for a restore that we do not use; what lives in the driver alone stays out of it."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class AgendaSearcher(StaysInTheDriver, Searcher):
    """Hands the agenda's jobs to Tune, in the agenda's order; a job that needs the cluster to itself goes first.

    Args:
        agenda: What to run.
        slots: What each run gets.
        clock: Seconds of a clock that never goes back.

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


class KeepsActors(FIFOScheduler):
    """First come, first served; and an actor that has nothing to do is kept for the runs to come.

    Tune stops the actor of a run that ends while no trial waits for it, as happens at the end of every last tune
    stage. The runs that come of it would wait for a new process, which imports torch for seconds; and one that is
    still importing holds up the study's end. While a run goes alone nothing is kept: it needs the whole cluster.

    Args:
        most: Actors that are kept at most; 0 leaves it to Tune.
    """

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray gives it no types
        self._most = most
        self._kept: Any = None  # the request for resources whose actors are kept
        self._cache: Any = None  # Tune's own

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Keep the actors of a run's kind from now on."""
        if self._kept is None and not trial.config["alone"]:
            self._cache = idle_actors_of(tune_controller)
            if self._cache:
                self._kept = trial.placement_group_factory
                self._cache.increase_max(self._kept, self._most)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Let the kept actors go where a run comes that has the cluster to itself."""
        if self._kept is not None and trial.config["alone"]:
            self._cache.decrease_max(self._kept, self._most)
            self._kept = None

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Choose none: Tune starts those that wait by itself.

        The first that waits, which is what "first come, first served" would choose, may have an actor that is about to
        start; given that of a run that has ended, its own would be stopped. Tune by itself does that only where no
        other trial waits.
        """
