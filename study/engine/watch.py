"""A watch over Ray, and over trials that have come to a stand: a hung kernel, a dead mount, a user's deadlock.

Slow is not hung. On a machine that others use, too, the same work takes any length of time, and so does an epoch that
is long; but it uses the CPU. A trial that waits for what never comes uses none.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.engine import bare_ray
from study.engine.ray_health import check_that_ray_lives, vital_parts
from study.engine.searcher import StaysInTheDriver

BUSY_FACTOR = 10  # a trial that uses the CPU has so many times the limit until its next sign of life
_LOOKS = 8  # at the CPU time of a trial that gives no sign of life, within the limit
# Of a core: in a worker that waits Ray's own threads use 0.002. Little more is work, since Ray's workers are nice to
# others: two busy processes on their core leave them 0.017.
_IDLE_S, _IDLE_SHARE = 0.05, 0.005


@dataclass(slots=True)
class _Watched:
    """A trial, and in seconds of the watch: its last sign of life, and when it was last seen to use the CPU."""

    trial: Any
    told_s: float
    moved_s: float
    next_look_s: float
    cpu_s: float | None = None  # what it had used when it was last seen to use it
    look: Future[float] | None = None


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process and of all that it has started, in seconds."""
    import psutil  # noqa: PLC0415  # Ray brings it, and `import ray` puts it on the path

    parent = psutil.Process(process)
    spent = 0.0
    for one in (parent, *parent.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:  # it has just ended, and its parent's sum holds it
            continue
        spent += times.user + times.system + times.children_user + times.children_system
    return spent


def cpu_seconds_of(actor: Any) -> Future[float]:
    """Return the CPU time of an actor, once its node has told it: this process asks no other node to wait."""
    process, node = bare_ray.place_of(actor)
    if node != ray.get_runtime_context().get_node_id():
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked = ray.remote(num_cpus=0)(cpu_seconds).options(scheduling_strategy=there).remote(process)
        answer: Future[float] = asked.future()
        return answer
    here: Future[float] = Future()
    here.set_result(cpu_seconds(process))
    return here


class HangWatch(StaysInTheDriver, tune.Callback):
    """Kills the actor of a trial that has come to a stand; Tune then retries it, as any lost worker's.

    Tune has no timeout for a step: it waits for ever. A sign of life is the start, a report or a checkpoint. A trial
    that gives none is asked for its CPU time now and then, and is killed when that has stood still for the limit. One
    that uses the CPU, in a long epoch or in a loop without an end, has `BUSY_FACTOR` times the limit. So has one whose
    CPU time can't be found out.

    Args:
        limit_s: Seconds without a sign of life and without CPU time.
        clock: Seconds of a clock that never goes back.
        cpu_seconds_of: Returns the CPU time of an actor, which may come later.
    """

    def __init__(
        self,
        limit_s: float,
        clock: Callable[[], float] = time.monotonic,
        cpu_seconds_of: Callable[[Any], Future[float]] = cpu_seconds_of,
    ) -> None:
        self._limit_s, self._clock, self._cpu_seconds_of = limit_s, clock, cpu_seconds_of
        self._looked_up_s, self._now_s = clock(), 0.0
        self._watched: dict[str, _Watched] = {}
        self._killed: dict[str, str] = {}
        self._ray = vital_parts()

    def why(self, trial_id: str) -> str | None:
        """Return why this watch killed the trial's last worker, or None when it did not; asks once per kill."""
        return self._killed.pop(trial_id, None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Kill what is overdue; end the study where Ray itself is gone."""
        check_that_ray_lives(self._ray)
        now_s = self._time()
        for trial_id, one in list(self._watched.items()):
            why, actor = self._overdue(one, now_s), bare_ray.actor_of(one.trial)
            if why and actor:
                del self._watched[trial_id]
                self._killed[trial_id] = why
                ray.kill(actor)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        now_s = self._time()
        self._watched[trial.trial_id] = _Watched(trial, now_s, now_s, now_s + self._limit_s / _LOOKS)

    on_trial_result = on_trial_save = on_trial_start  # type: ignore[assignment]  # called with more keywords

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watched.pop(trial.trial_id, None)

    on_trial_error = on_trial_recover = on_trial_complete

    def _time(self) -> float:
        """Return the seconds for which this watch has been awake: a driver that stood still has heard no report."""
        before_s, self._looked_up_s = self._looked_up_s, self._clock()
        self._now_s += min(self._looked_up_s - before_s, self._limit_s / _LOOKS)
        return self._now_s

    def _overdue(self, one: _Watched, now_s: float) -> str | None:
        """Return why a trial has to be killed, or None while it need not be."""
        if one.look is None and now_s >= one.next_look_s:
            one.look = self._look(one.trial)
        if one.look is not None and one.look.done():
            cpu_s = one.look.result() if one.look.exception() is None else None
            one.look, one.next_look_s = None, now_s + self._limit_s / _LOOKS
            if cpu_s is None or one.cpu_s is None or self._moved(cpu_s - one.cpu_s, now_s - one.moved_s):
                one.cpu_s, one.moved_s = cpu_s, now_s
            elif now_s - one.moved_s >= self._limit_s:
                return f"it gave no sign of life for {self._limit_s:g} s (--hang-after)"
        if now_s - one.told_s >= BUSY_FACTOR * self._limit_s:
            return f"it was busy for {BUSY_FACTOR * self._limit_s:g} s without a report ({BUSY_FACTOR} × --hang-after)"
        return None

    def _look(self, trial: Any) -> Future[float]:
        try:
            return self._cpu_seconds_of(bare_ray.actor_of(trial))
        except Exception as error:  # Ray's parts may be on their way out; that is another's to tell
            unknown: Future[float] = Future()
            unknown.set_exception(error)
            return unknown

    @staticmethod
    def _moved(cpu_s: float, in_s: float) -> bool:
        return cpu_s > _IDLE_S + _IDLE_SHARE * in_s
