"""What runs of tasks and of loops have in common: a status, and what their records say beside the numbers."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from study.records import Job, Measurement, RunRecord
from study.specs.methods import methods_reading
from study.specs.tasks import is_own_task
from study.tasks.loop import LoopMetric
from study.tasks.source import source_of
from study.tasks.task import Metric
from study.training.brought import brought_by, sources_of, versions, versions_of
from study.training.tracebacks import user_traceback


class AnyRun:
    """A run of a job.

    Args:
        job: What to run.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        spec_hash: Goes into the record.
        device_ids: The accelerators that it was given, for the record.
    """

    def __init__(self, job: Job, device: str, spec_hash: str, *, device_ids: tuple[str, ...] = ()) -> None:
        self._job, self._device, self._spec_hash, self._device_ids = job, torch.device(device), spec_hash, device_ids
        self._status, self._error = "running", ""
        self._told: dict[str, Any] = {}  # of the task, once it is there

    def _tell(self, metric: Metric | LoopMetric, **more: Any) -> None:
        """Note what the task is scored by, what its code and the optimizer's are made of, and whatever else is told."""
        self._told = {
            "metric": metric.name,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "task_source": source_of(self._job.task) if is_own_task(self._job.task) else "",
            "own_sources": sources_of(brought_by(self._job)),
            **more,
        }

    def _fail(self, error: BaseException) -> None:
        self._status, self._error = "failed", user_traceback(error, self._job.task)

    def _record(
        self, measurements: Iterable[Measurement], origins: Mapping[str, str] | None = None, **found: Any
    ) -> RunRecord:
        """Return the record of the run, which has ended, with what its data are by task, and whatever else was found.

        One that failed has no measurements.
        """
        job = self._job
        return RunRecord.model_validate(
            {
                "run_id": job.run_id,
                "spec_hash": self._spec_hash,
                "job": job,
                "replicate": job.replicate,
                "method": methods_reading(job)["last"],
                "status": self._status,
                "error": self._error or None,
                "measurements": [] if self._status == "failed" else [*measurements],
                "device": "cpu" if self._device.type == "cpu" else torch.cuda.get_device_name(self._device),
                "device_ids": self._device_ids,
                "versions": versions() | versions_of(brought_by(job)) | dict(origins or {}),
                **self._told,
                **found,
            }
        )


def at_chance_level(
    job: Job, before: Iterable[Measurement], score: float, loss: float | None = None
) -> list[Measurement]:
    """Return what a diverged run stands for: guessing, with all of its weights; its curve is kept.

    Args:
        job: Of the run.
        before: What it had measured.
        score, loss: What somebody gets who learns nothing; the loss is None where nobody knows it.
    """
    splits = ("val", "test") if job.stage == "confirm" else ("val",)
    level: dict[str, Any] = {f"{split}_score": score for split in splits}
    if loss is not None:
        level |= {f"{split}_loss": loss for split in splits}
        level |= {"train_loss": loss, "train_score": score} if job.stage == "confirm" else {}
    final = [Measurement(weights=name, epoch=job.epochs, **level) for name in ("last", *job.averages)]
    if "best" in job.reads:
        final.append(Measurement(weights="best", epoch=job.epochs, weights_epoch=job.epochs, **level))
    return [one for one in before if one.epoch < job.epochs] + final
