"""Put the engine together and run an agenda to its end."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RuntimeEnvSetupError,
    WorkerCrashedError,
)
from ray.tune import TuneError

from study.engine.bare_ray import our_tune
from study.engine.lost_workers import error_line
from study.engine.recorder import RETRIES, Recorder, Take
from study.engine.searcher import AgendaSearcher
from study.engine.slots import EngineError, Slots
from study.engine.watch import HangWatch
from study.engine.worker import StudyRun
from study.listeners.listener import Listener
from study.plan.agenda import Agenda
from study.records import Job

SLICE_S = 60.0  # a longer run reports and is saved this often; a shorter one is one step, without either
HANG_AFTER_S = 1800.0
_LOSSES = (  # of an actor, as Ray may put it
    RayActorError, OutOfMemoryError, OutOfDiskError, NodeDiedError, WorkerCrashedError, RuntimeEnvSetupError,
    ActorUnschedulableError, ActorPlacementGroupRemoved, ObjectLostError,
)  # fmt: skip


def run_agenda(
    agenda: Agenda,
    data: Mapping[str, Any],
    *,
    name: str,
    spec_hash: str,
    slots: Slots,
    storage: str,
    take: Take,
    listeners: Sequence[Listener],
    checkpoints: bool = True,
    slice_s: float = SLICE_S,
    hang_after_s: float = HANG_AFTER_S,
    trainable: type[StudyRun] = StudyRun,
) -> None:
    """Run everything that the agenda holds, and return when it is finished.

    Args:
        agenda: What to run; completed through ``take``.
        data: What `study.data.load_data` returned, by task.
        name: The study's name, for Ray's folders.
        spec_hash: Goes into every record.
        slots: What each run gets.
        storage: Folder or URI for Ray's own files; every node must reach it, or ``checkpoints`` be False.
        take: Called with each record as its run ends, and with the weights that it keeps (safetensors; empty without
            probes); it must write both and complete the agenda.
        listeners: Told of starts, retries, ends and the passing of time.
        checkpoints: Save long runs at the end of every slice, so that a retry goes on from there.
        slice_s: Seconds, > 0: a run reports after whole epochs of about this length.
        hang_after_s: Seconds, > 0: a worker that neither reports nor uses the CPU for so long is killed, and its run
            retried; one that uses the CPU has `watch.BUSY_FACTOR` times as long until its next report.
        trainable: The actor's class.

    Raises:
        EngineError: Ray or Tune gave up; one sentence says why.
    """
    if agenda.finished:
        return
    # Tune writes a page for each lost trial; the record and the display say it once, in a sentence.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    searcher = AgendaSearcher(agenda, slots)
    watch = HangWatch(hang_after_s)
    actor = tune.with_parameters(trainable, data=data, spec_hash=spec_hash, slice_s=slice_s, checkpoints=checkpoints)
    actor.__qualname__ = trainable.__qualname__  # the dashboard and `ps` show it
    tuner = tune.Tuner(
        actor,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=slots.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: Job.model_validate(trial.config["job"]).title,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            # A name of its own for every attempt: Tune mixes the folders of equal names.
            name=f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
            storage_path=storage,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_at_end=False),
            callbacks=[watch, Recorder(searcher, watch, take, listeners, spec_hash)],
        ),
    )
    with our_tune(storage, _LOSSES):
        try:
            tuner.fit()
        except Exception as error:
            if agenda.finished:  # every run has its record: what Tune could not do at its own end is of no account
                return
            if isinstance(error, TuneError | RayError):
                raise EngineError(
                    f"Ray gave up: {error_line(str(error))}; every finished run is kept: give the command again, or "
                    "--resume the folder."
                ) from error
            raise
