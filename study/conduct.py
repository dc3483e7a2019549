"""Conduct a study in its results folder: open it, train what is left, and conclude from the records."""

import json
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.agenda import Agenda
from study.data_folders import NEED_FILES
from study.factors import is_own_task
from study.files import write_atomically
from study.lock import hold
from study.progress import Display
from study.record_files import write_record
from study.records import RunRecord
from study.results import (
    ResultsError,
    Study,
    freeze_spec,
    fresh_folder_name,
    frozen_spec,
    holds_files,
    load,
    records_of,
    set_aside_failed,
    set_aside_superseded,
    sweep,
    write_views,
)
from study.spec import StudySpec, extends
from study.tally import Tally

if TYPE_CHECKING:
    from study.engine.slots import Slots
    from study.landscape import Piece

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of the engine; None leaves the choice to it."""

    address: str | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None
    storage: str | None = None
    hang_after_s: float | None = None
    wandb: str | None = None
    mlflow: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A joined or started Ray cluster, and how it is to be used."""

    slots: "Slots"
    wishes: Wishes


@contextmanager
def opened(
    spec: StudySpec, text: str, folder: Path, *, fresh: bool, retry_failed: bool = False, say: Say
) -> Iterator[tuple[StudySpec, Agenda]]:
    """Open a folder as `open_folder` does, and keep every other driver out of it for the length of the block.

    Args:
        spec, text, folder, say: As for `open_folder`.
        fresh: Rename what is there and start anew.
        retry_failed: Run again what has failed; the old records stand aside.

    Raises:
        ResultsError: the folder holds something else, or another driver works on it.
    """
    if fresh and folder.exists():
        with hold(folder):
            _rename(folder, say)
    with hold(folder):
        sweep(folder)
        held = frozen_spec(folder)
        if retry_failed and held:
            say(f"{set_aside_failed(folder, held)} failed runs are done again; their records stand in records/failed.")
        spec, agenda = open_folder(spec, text, folder, say=say)
        set_aside_superseded(folder, spec, agenda)
        if agenda.finished and _is_behind(folder / "optuna.db", agenda):
            from study.optuna_store import OptunaStore  # noqa: PLC0415  # Optuna takes a second to import

            OptunaStore(folder / "optuna.db", spec.search, agenda, _warn).close()
        yield spec, agenda


def has_runs_left(spec: StudySpec, folder: Path, *, fresh: bool = False) -> bool:
    """Tell whether a study would train anything in a folder, from the records there; nothing is written.

    Args:
        spec: The study. folder: Its results folder, which need not be there.
        fresh: What the folder holds will be set aside.
    """
    held = None if fresh else frozen_spec(folder)
    return held is None or held.hash != spec.hash or not Agenda(held, records_of(folder, held)).finished


def find_data(spec: StudySpec) -> None:
    """Make sure that the data of the built-in tasks are there, before anything is written or started.

    Raises:
        SpecError: they are not.
    """
    wanted = NEED_FILES.intersection(problem.task for problem in spec.problems)
    if wanted:
        from study import tasks  # noqa: PLC0415  # needs torch, which takes seconds to import

        for task in sorted(wanted):
            tasks.find_data(task)


def has_own_tasks(spec: StudySpec) -> bool:
    """Tell whether a task of the study is a user's own."""
    return any(is_own_task(problem.task) for problem in spec.problems)


def try_own_tasks(spec: StudySpec) -> None:
    """Try the user's own tasks of a study, before anything is written or started.

    Raises:
        ResultsError: a task can't be studied; where the user's code raised, its traceback has been printed.
    """
    if not has_own_tasks(spec):
        return
    from study.tasks.preflight import PreflightError, preflight  # noqa: PLC0415  # needs torch

    try:
        preflight(spec)
    except PreflightError as error:
        print(error.trace, end="", file=sys.stderr)
        raise ResultsError(str(error)) from error


def _is_behind(path: Path, agenda: Agenda) -> bool:
    """Tell whether a finished study's ``optuna.db`` is damaged or lacks trials: it could not be written, back then."""
    if not path.is_file():
        return False
    tuned = (record for record in agenda.records if record.job.stage == "tune")
    expected = sum(len(agenda.search_of(record).methods) for record in tuned)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute("select count(*) from trials").fetchone()[0] != expected)
    except sqlite3.Error:
        return True


def open_folder(spec: StudySpec, text: str, folder: Path, *, say: Say) -> tuple[StudySpec, Agenda]:
    """Make a folder the home of a study, or find the study in it; return the spec that holds there and what is left.

    Args:
        spec: What to run. text: Its TOML, which is frozen into a new folder.
        folder: The results folder.
        say: Told what was found.

    Raises:
        ResultsError: the folder holds something else.
    """
    held = frozen_spec(folder)
    if held is None:
        return _started(spec, text, folder)
    spec = _continued(spec, held, text, folder, say)
    agenda = Agenda(spec, records_of(folder, spec))
    say(
        f"{folder} is finished: nothing to train."
        if agenda.finished
        else f"{folder} is unfinished: going on after {len(agenda.records)} finished runs."
    )
    return spec, agenda


def _rename(folder: Path, say: Say) -> None:
    renamed = fresh_folder_name(folder)
    folder.rename(renamed)
    say(f"the old study was moved to {renamed}")


def _started(spec: StudySpec, text: str, folder: Path) -> tuple[StudySpec, Agenda]:
    if holds_files(folder):
        raise ResultsError(f"{folder} holds files but no study; give an empty or new folder with --out, or --fresh.")
    if "T" in spec.budgets and not spec.reference_times:
        from study.estimate import reference_times  # noqa: PLC0415  # needs torch

        spec = spec.model_copy(update={"reference_times": reference_times(spec)})
    freeze_spec(folder, spec, _with_times(text, spec.reference_times))
    return spec, Agenda(spec)


def _continued(spec: StudySpec, held: StudySpec, text: str, folder: Path, say: Say) -> StudySpec:
    if held.hash == spec.hash:
        return held
    if not extends(spec, held):
        raise ResultsError(
            f"{folder} holds another study (spec hash {held.hash[:12]}, this one has {spec.hash[:12]}), and more than "
            "trials, seeds or problems was changed; choose another folder with --out, or --fresh to rename the old one."
        )
    say(f"{folder} holds a smaller version of this study: all that it measured is kept.")
    grown = spec.model_copy(update={"reference_times": held.reference_times})
    freeze_spec(folder, grown, _with_times(text, grown.reference_times))
    return grown


def _with_times(text: str, times: Mapping[str, float]) -> str:
    """Return a spec's text with its reference times as the last table, unless there are none or it has one."""
    if not times or "[reference_times]" in text:
        return text
    lines = "".join(f"{json.dumps(family)} = {time}\n" for family, time in times.items())
    return f"{text.rstrip()}\n\n[reference_times]\n{lines}"


@contextmanager
def engine(
    wishes: Wishes, say: Say, tasks: Iterable[str] = (), study: tuple[StudySpec, int] | None = None
) -> Iterator[Session]:
    """Join or start Ray for the length of the block, and say where to watch it.

    Args:
        wishes: What the user asks for.
        say: Told how many runs fit and where the dashboard is.
        tasks: Names of the tasks that will run.
        study: The one study that will run, and how many runs it has at least, if that is known: where it would leave
            CPUs idle, its steps are timed to choose the CPUs of each run.

    Raises:
        ResultsError: the cluster can't be used as asked.
    """
    # Ray takes seconds to import; listing and reading need none of it.
    from study.engine.cluster import cluster  # noqa: PLC0415
    from study.engine.slots import EngineError, plan_slots  # noqa: PLC0415

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with cluster(wishes.address, tasks) as joined:
            _take_back(handlers)  # Ray has put one in its place that ends the process at once
            cpus_per_trial = wishes.cpus_per_trial or _cpus_for(joined.resources, wishes, study, say)
            slots = plan_slots(joined.resources, cpus_per_trial, wishes.gpus_per_trial, wishes.max_concurrent)
            device = f"{slots.gpus:g} GPU each" if slots.gpus else "on CPUs"
            watch = (
                f"Ray dashboard: {joined.dashboard_url} (if it asks for a token, `ray get-auth-token` prints it)"
                if joined.dashboard_url
                else "this Ray cluster has no dashboard"
            )
            say(f"{slots.concurrent} runs side by side, {device}. {watch}")
            if wishes.address and not wishes.storage:
                say("Without --storage no run is saved under way: what a lost node was at starts again.")
            yield Session(slots, wishes)
    except EngineError as error:
        raise ResultsError(str(error)) from error
    finally:
        _take_back(handlers)  # Ray, at its end, leaves SIGTERM to the system, which ends the process without a word


def _take_back(handlers: Mapping[signal.Signals, Any]) -> None:
    """Answer signals as before; what Python remembers as set may be gone, so they are set anew."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _cpus_for(
    resources: Mapping[str, float], wishes: Wishes, study: tuple[StudySpec, int] | None, say: Say
) -> float | None:
    """Return the CPUs of each run by measurement, on this machine alone; None leaves it to `plan_slots`."""
    if study is None or wishes.address or resources.get("GPU") or wishes.gpus_per_trial:
        return None
    from study.engine.slots import plan_threads  # noqa: PLC0415
    from study.estimate import step_times_by_threads  # noqa: PLC0415  # needs torch

    spec, runs = study
    cpus, why = plan_threads(
        int(resources.get("CPU", 1)), runs, wishes.max_concurrent, lambda counts: step_times_by_threads(spec, counts)
    )
    if why:
        say(why)
    return cpus


def train(spec: StudySpec, folder: Path, agenda: Agenda, session: Session, *, console: Console, quiet: bool) -> None:
    """Run what the agenda still holds, inside `engine`; every finished run is on disk before the next is taken in.

    Raises:
        ResultsError: a tracker of experiments can't be used as asked.
    """
    from study.engine.drive import HANG_AFTER_S, run_agenda  # noqa: PLC0415
    from study.engine.gauges import Gauges  # noqa: PLC0415
    from study.optuna_store import OptunaStore  # noqa: PLC0415
    from study.tensorboard import TensorBoardLog  # noqa: PLC0415
    from study.trackers import TrackerError, open_trackers  # noqa: PLC0415

    slots, wishes = session.slots, session.wishes
    try:
        trackers = open_trackers(spec.name, folder, wishes.wandb, wishes.mlflow, warn=_warn)
    except TrackerError as error:
        raise ResultsError(str(error)) from error
    store = OptunaStore(folder / "optuna.db", spec.search, agenda, _warn)
    tally = Tally(agenda)

    def take(record: RunRecord, weights: bytes) -> None:
        if weights:
            write_atomically(folder / "weights" / f"{record.run_id}.safetensors", weights)
        write_record(folder, record)
        agenda.complete(record)
        store.add(record, agenda.search_of(record))
        tally.count(record)

    try:
        with Display(console, agenda, tally, slots.concurrent, quiet) as display:
            run_agenda(
                agenda,
                name=spec.name,
                spec_hash=spec.hash,
                slots=slots,
                storage=_storage(wishes.storage, folder),
                # Ray refuses to save on a node that doesn't see the folder, and would count that as a failure.
                checkpoints=bool(wishes.storage) or not wishes.address,
                take=take,
                listeners=[
                    display, Gauges(spec.name, tally), TensorBoardLog(folder / "tensorboard", agenda), *trackers
                ],
                hang_after_s=wishes.hang_after_s or HANG_AFTER_S,
            )  # fmt: skip
        set_aside_superseded(folder, spec, agenda)
    finally:
        store.close()
        for tracker in trackers:
            tracker.close()


def _storage(wish: str | None, folder: Path) -> str:
    """Return where Ray keeps its files: a URI as it is, a path in full (Ray refuses relative ones)."""
    return wish if wish and "://" in wish else str(Path(wish or folder / "ray").resolve())


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def survey(folder: Path, agenda: Agenda) -> None:
    """Measure the lines and planes between the runs of a finished agenda that are missing, inside `engine`."""
    from study.engine.pieces import measure_pieces  # noqa: PLC0415

    measure_pieces(folder, _missing_pieces(folder, agenda))


def is_complete(folder: Path, agenda: Agenda) -> bool:
    """Tell whether every run, and every line and plane between runs, is there."""
    return agenda.finished and not _missing_pieces(folder, agenda)


def _missing_pieces(folder: Path, agenda: Agenda) -> "list[Piece]":
    if not any(record.job.probed for record in agenda.records):
        return []
    from study.landscape import missing_pieces  # noqa: PLC0415  # needs torch

    return missing_pieces(folder, agenda)


def conclude(folder: Path) -> Study:
    """Write the frame and the findings anew and return the study."""
    study = load(folder)
    write_views(study)
    return study
