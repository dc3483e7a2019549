"""Open a results folder for a study: before anything is trained, or to see that nothing is left to train."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from study import data
from study.listeners.views import catch_up
from study.plan.agenda import Agenda
from study.specs.spec import StudySpec, extends
from study.specs.tasks import is_own_task
from study.store.folder import (
    ResultsError,
    freeze_spec,
    fresh_folder_name,
    frozen_spec,
    holds_files,
    records_of,
    set_aside_failed,
    set_aside_superseded,
    sweep,
)
from study.store.lock import hold

Say = Callable[[str], None]


@contextmanager
def opened(
    spec: StudySpec,
    text: str,
    folder: Path,
    *,
    fresh: bool,
    retry_failed: bool = False,
    replicates: Sequence[int] | None = None,
    say: Say,
) -> Iterator[tuple[StudySpec, Agenda]]:
    """Open a folder as `open_folder` does, and keep every other driver out of it for the length of the block.

    Args:
        spec, text, folder, say: As for `open_folder`.
        fresh: Rename what is there and start anew.
        retry_failed: Run again what has failed; the old records stand aside.
        replicates: Run these alone; None: all that the spec plans.

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
        spec, agenda = open_folder(spec, text, folder, replicates=replicates, say=say)
        set_aside_superseded(folder, spec, agenda)
        if agenda.finished:
            catch_up(folder, spec.search, agenda, warn)
        yield spec, agenda


def has_runs_left(
    spec: StudySpec, folder: Path, *, fresh: bool = False, replicates: Sequence[int] | None = None
) -> bool:
    """Tell whether a study would train anything in a folder, from the records there; nothing is written.

    Args:
        spec: The study. folder: Its results folder, which need not be there.
        fresh: What the folder holds will be set aside.
        replicates: As for `opened`.

    Raises:
        ResultsError: the folder holds a study of an older protocol.
    """
    held = None if fresh else _held(folder)
    return held is None or held.hash != spec.hash or not Agenda(held, records_of(folder, held), replicates).finished


def _held(folder: Path) -> StudySpec | None:
    """Return the spec that a folder was started with; None if there is none.

    Raises:
        ResultsError: it is of an older protocol: such a study is read, and not continued.
    """
    held = frozen_spec(folder)
    if held and held.protocol == 1:
        raise ResultsError(
            f"{folder} holds a study of protocol 1, which has no replicates and is not continued: read it with "
            f"`python -m dashboards {folder}`, and ask its question anew with replicates and confirms in the spec and "
            "another --out."
        )
    return held


def find_data(spec: StudySpec) -> None:
    """Make sure that the data of the built-in tasks are there, before anything is written or started.

    Raises:
        SpecError: they are not.
    """
    for task in sorted({problem.task for problem in spec.problems}):
        data.find_data(task)


def has_own_tasks(spec: StudySpec) -> bool:
    """Tell whether a task of the study is a user's own."""
    return any(is_own_task(problem.task) for problem in spec.problems)


def try_own_tasks(spec: StudySpec) -> tuple[str, ...]:
    """Try the user's own tasks of a study, before anything is written or started; return what they should know.

    Raises:
        ResultsError: a task can't be studied; where the user's code raised, its traceback has been printed.
    """
    if not has_own_tasks(spec):
        return ()
    from study.training.preflight import PreflightError, preflight  # noqa: PLC0415  # needs torch

    try:
        return preflight(spec)
    except PreflightError as error:
        print(error.trace, end="", file=sys.stderr)
        raise ResultsError(str(error)) from error


def open_folder(
    spec: StudySpec, text: str, folder: Path, *, replicates: Sequence[int] | None = None, say: Say
) -> tuple[StudySpec, Agenda]:
    """Make a folder the home of a study, or find the study in it; return the spec that holds there and what is left.

    Args:
        spec: What to run. text: Its TOML, which is frozen into a new folder.
        folder: The results folder.
        replicates: Run these alone; None: all that the spec plans.
        say: Told what was found.

    Raises:
        ResultsError: the folder holds something else.
    """
    held = _held(folder)
    if held is None:
        return _started(spec, text, folder, replicates)
    spec = _continued(spec, held, text, folder, say)
    agenda = Agenda(spec, records_of(folder, spec), replicates)
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


def _started(spec: StudySpec, text: str, folder: Path, replicates: Sequence[int] | None) -> tuple[StudySpec, Agenda]:
    if holds_files(folder):
        raise ResultsError(f"{folder} holds files but no study; give an empty or new folder with --out, or --fresh.")
    if "T" in spec.budgets and not spec.reference_times:
        from study.training.estimate import reference_times  # noqa: PLC0415  # needs torch

        spec = spec.model_copy(update={"reference_times": reference_times(spec)})
    freeze_spec(folder, spec, _with_times(text, spec.reference_times))
    return spec, Agenda(spec, replicates=replicates)


def _continued(spec: StudySpec, held: StudySpec, text: str, folder: Path, say: Say) -> StudySpec:
    if held.hash == spec.hash:
        return held
    if not extends(spec, held):
        raise ResultsError(
            f"{folder} holds another study (spec hash {held.hash[:12]}, this one has {spec.hash[:12]}), and more than "
            "trials, replicates, confirms or problems was changed; choose another folder with --out, or --fresh to "
            "rename the old one."
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


def warn(text: str) -> None:
    """Tell the user, whether they asked for quiet or not."""
    with suppress(OSError):  # a log on a full disk, a terminal that is gone
        print(text, file=sys.stderr)
