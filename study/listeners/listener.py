"""Who wants to know what happens while a study runs: the display, the gauges, the trackers of experiments."""

from study.records import Job, RunRecord


class Listener:
    """Called in the driver's main thread, in order; a listener overrides what it cares about."""

    def started(self, job: Job) -> None:
        """A run has a worker."""

    def retried(self, job: Job, why: str) -> None:
        """A run lost its worker, or was out of memory, and is tried again."""

    def noted(self, job: Job, what: str) -> None:
        """Something happened to a run that does not stop it."""

    def finished(self, record: RunRecord) -> None:
        """A run ended, in whatever way, and its record is written."""

    def tick(self) -> None:
        """Time passed; called a few times a second."""

    def close(self) -> None:
        """The study ended or was interrupted."""
