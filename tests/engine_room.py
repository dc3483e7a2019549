"""What the tests of the engine share: jobs of the faulty task, an agenda of given jobs, a diary of what happens."""

from collections.abc import Sequence
from pathlib import Path

from study.listeners.listener import Listener
from study.records import Job, RunRecord

FACTORS = {
    "train_size": 64, "epochs": 2, "batch_size": 32, "schedule": "constant", "momentum": 0.9, "weight_decay": 0.0,
    "ascent_batch": 25,
}  # fmt: skip


def faulty_job(marks: Path, seed: int, fault: str = "none") -> Job:
    """Return a job that breaks as it is told; two epochs of two batches."""
    return Job(
        stage="tune", cell="faulty", task="faulty:build", family="base", epochs_factor=1, learning_rate=0.1, rho=0,
        average_start=0.5, seed=seed, trial=seed, search="base",
        factors=FACTORS | {"fault": fault, "marks": str(marks)},
    )  # fmt: skip


class Jobs:
    """As much of an agenda as the engine needs: jobs in a given order."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting, self._open = list(jobs), {job.run_id for job in jobs}
        self.tasks = tuple(dict.fromkeys(job.task for job in jobs))

    def next_job(self) -> Job | None:
        return self._waiting.pop(0) if self._waiting else None

    @property
    def finished(self) -> bool:
        return not self._open

    def complete(self, record: RunRecord) -> None:
        self._open.remove(record.run_id)


class Diary(Listener):
    """Writes down what it is told: what, the seed of the run, and why or how it ended."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, str]] = []

    def started(self, job: Job) -> None:
        self.lines.append(("started", job.seed, ""))

    def retried(self, job: Job, why: str) -> None:
        self.lines.append(("retried", job.seed, why))

    def finished(self, record: RunRecord) -> None:
        self.lines.append(("finished", record.job.seed, record.status))

    def retries(self) -> list[tuple[int, str]]:
        return [(seed, why) for what, seed, why in self.lines if what == "retried"]


def run_jobs(
    jobs: Sequence[Job], storage: Path, *, gpus: float = 0, diary: Listener | None = None, **options: float
) -> dict[int, RunRecord]:
    """Run jobs two at a time in the Ray session that is joined, and return their records by seed."""
    from study.engine.drive import run_agenda  # noqa: PLC0415  # Ray takes seconds to import
    from study.engine.slots import Slots  # noqa: PLC0415

    records: dict[int, RunRecord] = {}
    agenda = Jobs(jobs)

    def take(record: RunRecord, weights: bytes) -> None:
        agenda.complete(record)
        records[record.job.seed] = record

    run_agenda(
        agenda, dict.fromkeys(agenda.tasks), name="test", spec_hash="0", slots=Slots(1, gpus, 2),
        storage=str(storage), take=take, listeners=[diary or Listener()], **options,
    )  # fmt: skip
    return records
