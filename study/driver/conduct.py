"""Conduct a study in its results folder: train what is left, and conclude from the records."""

import shlex
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.data import load_data
from study.driver.messages import Say, warn
from study.driver.resume import OpenStudy
from study.files import write_atomically
from study.listeners.background import BackgroundWriter
from study.listeners.listener import Careful, Listener, Tally, reason
from study.listeners.terminal import Display
from study.listeners.trackers import TrackerError, open_trackers
from study.records import RunRecord
from study.specs.spec import SpecError
from study.store.folder import ResultsError, check_still_there, set_aside_superseded
from study.store.record_files import RecordError, write_record

if TYPE_CHECKING:
    from study.engine.slots import Slots
    from study.store.results import Study
    from study.training.landscape import Landscape


@dataclass(frozen=True, slots=True)
class EngineOptions:
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
    asked: EngineOptions
    data: Mapping[str, Any]
    let_it_go: Callable[[], None]


@contextmanager
def engine(asked: EngineOptions, say: Say, tasks: Iterable[str]) -> Iterator[Session]:
    """Join or start Ray for the length of the block, to run some tasks; say how many runs fit, and where to watch it.

    Raises:
        ResultsError: the cluster can't be used as asked.
        SpecError: the data of a task can't be loaded.
    """
    # Ray takes seconds to import; listing and reading need none of it.
    from study.engine.cluster import cluster  # noqa: PLC0415
    from study.engine.slots import EngineError, plan_slots  # noqa: PLC0415

    data = {task: load_data(task) for task in tasks}
    try:
        with cluster(asked.address, data) as joined:
            if joined.warning:
                say(joined.warning)
            slots = plan_slots(joined.resources, asked.cpus_per_trial, asked.gpus_per_trial, asked.max_concurrent)
            device = f"{slots.gpus:g} GPU each" if slots.gpus else "on CPUs"
            say(f"{slots.concurrent} runs side by side, {device}.")
            url, token = joined.dashboard_url, "(if it asks for a token, `ray get-auth-token` prints it)"
            say(f"Ray dashboard: {url} {token}" if url else "this Ray cluster has no dashboard")
            if asked.address and not asked.storage:
                say("Without --storage no run is saved under way: what a lost node was at starts again.")
            yield Session(slots, asked, data, joined.let_it_go)
    except EngineError as error:
        raise ResultsError(str(error)) from error


def train(
    study: OpenStudy, session: Session, *, console: Console, quiet: bool, then: Callable[[], object] = lambda: None
) -> None:
    """Run what a study's agenda still holds, inside `engine`; every run is on disk before the next is taken in.

    Args:
        study, session: What is run, and on what.
        console: Where progress is shown. quiet: It is not.
        then: Called once, in a thread, when the first run has started and the driver has little to do.

    Raises:
        ResultsError: a tracker of experiments can't be used as asked.
    """
    from study.engine.drive import HANG_AFTER_S, run_agenda  # noqa: PLC0415
    from study.engine.gauges import Gauges  # noqa: PLC0415

    spec, folder, agenda, slots, asked = study.spec, study.folder, study.agenda, session.slots, session.asked
    try:
        trackers = open_trackers(spec.name, folder, asked.trackers, warn=warn)
    except TrackerError as error:
        raise ResultsError(str(error)) from error
    tally, writer = Tally(agenda), BackgroundWriter(folder, agenda, warn, then)
    display = partial(Display, console, agenda, tally, slots.concurrent, quiet)
    listeners: list[Listener] = [
        Careful.made(display, "the display of progress", warn),
        Careful.made(partial(Gauges, spec.name, tally), "the export of live numbers", warn),
        Careful(writer, "the writing of views", warn),
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
            storage=_storage(asked.storage, folder),
            # Ray refuses to save on a node that doesn't see the folder, and would count that as a failure.
            checkpoints=bool(asked.storage) or not asked.address,
            take=take,
            listeners=listeners,
            hang_after_s=asked.hang_after_s or HANG_AFTER_S,
        )
        writer.settle()
        set_aside_superseded(folder, spec, agenda)
    finally:
        for listener in listeners:
            listener.close()


def _storage(asked: str | None, folder: Path) -> str:
    """Return where Ray keeps its files: a URI as it is, a path in full (Ray refuses relative ones)."""
    return asked if asked and "://" in asked else str(Path(asked or folder / "ray").resolve())


def draw_landscapes(study: OpenStudy, session: Session) -> None:
    """Measure the lines and planes between the runs of a finished agenda that are missing, inside `engine`.

    They describe: what goes wrong costs those that are still missing, and one line.
    """
    from study.engine.landscapes import measure_landscapes  # noqa: PLC0415
    from study.engine.slots import EngineError  # noqa: PLC0415

    try:
        measure_landscapes(study.folder, session.data, _missing_landscapes(study))
    except EngineError as error:
        warn(f"the lines and planes between runs are left out: {error}")


def is_complete(study: OpenStudy) -> bool:
    """Tell whether every run, and every line and plane between runs, is there."""
    return study.agenda.finished and not _missing_landscapes(study)


def _missing_landscapes(study: OpenStudy) -> "list[Landscape]":
    if not any(record.job.probed for record in study.agenda.records):
        return []
    from study.training.landscape import missing_landscapes  # noqa: PLC0415  # needs torch

    return missing_landscapes(study.folder, study.agenda)


def conclude(folder: Path) -> "Study":
    """Write the frame and the findings of a study whose runs all have their records anew, and return it.

    Raises:
        ConclusionError: they can't be made of the records.
    """
    from study.store.results import load, write_frame_and_findings  # noqa: PLC0415  # pandas and SciPy take a second to import

    check_still_there(folder)
    for checkpoint in (folder / "ray").glob("*/*/checkpoint_*"):  # of runs that a start which was ended had under way
        shutil.rmtree(checkpoint, ignore_errors=True)
    with concluding(folder, "the findings"):
        study = load(folder)
        write_frame_and_findings(study)
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
