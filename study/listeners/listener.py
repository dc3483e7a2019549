"""Who wants to know what happens while a study runs: the display, the gauges, the trackers of experiments.

With what they share: a running tally of how many runs ended how, and a run's name and numbers as trackers want them.
"""

from collections import Counter
from collections.abc import Callable

from study.plan.agenda import Agenda
from study.records import METRICS, Job, RunRecord


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


class Careful(Listener):
    """Passes on to a listener until that fails: it may cost itself and one line, never the study.

    Args:
        listener: Whatever it raises ends here.
        name: What it is, for the line.
        warn: Told that line.
    """

    def __init__(self, listener: Listener, name: str, warn: Callable[[str], None]) -> None:
        self._listener, self._name, self._warn = listener, name, warn
        self._well = True

    @classmethod
    def made(cls, make: Callable[[], Listener], name: str, warn: Callable[[str], None]) -> "Careful":
        """Make a listener; one that can't be made has failed already."""
        try:
            return cls(make(), name, warn)
        except Exception as error:  # any of theirs
            warn(f"{name} failed and is left out; the study goes on: {reason(error)}")
            return cls(Listener(), name, warn)

    def started(self, job: Job) -> None:
        self._pass_on(lambda: self._listener.started(job))

    def retried(self, job: Job, why: str) -> None:
        self._pass_on(lambda: self._listener.retried(job, why))

    def noted(self, job: Job, what: str) -> None:
        self._pass_on(lambda: self._listener.noted(job, what))

    def finished(self, record: RunRecord) -> None:
        self._pass_on(lambda: self._listener.finished(record))

    def tick(self) -> None:
        self._pass_on(self._listener.tick)

    def close(self) -> None:
        """Close the listener, also one that has failed."""
        well, self._well = self._well, True
        self._pass_on(self._listener.close, tell=well)
        self._well &= well

    def _pass_on(self, call: Callable[[], None], *, tell: bool = True) -> None:
        if not self._well:
            return
        try:
            call()
        except Exception as error:  # any of theirs
            self._well = False
            if tell:
                self._warn(f"{self._name} failed and is left alone from now on; the study goes on: {reason(error)}")


def reason(error: BaseException) -> str:
    """Return an error's first line, or what kind it is where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Tally:
    """Counts records as they come; the display draws it, the gauges publish it.

    Attributes:
        ended: Runs by status.
        by_stage: Runs by stage, and by training length where that is not the cell's own: ``tune at 2×``.
    """

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.ended: Counter[str] = Counter()
        self.by_stage: Counter[str] = Counter()
        for record in agenda.records:
            self.count(record)

    @property
    def done(self) -> int:
        """Runs that have a record."""
        return self.ended.total()

    @property
    def planned(self) -> tuple[int, int]:
        """Runs of the whole study, at least and at most."""
        return self._agenda.planned

    def count(self, record: RunRecord) -> None:
        """Take in one record."""
        self.ended[record.status] += 1
        self.by_stage[stage_words(record.job)] += 1


def stage_words(job: Job) -> str:
    """Return a run's stage, with its training length where that is not the cell's own: ``tune``, ``tune at 2×``."""
    return job.stage if job.epochs_factor == 1 else f"{job.stage} at {job.epochs_factor:g}×"


def run_name(record: RunRecord) -> str:
    """Return ``<family>-<stage>-<run_id>``."""
    return f"{record.job.family.replace(' ', '-')}-{record.job.stage}-{record.run_id}"


def metric_values(record: RunRecord) -> list[tuple[str, int, float]]:
    """Return what a run measured as ``(<metric>/<weights>, epoch, value)``, such as ``val_score/swa-0.75``.

    The names are valid for TensorBoard, Weights & Biases and MLflow alike.
    """
    return [
        (f"{metric}/{measurement.weights.replace('@', '-')}", measurement.epoch, value)
        for measurement in record.measurements
        for metric in METRICS
        if (value := getattr(measurement, metric)) is not None
    ]
