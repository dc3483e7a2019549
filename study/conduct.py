"""Conduct a study in its results folder: open it, train what is left, and conclude from the records."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from study.agenda import Agenda
from study.progress import Display
from study.records import RunRecord, write_atomically, write_record
from study.results import (
    ResultsError,
    Study,
    freeze_spec,
    fresh_folder_name,
    frozen_spec,
    load,
    records_of,
    write_views,
)
from study.spec import StudySpec, extends

if TYPE_CHECKING:
    from study.search import Slots

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of the engine; None leaves the choice to it."""

    address: str | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None


def open_folder(spec: StudySpec, text: str, folder: Path, *, fresh: bool, say: Say) -> tuple[StudySpec, Agenda]:
    """Make a folder the home of a study, or find the study in it; return the spec that holds there and what is left.

    Args:
        spec: What to run. text: Its TOML, which is frozen into a new folder.
        folder: The results folder.
        fresh: Rename what is there and start anew.
        say: Told what was found.

    Raises:
        ResultsError: the folder holds something else.
    """
    if fresh and folder.exists():
        renamed = fresh_folder_name(folder)
        folder.rename(renamed)
        say(f"the old study was moved to {renamed}")
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


def _started(spec: StudySpec, text: str, folder: Path) -> tuple[StudySpec, Agenda]:
    if folder.exists() and any(folder.iterdir()):
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
def engine(wishes: Wishes, say: Say) -> Iterator["Slots"]:
    """Join or start Ray for the length of the block, and say where to watch it.

    Raises:
        ResultsError: the cluster can't be used as asked.
    """
    from study import search  # noqa: PLC0415  # Ray takes seconds to import; listing and reading need none of it

    try:
        with search.cluster(wishes.address) as cluster:
            slots = search.plan_slots(
                cluster.resources, wishes.cpus_per_trial, wishes.gpus_per_trial, wishes.max_concurrent
            )
            device = f"{slots.gpus:g} GPU each" if slots.gpus else "on CPUs"
            watch = (
                f"Ray dashboard: {cluster.dashboard_url} (if it asks for a token, `ray get-auth-token` prints it)"
                if cluster.dashboard_url
                else "this Ray cluster has no dashboard"
            )
            say(f"{slots.concurrent} runs side by side, {device}. {watch}")
            yield slots
    except search.EngineError as error:
        raise ResultsError(str(error)) from error


def train(spec: StudySpec, folder: Path, agenda: Agenda, slots: "Slots", *, console: Console, quiet: bool) -> None:
    """Run what the agenda still holds, inside `engine`; every finished run is on disk before the next is taken in."""
    from study import search  # noqa: PLC0415
    from study.optuna_store import OptunaStore  # noqa: PLC0415

    store = OptunaStore(folder / "optuna.db", spec.search, agenda)

    def take(record: RunRecord, weights: bytes) -> None:
        if weights:
            write_atomically(folder / "weights" / f"{record.run_id}.safetensors", weights)
        write_record(folder, record)
        agenda.complete(record)
        store.add(record, agenda.search_of(record))
        display.finished(record)

    try:
        with Display(console, agenda, slots.concurrent, quiet) as display:
            search.run_agenda(
                agenda,
                name=spec.name,
                spec_hash=spec.hash,
                slots=slots,
                storage=folder / "ray",
                take=take,
                listener=display,
            )
    finally:
        store.close()


def conclude(folder: Path, agenda: Agenda) -> Study:
    """Measure the lines that the spec asks for, write the frame and the findings, and return the study."""
    if any(record.job.probed for record in agenda.records):
        from study.lines import measure_lines  # noqa: PLC0415  # needs torch

        measure_lines(folder, agenda)
    study = load(folder)
    write_views(study)
    return study
