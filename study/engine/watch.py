"""A watch over Ray, and over trials that give no sign of life: a hung kernel, a dead mount, a user's deadlock."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune

from study.engine.cluster import check_that_ray_lives
from study.engine.searcher import StaysInTheDriver


class HangWatch(StaysInTheDriver, tune.Callback):
    """Kills the actor of a trial that has not reported for too long; Tune then retries it, as any lost worker's.

    Tune has no timeout for a step: it waits for ever. A sign of life is the start, a report or a checkpoint.

    Args:
        limit_s: Seconds without a sign of life.
        clock: Seconds of a clock that never goes back.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._seen: dict[str, tuple[float, Any]] = {}
        self._killed: set[str] = set()

    def why(self, trial_id: str) -> str | None:
        """Return why this watch killed the trial's last worker, or None when it did not; asks once per kill."""
        if trial_id not in self._killed:
            return None
        self._killed.discard(trial_id)
        return f"it gave no sign of life for {self._limit_s:g} s (--hang-after)"

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Kill what is overdue; end the study where Ray itself is gone."""
        check_that_ray_lives()
        now = self._clock()
        for trial_id, (seen, trial) in list(self._seen.items()):
            if now - seen > self._limit_s:
                del self._seen[trial_id]
                self._killed.add(trial_id)
                ray.kill(trial.temporary_state.ray_actor)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._seen[trial.trial_id] = (self._clock(), trial)

    on_trial_result = on_trial_save = on_trial_start  # type: ignore[assignment]  # called with more keywords

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._seen.pop(trial.trial_id, None)

    on_trial_error = on_trial_recover = on_trial_complete
