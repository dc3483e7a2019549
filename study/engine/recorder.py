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

from study.engine.searcher import AgendaSearcher, StaysInTheDriver
from study.engine.watch import HangWatch
from study.listeners.listener import Listener
from study.records import Job, RunRecord

RETRIES = 2  # a run whose worker is lost is tried again this often before it counts as failed
# In the last line of the error: torch on a GPU, Python and NumPy, torch on the CPU, and Ray, which kills workers early.
_SIGNS = ("OutOfMemoryError", "MemoryError", "DefaultCPUAllocator: can't allocate memory", "running low on memory")

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
        why = self._watch.why(trial.trial_id) or "its worker was lost"
        job = self._searcher.under_way[trial.trial_id]
        self._lost[job.run_id] += 1
        self._tell_retried(job, why)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _discard_checkpoint(trial)
        self._end(trial, *self._reported.pop(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        why = self._watch.why(trial.trial_id) or _last_error(trial)
        job = self._searcher.under_way[trial.trial_id]
        self._lost[job.run_id] += 1
        if self._lost[job.run_id] <= RETRIES:
            # Tune gives a trial up at once if the actor that it was given had died while it was kept.
            self._searcher.end(trial.trial_id)
            self._searcher.again(job)
            self._tell_retried(job, why)
            return
        record = RunRecord(
            run_id=job.run_id,
            spec_hash=self._spec_hash,
            job=job,
            status="failed",
            error=f"the worker was lost {RETRIES + 1} times: {why}",
        )
        self._end(trial, record, b"")

    def _end(self, trial: Any, record: RunRecord, weights: bytes) -> None:
        """Pass a record on, or the job back. Tune would take an error here for the trial's: it waits for the step."""
        _forget(trial)
        alone = self._searcher.ran_alone(trial.trial_id)
        job = self._searcher.end(trial.trial_id)
        if out_of_memory(record) and not alone:
            self._searcher.again_alone(job)
            self._tell_retried(job, "it was out of memory; now with no other run beside it")
            return
        record = explained(record) if out_of_memory(record) else record
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
    """Return the text of the last failure, on one line, from the driver's own file.

    Tune's getters would unpickle the exception, which a user's own class may not survive, or ask the storage, to
    which the file has not been copied yet.
    """
    path = Path(trial.error_file or "")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return " ".join(text.rpartition("Failure # ")[2].split())[-3000:] or "its process died"


def _forget(trial: Any) -> None:
    """Free what Tune keeps of an ended trial for a restore that is not used: tens of KB, in every snapshot of all."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()
    trial.get_json_state = lambda: ("", "")


def _discard_checkpoint(trial: Any) -> None:
    """Delete the last checkpoint of a finished run: its record stands for it now."""
    if trial.checkpoint:
        with suppress(OSError):  # a storage that is gone keeps its files, and the study its record
            trial.checkpoint.filesystem.delete_dir(trial.checkpoint.path)


def out_of_memory(record: RunRecord) -> bool:
    """Whether a run failed because memory was short."""
    last = (record.error or "").strip().splitlines()[-1:]
    return record.status == "failed" and any(sign in line for line in last for sign in _SIGNS)


def explained(record: RunRecord) -> RunRecord:
    """Return the record of a run that was out of memory, alone too, with a last line that says what to do."""
    batch = record.job.factors.get("batch_size", "?")
    sentence = (
        f"out of memory with batch_size = {batch}, with no other run beside it, too: "
        "lower factors.batch_size, or choose a smaller model."
    )
    return record.model_copy(update={"error": f"{(record.error or '').rstrip()}\n{sentence}"})
