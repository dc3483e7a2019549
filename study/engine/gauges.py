"""Live numbers of a study for Prometheus, through Ray's own exporter; ``study/deploy/grafana.json`` draws them."""

import time
from collections.abc import Callable

from ray.util.metrics import Gauge

from study.listeners.listener import Listener, Tally

_EVERY_S = 5.0  # Ray forgets a gauge that has not been set for some 20 s, and a run may take longer
# Ray puts "ray_" before each name on the Prometheus endpoint.
GAUGES = {
    "study_runs_planned": "Runs of the whole study, at most.",
    "study_runs_done": "Runs that have their record, whatever their end.",
    "study_runs_failed": "Runs that raised or whose worker was lost for good.",
    "study_runs_diverged": "Runs whose loss became non-finite.",
}


class Gauges(Listener):
    """Publishes a study's tally; to be made after Ray has started.

    Args:
        study: The study's name, a tag of every number.
        tally: What is counted; somebody else counts.
        clock: Seconds of a clock that never goes back.
    """

    def __init__(self, study: str, tally: Tally, clock: Callable[[], float] = time.monotonic) -> None:
        self._study, self._tally, self._clock = study, tally, clock
        self._gauges = {name: Gauge(name, text, ("study",)) for name, text in GAUGES.items()}
        self._publish()

    def tick(self) -> None:
        """Publish what is known now, now and then."""
        if self._clock() - self._published_at > _EVERY_S:
            self._publish()

    def _publish(self) -> None:
        self._published_at = self._clock()
        counts = {
            "study_runs_planned": self._tally.planned[1],
            "study_runs_done": self._tally.done,
            "study_runs_failed": self._tally.ended["failed"],
            "study_runs_diverged": self._tally.ended["diverged"],
        }
        for name, value in counts.items():
            self._gauges[name].set(value, {"study": self._study})
