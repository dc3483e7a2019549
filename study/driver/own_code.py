"""A user's own code in a study: which it is, a try of all of it before anything starts, and whether it has changed."""

import sys
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from study.driver.messages import Say
from study.plan.cells import cells
from study.specs.own_names import is_own_name
from study.specs.spec import StudySpec
from study.specs.tasks import is_own_task
from study.store.folder import ResultsError, check_sources, frozen_spec

if TYPE_CHECKING:
    from study.store.results import Study

Page = Callable[["Study"], object]


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

    ``page`` makes of a study whatever is shown of it at its end.

    Returns:
        The spec, with where the test parts come from and what the optimizers need, and what the user should know.

    Raises:
        ResultsError: it can't be made; where the user's code raised, its traceback has been printed.
    """
    if not own_names(spec):
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
    return found.spec, found.scores + found.notes


def check_own_sources(spec: StudySpec, folder: Path) -> None:
    """Make sure that the user's own code is what it was when a folder's runs were measured.

    Raises:
        ResultsError: one has been changed since.
    """
    held = frozen_spec(folder)
    if held and (own := own_names(spec)):
        from study.tasks.source import source_of  # noqa: PLC0415  # the tasks' room has torch in it
        from study.training.brought import sources_of  # noqa: PLC0415  # likewise

        tasks = {problem.task for problem in spec.problems}
        sources = {name: source_of(name) for name in own if name in tasks}
        check_sources(folder, held, sources_of(name for name in own if name not in tasks) | sources)
