"""Actors that outlive a moment without work."""

from typing import Any

from ray.tune.schedulers import FIFOScheduler


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
        self._cache: Any = None  # Tune's own, which has no other way in

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Keep the actors of a run's kind from now on."""
        if self._kept is None and not trial.config["alone"]:
            self._cache, self._kept = tune_controller._actor_cache, trial.placement_group_factory
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
