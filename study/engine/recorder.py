"""From what Tune reports to records: exactly one for every run, whatever its end.

Runs side by side share a GPU's memory, or the machine's; what did not fit beside another run may fit alone. So a run
that is out of memory is tried once more with nothing beside it, and only then counts as failed.
"""

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import tune

from study.engine.bare_ray import forget
from study.engine.lost_workers import LostWorker, explained, lost_worker, out_of_memory
from study.engine.searcher import AgendaSearcher, StaysInTheDriver
from study.engine.watch import HangWatch
from study.listeners.listener import Listener
from study.records import Job, RunRecord

RETRIES = 2  # a run whose worker is lost is tried again this often before it counts as failed
# A run for which memory is short, because of other programs, is tried again alone after each of these pauses.
PAUSES_S = (5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0)

Take = Callable[[RunRecord, bytes], None]


class Recorder(StaysInTheDriver, tune.Callback):
    """Hands records over as runs end, and tells the listeners; must come after ``watch`` among the callbacks."""

    def __init__(
        self, searcher: AgendaSearcher, watch: HangWatch, take: Take, listeners: Sequence[Listener], spec_hash: str
    ) -> None:
        self._searcher, self._watch, self._take = searcher, watch, take
        self._listeners, self._spec_hash = listeners, spec_hash
        self._reported: dict[str, tuple[RunRecord, bytes]] = {}
        self._lost: Counter[str] = Counter()  # workers, by run
        self._short: Counter[str] = Counter()  # times that a run was alone, and memory was short because of others
        self._broken: Exception | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._broken:
            raise self._broken
        for listener in self._listeners:
            listener.tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for listener in self._listeners:
            listener.started(self._searcher.under_way[trial.trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Keep the record to ourselves: Tune would write it, and the weights, into its snapshots again and again."""
        if note := result.pop("note", ""):
            for listener in self._listeners:
                listener.noted(self._searcher.under_way[trial.trial_id], note)
        if "record" in result:
            record = RunRecord.model_validate_json(result.pop("record"))
            self._reported[trial.trial_id] = record, base64.b64decode(result.pop("weights"))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        loss = self._loss(trial)
        self._tell_retried(self._searcher.under_way[trial.trial_id], f"its worker was lost: {loss.cause}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _discard_checkpoint(trial)
        self._end(trial, *self._reported.pop(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Hand the job out once more, as a trial of its own, or give the run up."""
        loss, job = self._loss(trial), self._searcher.under_way[trial.trial_id]
        if loss.for_memory:
            self._end_short_of_memory(trial, job, loss)
        elif self._lost[job.run_id] <= RETRIES:
            # Tune gives a trial up at once if the actor that it was given had died while it was kept, and counts
            # losses that we don't.
            self._searcher.end(trial.trial_id)
            self._searcher.again(job)
            self._tell_retried(job, f"its worker was lost: {loss.cause}")
        else:
            error = f"the worker was lost {RETRIES + 1} times: {loss.cause}"
            self._end(trial, self._failed(job, error), b"")

    def _loss(self, trial: Any) -> LostWorker:
        """Return how a trial's worker was lost, and count that unless memory was short: others may have used it."""
        why = self._watch.why(trial.trial_id)
        loss = LostWorker(why) if why else lost_worker(_last_error(trial))
        if not loss.for_memory:
            self._lost[self._searcher.under_way[trial.trial_id].run_id] += 1
        return loss

    def _end_short_of_memory(self, trial: Any, job: Job, loss: LostWorker) -> None:
        """Try a run alone; one that has been is given up if it needs too much, and waits while others use the memory.

        Tune has tried it again at once, as often as any other.
        """
        alone, waited = self._searcher.ran_alone(trial.trial_id), self._short[job.run_id]
        if alone and loss.main_user:
            self._end(trial, explained(self._failed(job, f"its worker was lost: {loss.cause}")), b"")
        elif alone and waited == len(PAUSES_S):
            error = (
                f"its worker was lost {waited + 1} times, with no other run beside it: {loss.cause}; other programs "
                "use the memory: end them, and run it again with --retry-failed."
            )
            self._end(trial, self._failed(job, error), b"")
        else:
            pause_s = PAUSES_S[waited] if alone else 0.0
            self._short[job.run_id] += alone
            self._searcher.end(trial.trial_id)
            self._searcher.again_alone(job, pause_s)
            when = f"now with no other run beside it{f', in {pause_s:g} s' if pause_s else ''}"
            self._tell_retried(job, f"its worker was lost: {loss.cause}; {when}")

    def _failed(self, job: Job, error: str) -> RunRecord:
        return RunRecord(run_id=job.run_id, spec_hash=self._spec_hash, job=job, status="failed", error=error)

    def _end(self, trial: Any, record: RunRecord, weights: bytes) -> None:
        """Pass a record on, or the job back. Tune would take an error here for the trial's: it waits for the step."""
        forget(trial)
        alone = self._searcher.ran_alone(trial.trial_id)
        job = self._searcher.end(trial.trial_id)
        if out_of_memory(record):
            if not alone:
                self._searcher.again_alone(job)
                self._tell_retried(job, "it was out of memory; now with no other run beside it")
                return
            record = explained(record)
        try:
            self._take(record, weights)
            for listener in self._listeners:
                listener.finished(record)
        except Exception as error:  # whatever it is, it is the driver's and must end the study
            self._broken = error

    def _tell_retried(self, job: Job, why: str) -> None:
        for listener in self._listeners:
            listener.retried(job, why)


def _last_error(trial: Any) -> str:
    """Return the text of the last failure, from the driver's own file.

    Tune's getters would unpickle the exception, which a user's own class may not survive, or ask the storage, to
    which the file has not been copied yet.
    """
    path = Path(trial.error_file or "")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return text.rpartition("Failure # ")[2].partition("\n")[2]


def _discard_checkpoint(trial: Any) -> None:
    """Delete the last checkpoint of a finished run: its record stands for it now."""
    if trial.checkpoint:
        with suppress(OSError):  # a storage that is gone keeps its files, and the study its record
            trial.checkpoint.filesystem.delete_dir(trial.checkpoint.path)
