"""From a `Job` to its `RunRecord` where a loop of the user's own trains: the counterpart of `study.training.trial`.

The loop is called once and reports when it pleases. It works in a thread of its own that stands still between two
reports while its process answers Ray, so a long one can be watched and, if it saves, be continued like any other run.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import nn

from study.records import Job, RunRecord
from study.specs.methods import family_of, methods_reading
from study.streams import torch_seed
from study.tasks.loop import Reports, StopTraining, Trial, TrialMethod, load_loop
from study.tasks.own import Handed
from study.tasks.seeded import seeded
from study.training.brought import schedule_for
from study.training.building import build_averages, build_optimizer
from study.training.checkpoint import read_checkpoint, write_checkpoint
from study.training.history import dumped, loaded
from study.training.runs import AnyRun, at_chance_level
from wasam_core import WeightAverages


class LoopRun(AnyRun):
    """One run of a loop, which can be interrupted where it saves.

    Args:
        job: What to run.
        device, spec_hash, device_ids: As for `AnyRun`.
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
        super().__init__(job, device, spec_hash, device_ids=device_ids)
        self.device_name, self.miniature = device, miniature
        self.factors = Handed(job.factors) if factors is None else factors
        self.reports, self.saved = Reports(), None
        self._guess = math.nan
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
        held = read_checkpoint(self._job.run_id, state, self._device)
        reports = held["reports"] | {"measurements": [*map(loaded, held["reports"]["measurements"])]}
        self.reports, self.saved, self._wall_s = Reports(**reports), held["saved"], held["wall_s"]

    def end(self) -> None:
        """End a run that stands still, and is not gone on with."""
        if self.trial:
            self.trial.ends = "abandoned"
            self._turns.go_on()

    def record(self) -> RunRecord:
        """Return the record of a run that has ended."""
        measurements = self.trial.measurements if self.trial else []
        if self._status == "diverged":
            measurements = at_chance_level(self._job, measurements, self._guess)
        return self._record(
            measurements,
            gradient_evaluations=self.reports.gradient_evaluations,
            train_s=self._wall_s,
            wall_s=self._wall_s,
        )

    def weights(self) -> bytes:
        """Return no weights: those of a loop stay its own."""
        return b""

    def _work(self) -> None:
        """Call the loop, and turn what goes wrong into the run's status."""
        job = self._job
        try:
            loop, metric = load_loop(job.task)
            self._tell(metric)
            self._guess = metric.signed(metric.guess)
            with seeded(torch_seed(job.seed, "initial weights")):
                self.method, self.schedule = method_of(job), schedule_for(job)
                self.trial = Trial(job, metric, self)
                loop(self.trial)
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
                self._fail(error)

    def build_optimizer(self, model: nn.Module, **options: Any) -> Any:
        """Return the method's optimizer over a model."""
        return build_optimizer(self._job, model, **options)

    def build_averages(self, model: nn.Module) -> WeightAverages:
        """Return the averages of the run over a model."""
        return build_averages(self._job, model)

    def stand(self, state: Callable[[], Any] | None) -> None:
        """Stand still between two reports, or where the loop has saved, if it has worked for long enough."""
        self._saves = self._saves or state is not None
        if time.perf_counter() < self._until or (self._saves and state is None):
            return
        if state is not None:
            reports = asdict(self.reports)
            reports["measurements"] = [dumped(one) for one in self.reports.measurements]
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


class Turns:
    """Runs a function in a thread of its own and takes turns with it: either of the two works, never both.

    Args:
        work: What is run; whatever it raises is its own to catch. Inside it, `pause` ends its turn.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._ended = work, False
        self._ours, self._its = threading.Semaphore(0), threading.Semaphore(0)
        # Nobody waits for one that is left standing where its process ends.
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def go_on(self) -> bool:
        """Let the function work until it pauses or ends; return whether it has ended."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._its.release()
        self._ours.acquire()
        return self._ended

    def pause(self) -> None:
        """Stand still until it is the function's turn again; called from inside it."""
        self._ours.release()
        self._its.acquire()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended = True
            self._ours.release()
