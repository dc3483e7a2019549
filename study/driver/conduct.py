"""Conduct a study in its results folder: train what is left, and conclude from the records."""

import shlex
import shutil
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.data import load_data
from study.driver.opening import Say, warn
from study.files import write_atomically
from study.listeners.listener import Careful, Listener, Tally, reason
from study.listeners.terminal import Display
from study.listeners.trackers import TrackerError, open_trackers
from study.listeners.views import Views
from study.plan.agenda import Agenda
from study.records import RunRecord
from study.specs.spec import SpecError, StudySpec
from study.store.folder import ResultsError, check_still_there, set_aside_superseded
from study.store.record_files import RecordError, write_record

if TYPE_CHECKING:
    from study.engine.slots import Slots
    from study.store.results import Study
    from study.training.landscape import Landscape


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of the engine; None leaves the choice to it."""

    address: str | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None
    storage: str | None = None
    hang_after_s: float | None = None
    trackers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """A joined or started Ray cluster, how it is to be used, and the data of the tasks that run on it.

    ``let_it_go`` is called when all is measured: what follows does not depend on Ray any more.
    """

    slots: "Slots"
    wishes: Wishes
    data: Mapping[str, Any]
    let_it_go: Callable[[], None]


@contextmanager
def engine(
    wishes: Wishes, say: Say, tasks: Iterable[str], study: tuple[StudySpec, int] | None = None
) -> Iterator[Session]:
    """Join or start Ray for the length of the block, and say where to watch it.

    Args:
        wishes: What the user asks for.
        say: Told how many runs fit and where the dashboard is.
        tasks: Names of the tasks that will run; their data are loaded while Ray starts.
        study: The one study that will run, and how many runs it has at least, if that is known: where it would leave
            CPUs idle, its steps are timed to choose the CPUs of each run.

    Raises:
        ResultsError: the cluster can't be used as asked.
        SpecError: the data of a task can't be loaded.
    """
    # Ray takes seconds to import; listing and reading need none of it.
    from study.engine.cluster import cluster  # noqa: PLC0415
    from study.engine.slots import EngineError, plan_slots  # noqa: PLC0415

    tasks = tuple(tasks)
    loading = _loading(tasks)
    try:
        with cluster(wishes.address, tasks, wishes.max_concurrent, wishes.cpus_per_trial) as joined:
            if joined.warning:
                say(joined.warning)
            data = loading.result()
            cpus_per_trial = wishes.cpus_per_trial or _cpus_for(joined.resources, wishes, study, say)
            slots = plan_slots(joined.resources, cpus_per_trial, wishes.gpus_per_trial, wishes.max_concurrent)
            device = f"{slots.gpus:g} GPU each" if slots.gpus else "on CPUs"
            say(f"{slots.concurrent} runs side by side, {device}.")
            joined.dashboard_url.add_done_callback(partial(_say_where, say))
            if wishes.address and not wishes.storage:
                say("Without --storage no run is saved under way: what a lost node was at starts again.")
            yield Session(slots, wishes, data, joined.let_it_go)
    except EngineError as error:
        raise ResultsError(str(error)) from error


def _say_where(say: Say, dashboard: Future[str]) -> None:
    """Tell where Ray's dashboard is, as soon as that is known."""
    if not dashboard.cancelled():
        url = dashboard.result()
        token = "(if it asks for a token, `ray get-auth-token` prints it)"
        say(f"Ray dashboard: {url} {token}" if url else "this Ray cluster has no dashboard")


def _loading(tasks: Iterable[str]) -> Future[dict[str, Any]]:
    """Load the data of tasks in a thread: Ray's start is mostly waiting.

    The thread is nobody's to wait for: Ctrl-C ends the process whatever is being loaded.
    """
    loaded: Future[dict[str, Any]] = Future()

    def load_all() -> None:
        try:
            loaded.set_result({task: load_data(task) for task in tasks})
        except BaseException as error:  # whatever a loader raises is the main thread's to answer
            loaded.set_exception(error)

    threading.Thread(target=load_all, name="load data", daemon=True).start()
    return loaded


def _cpus_for(
    resources: Mapping[str, float], wishes: Wishes, study: tuple[StudySpec, int] | None, say: Say
) -> float | None:
    """Return the CPUs of each run by measurement, on this machine alone; None leaves it to `plan_slots`."""
    if study is None or wishes.address or resources.get("GPU") or wishes.gpus_per_trial:
        return None
    from study.engine.slots import plan_threads  # noqa: PLC0415

    spec, runs = study
    if {problem.task for problem in spec.problems} <= spec.loops.keys():  # nobody else can time their steps
        return None

    def times(counts: Sequence[int]) -> dict[int, float]:
        from study.training.estimate import step_times_by_threads  # noqa: PLC0415  # needs torch, and few studies need it

        return step_times_by_threads(spec, counts)

    cpus, why = plan_threads(int(resources.get("CPU", 1)), runs, wishes.max_concurrent, times)
    if why:
        say(why)
    return cpus


def train(
    spec: StudySpec,
    folder: Path,
    agenda: Agenda,
    session: Session,
    *,
    console: Console,
    quiet: bool,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Run what the agenda still holds, inside `engine`; every finished run is on disk before the next is taken in.

    Args:
        spec, folder, agenda, session: What is run, where its results go, and on what.
        console: Where progress is shown. quiet: It is not.
        meanwhile: Called once, in a thread, when the first run has started and the driver has little to do.

    Raises:
        ResultsError: a tracker of experiments can't be used as asked.
    """
    from study.engine.drive import HANG_AFTER_S, run_agenda  # noqa: PLC0415
    from study.engine.gauges import Gauges  # noqa: PLC0415

    slots, wishes = session.slots, session.wishes
    try:
        trackers = open_trackers(spec.name, folder, wishes.trackers, warn=warn)
    except TrackerError as error:
        raise ResultsError(str(error)) from error
    tally, views = Tally(agenda), Views(folder, spec.search, agenda, warn, meanwhile)
    listeners: list[Listener] = [
        Careful.made(
            partial(Display, console, agenda, tally, slots.concurrent, quiet), "the display of progress", warn
        ),
        Careful.made(partial(Gauges, spec.name, tally), "the export of live numbers", warn),
        Careful(views, "the writing of views", warn),
        *trackers,
    ]

    def take(record: RunRecord, weights: bytes) -> None:
        check_still_there(folder)
        if weights:
            write_atomically(folder / "weights" / f"{record.run_id}.safetensors", weights, make_folder=True)
        write_record(folder, record)
        agenda.complete(record)
        tally.count(record)

    try:
        check_still_there(folder)  # Ray would make it anew
        run_agenda(
            agenda,
            session.data,
            name=spec.name,
            spec_hash=spec.hash,
            slots=slots,
            storage=_storage(wishes.storage, folder),
            # Ray refuses to save on a node that doesn't see the folder, and would count that as a failure.
            checkpoints=bool(wishes.storage) or not wishes.address,
            keep_actors=not wishes.address,  # on a cluster of many, what is idle is somebody else's
            take=take,
            listeners=listeners,
            hang_after_s=wishes.hang_after_s or HANG_AFTER_S,
        )
        views.settle()
        set_aside_superseded(folder, spec, agenda)
    finally:
        for listener in listeners:
            listener.close()


def _storage(wish: str | None, folder: Path) -> str:
    """Return where Ray keeps its files: a URI as it is, a path in full (Ray refuses relative ones)."""
    return wish if wish and "://" in wish else str(Path(wish or folder / "ray").resolve())


def draw_landscapes(folder: Path, agenda: Agenda, session: Session) -> None:
    """Measure the lines and planes between the runs of a finished agenda that are missing, inside `engine`.

    They describe: what goes wrong costs those that are still missing, and one line.
    """
    from study.engine.landscapes import measure_landscapes  # noqa: PLC0415
    from study.engine.slots import EngineError  # noqa: PLC0415

    try:
        measure_landscapes(folder, session.data, _missing_landscapes(folder, agenda))
    except EngineError as error:
        warn(f"the lines and planes between runs are left out: {error}")


def is_complete(folder: Path, agenda: Agenda) -> bool:
    """Tell whether every run, and every line and plane between runs, is there."""
    return agenda.finished and not _missing_landscapes(folder, agenda)


def _missing_landscapes(folder: Path, agenda: Agenda) -> "list[Landscape]":
    if not any(record.job.probed for record in agenda.records):
        return []
    from study.training.landscape import missing_landscapes  # noqa: PLC0415  # needs torch

    return missing_landscapes(folder, agenda)


def conclude(folder: Path) -> "Study":
    """Write the frame and the findings of a study whose runs all have their records anew, and return it.

    Raises:
        ConclusionError: they can't be made of the records.
    """
    from study.store.results import load, write_views  # noqa: PLC0415  # pandas and SciPy take a second to import

    check_still_there(folder)
    for checkpoint in (folder / "ray").glob("*/*/checkpoint_*"):  # of runs that a start which was ended had under way
        shutil.rmtree(checkpoint, ignore_errors=True)
    with concluding(folder, "the findings"):
        study = load(folder)
        write_views(study)
    return study


class ConclusionError(Exception):
    """What is made of the records at the end can't be made; one sentence, and the records are kept."""


@contextmanager
def concluding(folder: Path, what: str) -> Iterator[None]:
    """Say in a sentence that something can't be made of the records, and how to try again.

    Raises:
        ConclusionError: it can't.
    """
    try:
        yield
    except (ResultsError, RecordError, SpecError, OSError):
        raise  # each says what to do
    except Exception as error:  # a fault of ours, in whatever is computed or drawn
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ConclusionError(
            f"{what} can't be made of the records: {type(error).__name__}: {reason(error)} ({place.filename}, line "
            f"{place.lineno}); every run is kept in {folder / 'records'}, and `python -m dashboards "
            f"{shlex.quote(str(folder))}` tries again."
        ) from error
