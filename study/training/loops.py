"""From a `Job` to its `RunRecord` where a loop of the user's own trains: the counterpart of `study.training.trial`.

The loop is called once and reports when it pleases. It works in a thread of its own that stands still between two
reports while its process answers Ray, so a long one can be watched and, if it saves, be continued like any other run.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from study.records import Job, Measurement, RunRecord
from study.specs.methods import family_of, methods_reading
from study.streams import torch_seed
from study.tasks.loop import Loop, LoopMetric, Reports, StopTraining, Trial, TrialMethod, load_loop
from study.tasks.own import Handed
from study.tasks.seeded import seeded
from study.tasks.source import source_of
from study.training.brought import brought_by, schedule_for, sources_of, versions_of
from study.training.building import build_averages, build_optimizer
from study.training.checkpoint import read_checkpoint, write_checkpoint
from study.training.measure import dumped, loaded
from study.training.tracebacks import user_traceback
from study.training.turns import Turns
from study.training.versions import versions

_UNKNOWN = LoopMetric("score", math.nan)  # of a loop that could not be read


class LoopRun:
    """One run of a loop, which can be interrupted where it saves.

    Args:
        job: What to run.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        spec_hash: Goes into the record.
        device_ids: The accelerators that it was given, for the record.
        miniature: Told to the loop: a few steps on a few examples will do.
        factors: The job's, if somebody wants to know which of them are read.
    """

    def __init__(
        self,
        job: Job,
        device: str,
        spec_hash: str,
        *,
        device_ids: tuple[str, ...] = (),
        miniature: bool = False,
        factors: Handed | None = None,
    ) -> None:
        self._job, self._device, self._spec_hash, self._device_ids = job, device, spec_hash, device_ids
        self._miniature = miniature
        self._factors = Handed(job.factors) if factors is None else factors
        self._metric, self._source = _UNKNOWN, ""
        self._sources: dict[str, str] = {}
        self._status, self._error = "running", ""
        self._reports, self._saved = Reports(), None
        self.trial: Trial | None = None
        self.failure: BaseException | None = None
        self._turns = Turns(self._work)
        self._until, self._wall_s = math.inf, 0.0
        self._state: dict[str, Any] | None = None  # where it stands, if it can be saved there
        self._saves = False

    def advance(self, seconds: float = math.inf) -> bool:
        """Let the loop work until it reports or saves after about ``seconds``; return whether the run has ended.

        A loop that saves stands still where it has saved.
        """
        began = time.perf_counter()
        self._until, self._state = began + seconds, None
        try:
            return self._turns.go_on()
        finally:
            self._wall_s += time.perf_counter() - began

    @property
    def resumable(self) -> bool:
        """Whether the loop has saved where it stands."""
        return self._state is not None

    def state(self) -> bytes:
        """Return what the run needs to go on; where it `resumable` only."""
        assert self._state is not None
        return write_checkpoint(self._job.run_id, self._state | {"wall_s": self._wall_s})

    def restore(self, state: bytes) -> None:
        """Begin where `state` was taken; before the first `advance` only.

        Raises:
            CheckpointError: it is damaged, or of another run or version; the run is as it was.
        """
        held = read_checkpoint(self._job.run_id, state, torch.device(self._device))
        reports = held["reports"] | {"measurements": tuple(map(loaded, held["reports"]["measurements"]))}
        self._reports, self._saved, self._wall_s = Reports(**reports), held["saved"], held["wall_s"]

    def end(self) -> None:
        """End a run that stands still, and is not gone on with."""
        if self.trial:
            self.trial.end("abandoned")
            self._turns.go_on()

    def record(self) -> RunRecord:
        """Return the record of a run that has ended."""
        job, reports = self._job, self.trial.reports if self.trial else self._reports
        found: dict[str, list[Measurement]] = {"failed": []}
        if self.trial:
            found |= dict.fromkeys(("completed", "pruned"), self.trial.measurements)
            found["diverged"] = _at_chance_level(job, self._metric, self.trial.measurements)
        return RunRecord.model_validate(
            {
                "run_id": job.run_id,
                "spec_hash": self._spec_hash,
                "job": job,
                "replicate": job.replicate,
                "method": methods_reading(job)["last"],
                "metric": self._metric.name,
                "unit": self._metric.unit,
                "higher_is_better": self._metric.higher_is_better,
                "task_source": self._source,
                "own_sources": self._sources,
                "status": self._status,
                "error": self._error or None,
                "measurements": found[self._status],
                "gradient_evaluations": reports.gradient_evaluations,
                "train_s": self._wall_s,
                "wall_s": self._wall_s,
                "device": "cpu" if self._device == "cpu" else torch.cuda.get_device_name(self._device),
                "device_ids": self._device_ids,
                "versions": versions() | versions_of(brought_by(job)),
            }
        )

    def weights(self) -> bytes:
        """Return no weights: those of a loop stay its own."""
        return b""

    def _work(self) -> None:
        """Call the loop, and turn what goes wrong into the run's status."""
        job = self._job
        try:
            loop = load_loop(job.task)
            self._metric, self._source, self._sources = loop.metric, source_of(job.task), sources_of(brought_by(job))
            with seeded(torch_seed(job.seed, "initial weights")):
                self.trial = self._made_trial(loop)
                loop.run(self.trial)
                if not self.trial.ends:
                    self.trial.finish()
            self._status = self.trial.ends or "completed"
        except StopTraining as end:
            self._status = str(end)
        except BaseException as error:  # whatever a loop raises: nobody else is in its thread
            if self.trial and self.trial.ends:  # it answered the end of its run by an error of its own
                self._status = self.trial.ends
            else:
                self.failure = error
                self._status, self._error = "failed", user_traceback(error, job.task)

    def _made_trial(self, loop: Loop) -> Trial:
        return Trial(
            loop, self._job, method_of(self._job), self._device, factors=self._factors, reports=self._reports,
            saved=self._saved, miniature=self._miniature, boundary=self._stand,
            optimizer_of=partial(build_optimizer, self._job), averages_of=partial(build_averages, self._job),
            schedule=schedule_for(self._job),
        )  # fmt: skip

    def _stand(self, state: Callable[[], Any] | None) -> None:
        """Stand still between two reports, or where the loop has saved, if it has worked for long enough."""
        self._saves = self._saves or state is not None
        if time.perf_counter() < self._until or (self._saves and state is None):
            return
        if state is not None:
            assert self.trial is not None
            reports = asdict(self.trial.reports)
            reports["measurements"] = [dumped(one) for one in self.trial.reports.measurements]
            self._state = {"reports": reports, "saved": state()}
        self._turns.pause()


def method_of(job: Job) -> TrialMethod:
    """Return what a job trains, as a loop is told it."""
    family, reading = family_of(job), methods_reading(job)
    average = next((kind for kind in job.tested_of if kind not in ("last", "best")), "")
    name = reading.get(average, reading["last"])
    optimizer = {"sgd": "torch.optim:SGD", "adamw": "torch.optim:AdamW"}.get(family.base, family.base)
    options = dict(family.options) | dict(job.options)
    return TrialMethod(name, job.family, optimizer, options, family.around, family.rule or "", average)


def _at_chance_level(job: Job, metric: LoopMetric, before: list[Measurement]) -> list[Measurement]:
    """Return what a diverged run stands for: guessing, with all of its weights; its curve is kept."""
    score = metric.signed(metric.guess)
    level = {"val_score": score} | ({"test_score": score} if job.stage == "confirm" else {})
    names = ["last", *(["best"] if "best" in job.reads else []), *job.averages]
    final = [
        Measurement(weights=name, epoch=job.epochs, weights_epoch=job.epochs if name == "best" else None, **level)
        for name in names
    ]
    return [one for one in before if one.epoch < job.epochs] + final
