"""Start a study in its results folder, or resume the one that is there; and see that nothing is left to train."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from study import data
from study.driver.messages import Say, warn
from study.listeners.background import catch_up
from study.plan.agenda import Agenda
from study.records import Needs
from study.specs.spec import FOUND, StudySpec, extends
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


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study in its results folder: the spec that holds there, and what is left to run."""

    spec: StudySpec
    folder: Path
    agenda: Agenda


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
) -> Iterator[OpenStudy]:
    """Make a folder the home of a study, or find it there; keep every other driver out for the length of the block.

    Args:
        spec: What to run. text: Its TOML, which is frozen into a new folder.
        folder: The results folder.
        fresh: Rename what is there and start anew.
        retry_failed: Run again what has failed; the old records stand aside.
        replicates: Run these alone; None: all that the spec plans.
        say: Told what was found.

    Raises:
        ResultsError: the folder holds something else, or another driver works on it.
    """
    if fresh and folder.exists():
        with hold(folder):
            renamed = fresh_folder_name(folder)
            folder.rename(renamed)
            say(f"the old study was moved to {renamed}")
    with hold(folder):
        sweep(folder)
        held = _held(folder)
        if retry_failed and held:
            say(f"{set_aside_failed(folder, held)} failed runs are done again; their records stand in records/failed.")
        spec = _continued(spec, held, text, folder, say) if held else _started(spec, text, folder)
        agenda = Agenda(spec, records_of(folder, spec) if held else (), replicates)
        if held:
            say(
                f"{folder} is finished: nothing to train."
                if agenda.finished
                else f"{folder} is unfinished: going on after {len(agenda.records)} finished runs."
            )
        set_aside_superseded(folder, spec, agenda)
        if agenda.finished:
            catch_up(folder, agenda, warn)
        yield OpenStudy(spec, folder, agenda)


def has_runs_left(
    spec: StudySpec, folder: Path, *, fresh: bool = False, replicates: Sequence[int] | None = None
) -> bool:
    """Tell whether a study would train anything in a folder, from the records there; nothing is written.

    Arguments are those of `opened`.

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


def _started(spec: StudySpec, text: str, folder: Path) -> StudySpec:
    if holds_files(folder):
        raise ResultsError(f"{folder} holds files but no study; give an empty or new folder with --out, or --fresh.")
    if "T" in spec.budgets and not spec.reference_times:
        from study.training.estimate import reference_times  # noqa: PLC0415  # needs torch

        spec = spec.model_copy(update={"reference_times": reference_times(spec)})
    freeze_spec(folder, spec, _with_found(text, spec))
    return spec


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
    grown = spec.model_copy(update={name: getattr(spec, name) | getattr(held, name) for name in FOUND})
    freeze_spec(folder, grown, _with_found(text, grown))
    return grown


def _with_found(text: str, spec: StudySpec) -> str:
    """Return a spec's text with what was found before its first run as its last tables."""
    for name in FOUND:
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
