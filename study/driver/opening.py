"""Open a results folder for a study: before anything is trained, or to see that nothing is left to train."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from study import data
from study.listeners.views import catch_up
from study.plan.agenda import Agenda
from study.plan.cells import cells
from study.records import Needs
from study.specs.own_names import is_own_name
from study.specs.spec import StudySpec, extends
from study.specs.tasks import is_own_task
from study.store.folder import (
    ResultsError,
    check_sources,
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

if TYPE_CHECKING:
    from study.store.results import Study

Say = Callable[[str], None]
Page = Callable[["Study"], object]


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


def has_own_code(spec: StudySpec) -> bool:
    """Tell whether a task, an optimizer or a schedule of the study is a user's own, or another package's."""
    return bool(own_names(spec))


def own_names(spec: StudySpec) -> list[str]:
    """Return the names of all that the study imports: tasks, optimizers and schedules that are not built in."""
    families = [spec.table.family_of(name) for name in spec.methods]
    named = [
        *(problem.task for problem in spec.problems),
        *(name for family in families for name in (family.base, family.around, family.schedule)),
        *(str(cell.factors["schedule"]) for cell in cells(spec)),
    ]
    return sorted({name for name in named if is_own_name(name)})


def try_own_tasks(spec: StudySpec, say: Say, page: Page | None) -> tuple[StudySpec, tuple[str, ...]]:
    """Try a study with code of the user's own in miniature, before anything is written or started.

    Args:
        spec: The study.
        say: Told that it takes a moment.
        page: Makes of a study whatever is shown of it at its end.

    Returns:
        The spec, with where the test parts come from and what the optimizers need, and what the user should know.

    Raises:
        ResultsError: it can't be made; where the user's code raised, its traceback has been printed.
    """
    if not has_own_code(spec):
        return spec, ()
    from study.driver.rehearsal import conclude_in_miniature  # noqa: PLC0415  # with pandas
    from study.training.preflight import PreflightError, preflight  # noqa: PLC0415  # needs torch

    own = sum(is_own_task(cell.task) for cell in cells(spec)) or len({problem.task for problem in spec.problems})
    problems = f"{own:,} {'problem' if own == 1 else 'problems'}"
    say(f"Trying the study in miniature before it starts: {problems}, {len(spec.methods)} methods, a few examples.")
    try:
        with chdir(Path.cwd()):  # and back, wherever the user's code goes
            found = preflight(spec, partial(conclude_in_miniature, page))
    except PreflightError as error:
        print(error.trace, end="", file=sys.stderr)
        raise ResultsError(str(error)) from error
    known = {"test_parts": dict(found.test_parts), "loops": dict(found.loops), "optimizers": found.optimizers}
    return spec.model_copy(update=known), found.scores + found.notes


def check_own_sources(spec: StudySpec, folder: Path) -> None:
    """Make sure that the user's own code is what it was when a folder's runs were measured.

    Raises:
        ResultsError: one has been changed since.
    """
    held = _held(folder)
    if held and (own := own_names(spec)):
        from study.tasks.source import source_of  # noqa: PLC0415  # the tasks' room has torch in it
        from study.training.brought import sources_of  # noqa: PLC0415  # likewise

        tasks = {problem.task for problem in spec.problems}
        sources = {name: source_of(name) for name in own if name in tasks}
        check_sources(folder, held, sources_of(name for name in own if name not in tasks) | sources)


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
    freeze_spec(folder, spec, _with_found(text, spec))
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
    found = {
        "reference_times": held.reference_times,
        "test_parts": spec.test_parts | held.test_parts,
        "loops": spec.loops | held.loops,
        "optimizers": spec.optimizers | held.optimizers,
    }
    grown = spec.model_copy(update=found)
    freeze_spec(folder, grown, _with_found(text, grown))
    return grown


def _with_found(text: str, spec: StudySpec) -> str:
    """Return a spec's text with what was found before its first run as its last tables."""
    for name in ("reference_times", "test_parts", "loops", "optimizers"):
        found: Mapping[str, object] = getattr(spec, name)
        text = re.sub(rf"^\[{name}\]\n(?:[^\[].*\n|\n)*", "", text, flags=re.MULTILINE) if found else text
        if found:
            lines = "".join(f"{json.dumps(key)} = {_as_toml(value)}\n" for key, value in found.items())
            text = f"{text.rstrip()}\n\n[{name}]\n{lines}"
    return text


def _as_toml(value: object) -> str:
    """Return a text, a number, or what an optimizer needs, as a value of a TOML file."""
    if isinstance(value, Needs):
        return "{ " + ", ".join(f"{key} = {json.dumps(of)}" for key, of in asdict(value).items()) + " }"
    return json.dumps(value)


def warn(text: str) -> None:
    """Tell the user, whether they asked for quiet or not."""
    with suppress(OSError):  # a log on a full disk, a terminal that is gone
        print(text, file=sys.stderr)
