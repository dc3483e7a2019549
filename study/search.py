"""The engine: Ray Tune runs the agenda's jobs. The only file that imports Ray.

One Tuner and one Searcher serve all cells, methods and both stages, so a slot never idles between methods. Ray
executes and retries; we own the results and the resume: a callback in the driver hands every finished run over as
a record, and a resumed study is a new Tuner on what is left. Tune's own restore is not used: with an Optuna store
it aborts on trials that had finished, and it does not restore what our agenda knows.
"""

import base64
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.search import Searcher

from study.agenda import Agenda
from study.records import Job, RunRecord
from study.tasks import POOLS, Pool

_RETRIES = 2  # a run whose process dies is tried again this often before it counts as failed
_SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must reach the driver, which knows how to resume
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are ours; three more files a trial help nobody
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # about a restore that is not used
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner ignores verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a user's task mean what they say
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what later releases do; the device comes from the resources
}


Take = Callable[[RunRecord, bytes], None]


class EngineError(ValueError):
    """The cluster can't be used as asked; the message says what was asked, what there is and what to do."""


class Listener(Protocol):
    """Whoever wants to know what happens in the driver; called in its main thread, in order."""

    def started(self, job: Job) -> None:
        """A run was handed to Ray."""

    def finished(self, record: RunRecord) -> None:
        """A run ended, in whatever way; its record is not written yet."""

    def tick(self) -> None:
        """Time passed; called a few times a second."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What each run gets and how many run side by side."""

    cpus: float
    gpus: float
    concurrent: int


def plan_slots(
    cluster: Mapping[str, float],
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    max_concurrent: int | None = None,
) -> Slots:
    """Decide what each run gets: one GPU where the cluster has any, one CPU otherwise, unless told.

    Args:
        cluster: The cluster's total resources, as ``ray.cluster_resources()`` gives them.
        cpus_per_trial, gpus_per_trial: What the user asks for; None leaves the choice here.
        max_concurrent: Upper bound of runs side by side; None for as many as fit.

    Raises:
        EngineError: the cluster can never hold one such run (Ray would wait for ever).

    Example:
        >>> plan_slots({"CPU": 16, "GPU": 4})
        Slots(cpus=1, gpus=1, concurrent=4)
        >>> plan_slots({"CPU": 2})
        Slots(cpus=1, gpus=0, concurrent=2)
    """
    have_cpus, have_gpus = cluster.get("CPU", 0), cluster.get("GPU", 0)
    gpus = gpus_per_trial if gpus_per_trial is not None else min(1, int(have_gpus))
    cpus = cpus_per_trial if cpus_per_trial is not None else 1
    for asked, have, unit, flag in (
        (gpus, have_gpus, "GPUs", "--gpus-per-trial"),
        (cpus, have_cpus, "CPUs", "--cpus-per-trial"),
    ):
        if asked > have:
            raise EngineError(
                f"{flag} {asked:g} was given; the cluster has {have:g} {unit}; "
                f"ask for at most that, or join a larger cluster with --address."
            )
    fits = min(int(have_cpus / cpus), int(have_gpus / gpus) if gpus else int(have_cpus / cpus))
    return Slots(cpus, gpus, min(fits, max_concurrent) if max_concurrent else fits)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that this process has joined or started."""

    resources: Mapping[str, float]
    dashboard_url: str


@contextmanager
def cluster(address: str | None) -> Iterator[Cluster]:
    """Join the Ray cluster at ``address``, or start one on this machine; leave it again at the end.

    Raises:
        EngineError: there is no cluster at the address.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        context = ray.init(address=address, **quiet) if address else ray.init(include_dashboard=True, **quiet)
    except (ConnectionError, ValueError) as error:
        raise EngineError(
            f"--address {address} was given; no Ray cluster answers there ({str(error).splitlines()[0]}); "
            "start one with `ray start --head`, or leave --address out."
        ) from error
    try:
        url = context.dashboard_url
        yield Cluster(ray.cluster_resources(), f"http://{url}" if url else "")
    finally:
        ray.shutdown()


class StudyRun(tune.Trainable):
    """One actor of the study: trains the job in its config and reports the record. Reused from run to run."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask Ray for what the config says. (`tune.with_resources` would hide this class's name on the dashboard.)"""
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    def setup(  # type: ignore[override]  # Ray's own way to hand shared objects over
        self, config: dict[str, Any], pools: Mapping[str, Pool], spec_hash: str
    ) -> None:
        """Take the shared data; torch is imported here, in the worker alone."""
        import torch  # noqa: PLC0415

        torch.set_num_threads(max(1, int(config["cpus"])))
        self._pools, self._spec_hash = pools, spec_hash
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Point the actor at its next job; nothing of the last run is kept."""
        self._job = Job.model_validate(new_config["job"])
        return True

    def step(self) -> dict[str, Any]:
        """Train the job from start to end and report its record."""
        from study.trial import run  # noqa: PLC0415  # needs torch

        # The assigned resources decide, not torch: a trial without a GPU still sees all of the node's.
        device = "cuda:0" if ray.get_gpu_ids() else "cpu"
        kept: list[bytes] = []
        record = run(self._job, self._pools[self._job.task], device, self._spec_hash, kept.append)
        weights = base64.b64encode(kept[0]).decode() if kept else ""
        return {"record": record.model_dump_json(), "weights": weights, "done": True}


class _StaysInTheDriver:
    """Tune pickles its parts for a restore that we do not use; what lives in the driver alone stays out of it."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class _AgendaSearcher(_StaysInTheDriver, Searcher):
    """Tune's view of the agenda: it asks for configurations and is told nothing, since records tell the agenda."""

    def __init__(self, agenda: Agenda, slots: Slots, listener: Listener) -> None:
        super().__init__()
        self._agenda, self._slots, self._listener = agenda, slots, listener
        self.jobs: dict[str, Job] = {}

    def suggest(  # type: ignore[override]  # FINISHED is a string
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        job = self._agenda.next_job()
        if job is None:
            finished: str = Searcher.FINISHED
            return finished if self._agenda.finished else None
        self.jobs[trial_id] = job
        self._listener.started(job)
        return {"job": job.model_dump(mode="json"), "cpus": self._slots.cpus, "gpus": self._slots.gpus}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: `_Recorder` completes the agenda with the record."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the agenda is rebuilt from the records."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Recorder(_StaysInTheDriver, tune.Callback):
    """Turns what Tune reports into records: exactly one for every run, whatever its end."""

    def __init__(self, searcher: _AgendaSearcher, take: Take, listener: Listener, spec_hash: str) -> None:
        self._searcher, self._take, self._listener, self._spec_hash = searcher, take, listener, spec_hash
        self._broken: Exception | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._broken:
            raise self._broken
        self._listener.tick()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        self._hand_over(trial, RunRecord.model_validate_json(result["record"]), base64.b64decode(result["weights"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self._searcher.jobs[trial.trial_id]
        cause = trial.get_pickled_error() or trial.get_error() or "its process died"
        self._hand_over(
            trial,
            RunRecord(
                run_id=job.run_id,
                spec_hash=self._spec_hash,
                job=job,
                status="failed",
                error=f"the worker was lost {_RETRIES + 1} times: {cause}"[:4000],
            ),
        )

    def _hand_over(self, trial: Any, record: RunRecord, weights: bytes = b"") -> None:
        """Pass a record on. Tune would take an error here for one of the trial's, so it is kept for the next step."""
        self._searcher.jobs.pop(trial.trial_id)
        try:
            self._take(record, weights)
        except Exception as error:  # whatever it is, it is the driver's and must end the study
            self._broken = error


def run_agenda(
    agenda: Agenda,
    *,
    name: str,
    spec_hash: str,
    slots: Slots,
    storage: Path,
    take: Take,
    listener: Listener,
) -> None:
    """Run everything that the agenda holds, and return when it is finished.

    Args:
        agenda: What to run; completed through ``take``.
        name: The study's name, for Ray's folders.
        spec_hash: Goes into every record.
        slots: What each run gets.
        storage: Folder for Ray's own files.
        take: Called with each record as its run ends, and with the weights that it keeps (safetensors; empty without
            probes); it must write both and complete the agenda.
        listener: Told of starts, ends and the passing of time.
    """
    if agenda.finished:
        return
    # Tune writes a page for each lost trial; the record and the display say it once, in a sentence.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    pools = {task: POOLS[task]() for task in agenda.tasks}
    searcher = _AgendaSearcher(agenda, slots, listener)
    trainable = tune.with_parameters(StudyRun, pools=pools, spec_hash=spec_hash)
    trainable.__qualname__ = StudyRun.__qualname__  # the dashboard and `ps` show it
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=slots.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: _trial_name(trial.config),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            # A name of its own for every attempt: Tune mixes the folders of equal names.
            name=f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
            storage_path=str(storage.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[_Recorder(searcher, take, listener, spec_hash)],
        ),
    )
    tuner.fit()


def _trial_name(config: Mapping[str, Any]) -> str:
    job = Job.model_validate(config["job"])
    return f"{job.family} {job.cell} {job.stage} seed {job.seed}" + (
        f" trial {job.trial}" if job.trial is not None else ""
    )
