"""Weights & Biases and MLflow, for those who keep their experiments there: one of their runs per run of ours.

Ray's own callbacks for them are not used. They start two actors per run for Weights & Biases (3.5 s a run on two
cores; this: 0.3 s), know Tune's reports and not our curves, and end the study when the server is away. Both packages
are optional and imported when they are asked for.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.listeners.listener import Careful, Listener, metric_values, reason
from study.records import Job, RunRecord
from study.specs.tasks import factor_column


class TrackerError(ValueError):
    """A tracker that can't be used; the message says what is missing."""


def open_trackers(study: str, folder: Path, asked: Mapping[str, str], warn: Callable[[str], None]) -> list[Listener]:
    """Return the listeners that the user asked for, by name in `TRACKERS`; ``warn`` is told once when one fails.

    Raises:
        TrackerError: the package is not installed, or it refuses what was given.
    """
    return [
        Careful(tracker.open(asked[name], study, folder), tracker.title, warn)
        for name, tracker in TRACKERS.items()
        if name in asked
    ]


class WandbTracker(Listener):
    """Logs each finished run to a project of Weights & Biases, offline where ``WANDB_MODE=offline`` says so."""

    def __init__(self, project: str, study: str, folder: Path) -> None:
        try:
            import wandb  # noqa: PLC0415  # optional
        except Exception as error:  # a broken installation raises anything
            raise _missing("--wandb", "wandb", error) from error
        self._wandb: Any = wandb
        self._folder = folder
        self._settings = {"project": project, "group": study, "dir": str(folder)}

    def finished(self, record: RunRecord) -> None:
        """Log the run's curves and final metrics under its own id, so that a second time changes nothing."""
        if not self._folder.is_dir():  # it would make the folder, and all above it
            raise FileNotFoundError(f"{self._folder} has vanished")
        # Its own watch on the console, the machine and the source is off: the runs end before they are logged.
        settings = self._wandb.Settings(
            silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True
        )
        run = self._wandb.init(
            **self._settings, id=record.run_id, name=record.job.title, config=_parameters(record.job),
            tags=[record.job.stage, record.status], reinit="create_new", resume="allow", settings=settings,
        )  # fmt: skip
        steps: dict[int, dict[str, float]] = {}
        for name, epoch, value in metric_values(record):
            steps.setdefault(epoch, {})[name] = value
        for epoch, values in sorted(steps.items()):
            run.log(values, step=epoch)
        run.finish(exit_code=int(record.status == "failed"))

    def close(self) -> None:
        """End its helper process."""
        self._wandb.teardown()


class MlflowTracker(Listener):
    """Logs each finished run to an MLflow tracking server or database, as a run of the study's experiment."""

    def __init__(self, uri: str, study: str, folder: Path) -> None:
        try:
            import mlflow  # noqa: PLC0415  # optional
        except Exception as error:  # as above
            raise _missing("--mlflow", "mlflow", error) from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
        self._entities = mlflow.entities
        try:
            self._client = mlflow.MlflowClient(uri)
            known = self._client.get_experiment_by_name(study)
            self._experiment = known.experiment_id if known else self._client.create_experiment(study)
        except Exception as error:  # MLflow's, its database's or its server's
            raise TrackerError(
                f"--mlflow {uri} was given; MLflow says: {reason(error)} "
                "A server's address or a database such as sqlite:///mlflow.db is needed."
            ) from error

    def finished(self, record: RunRecord) -> None:
        """Log the run in one batch."""
        tags = {"run_id": record.run_id, "stage": record.job.stage, "status": record.status}
        run_id = self._client.create_run(self._experiment, tags=tags, run_name=record.job.title).info.run_id
        self._client.log_batch(
            run_id,
            metrics=[self._entities.Metric(name, value, 0, epoch) for name, epoch, value in metric_values(record)],
            params=[self._entities.Param(name, str(value)) for name, value in _parameters(record.job).items()],
        )
        self._client.set_terminated(run_id, "FAILED" if record.status == "failed" else "FINISHED")


@dataclass(frozen=True, slots=True)
class Tracker:
    """A tracker of experiments that a study can log to: an option of the command line, and what hears of the runs.

    Attributes:
        title: What people call it.
        given: What its option takes, for the help.
        help: What its option does.
        open: From what was given, the study's name and its folder to the listener; raises `TrackerError`.
    """

    title: str
    given: str
    help: str
    open: Callable[[str, str, Path], Listener]


TRACKERS: dict[str, Tracker] = {
    "wandb": Tracker("Weights & Biases", "PROJECT", "log every run to Weights & Biases, too", WandbTracker),
    "mlflow": Tracker("MLflow", "URI", "log every run to MLflow, too: a server or sqlite:///FILE", MlflowTracker),
}


def _missing(flag: str, extra: str, error: Exception) -> TrackerError:
    why = "is not installed" if isinstance(error, ImportError) else f"can't be imported ({reason(error)})"
    return TrackerError(f'{flag} was given; the package {extra} {why}: pip install "wasam-study[{extra}]"')


def _parameters(job: Job) -> dict[str, Any]:
    fields = ("stage", "cell", "task", "family", "epochs_factor", "learning_rate", "rho", "average_start", "seed")
    factors = {factor_column(name): value for name, value in job.factors.items()}
    return factors | {name: getattr(job, name) for name in fields} | {"trial": job.trial}
