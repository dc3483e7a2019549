"""Does a run get dearer for the driver the more runs there are? CPU time and memory per run at 10, 100, 1,000, 10,000.

    PYTHONPATH=.:tests python -m benchmarks.bench_growth [--runs 10000] [--ray 1000] [--plan 100000]

The driver's own part is everything that it does for a run but Ray: the agenda, the searcher and the recorder that Tune
calls, the record on disk, ``optuna.db``, the tally, and every listener; it is fed with ready records. Two shapes:
all trials in one cell, and as many cells as runs allow. With ``--ray``: the real engine, whose workers train nothing.
CPU time is the whole driver process's, the threads of Ray in it included; memory is what it holds.
"""

import argparse
import cProfile
import gc
import json
import pstats
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks.conditions import header, python, resident_mb, table
from benchmarks.instant import InstantRun, ready_record, spec_of
from rich.console import Console

from study.driver import conduct
from study.driver.resume import OpenStudy
from study.engine import drive
from study.engine.recorder import Recorder
from study.engine.searcher import AgendaSearcher
from study.engine.slots import Slots
from study.engine.watch import HangWatch
from study.plan.agenda import Agenda
from study.plan.cells import sizes
from study.records import RunRecord
from study.store.folder import freeze_spec

SHAPES = {"one cell": None, "cells of 20": 10}  # tune runs of a cell; its confirm runs come on top
SIDE_BY_SIDE = 2


class Marks:
    """CPU seconds, wall seconds and memory of this process at given numbers of runs."""

    def __init__(self, runs: int) -> None:
        self.wanted = {1, *(step for step in marks_of(runs)), *(step * 4 // 5 for step in marks_of(runs))}
        self.seen: dict[int, tuple[float, float, float]] = {}

    def take(self, done: int) -> None:
        """Note where the process stands, if this number of runs is wanted."""
        if done in self.wanted:
            self.seen[done] = time.process_time(), time.perf_counter(), resident_mb()


def marks_of(runs: int) -> list[int]:
    """Return 10, 100, … up to a number of runs, and that number."""
    return [10**power for power in range(1, len(str(runs))) if 10**power < runs] + [runs]


def without_ray(
    agenda: Agenda, data: Any, *, spec_hash: str, slots: Slots, take: Any, listeners: Any, **_: Any
) -> None:
    """Stand in for `study.engine.drive.run_agenda`: call searcher and callbacks as Tune does, with ready records."""
    searcher, watch = AgendaSearcher(agenda, slots), HangWatch(1800.0)
    recorder = Recorder(searcher, watch, take, listeners, spec_hash)
    running: list[Any] = []
    for number in count():
        while len(running) < slots.concurrent:
            trial = SimpleNamespace(
                trial_id=f"{number}-{len(running)}", checkpoint=None,
                run_metadata=SimpleNamespace(metric_analysis={}, metric_n_steps={}),
            )  # fmt: skip
            config = searcher.suggest(trial.trial_id)
            if not isinstance(config, dict):
                break
            recorder.on_trial_start(number, running, trial)
            watch.on_trial_start(number, running, trial)
            running.append(trial)
        if not running:
            return
        trial = running.pop(0)
        record = ready_record(searcher.under_way[trial.trial_id], spec_hash)
        result = {"record": record.model_dump_json(), "weights": ""}
        watch.on_trial_result(number, running, trial)
        recorder.on_trial_result(number, running, trial, result)
        watch.on_trial_complete(number, running, trial)
        recorder.on_trial_complete(number, running, trial)
        watch.on_step_end(number, running)
        recorder.on_step_end(number, running)


def measured(shape: str, runs: int, ray: bool, profile: bool) -> dict[str, Any]:
    """Drive one study to its end in this process and return what it took at every mark."""
    spec = spec_of(runs, SHAPES[shape])
    agenda, marks = Agenda(spec), Marks(runs)
    done = count(1)

    def written(folder: Path, record: RunRecord) -> Path:
        path = write(folder, record)
        marks.take(next(done))
        return path

    write = conduct.write_record
    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory(prefix="growth-") as home, mock.patch.object(conduct, "write_record", written):
        folder = Path(home) / "study"
        freeze_spec(folder, spec, "")
        gc.collect()
        with _engine(ray) as session:
            if profile:
                profiler.enable()
            conduct.train(OpenStudy(spec, folder, agenda), session, console=Console(quiet=True), quiet=False)
            profiler.disable()
        disk = {
            name: sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file())
            for name in ("records", "tensorboard", "ray")
        } | {"optuna.db": (folder / "optuna.db").stat().st_size}
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    return {"marks": marks.seen, "runs": next(done) - 1, "disk": disk}


@contextmanager
def _engine(ray: bool) -> Iterator[conduct.Session]:
    if not ray:
        with mock.patch.object(drive, "run_agenda", without_ray):
            yield conduct.Session(Slots(1, 0, SIDE_BY_SIDE), conduct.EngineOptions(), {"digits": None}, lambda: None)
        return
    real = drive.run_agenda

    def instant(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options, trainable=InstantRun)

    with (
        mock.patch.object(drive, "run_agenda", instant),
        conduct.engine(conduct.EngineOptions(), lambda text: None, ["digits"]) as session,
    ):
        yield session


def rows_of(label: str, found: dict[str, Any]) -> list[list[str]]:
    """Return the rows of one study: cost per run over the fifth before each mark, memory since the mark before."""
    marks = {int(number): values for number, values in found["marks"].items()}
    rows, earlier = [], marks[1]
    for end in sorted(marks):
        begin = end * 4 // 5
        if begin not in marks or end - begin < 2 or end not in marks_of(max(marks)):
            continue
        (cpu0, wall0, _), (cpu1, wall1, memory) = marks[begin], marks[end]
        number = end - begin
        rows.append(
            [
                label, f"{end:,}", f"{1e3 * (cpu1 - cpu0) / number:.1f}", f"{1e3 * (wall1 - wall0) / number:.1f}",
                f"{memory:.0f}", f"{1e3 * (memory - earlier[2]) / max(1, end - _before(end)):.1f}",
            ]
        )  # fmt: skip
        earlier = marks[end]
    return rows


def _before(end: int) -> int:
    return max((mark for mark in marks_of(end) if mark < end), default=1)


def planning(runs: int) -> list[tuple[str, float, float]]:
    """Return CPU seconds and MB of opening a study of so many runs, and of making every one of its tune jobs."""
    spec, found = spec_of(runs, 200), []
    for name, work in (
        ("sizes of all stages", lambda: sizes(spec)),
        ("open the agenda", lambda: Agenda(spec)),
        ("the first job", lambda: Agenda(spec).next_job()),
        ("make every tune job", lambda: _all_jobs(Agenda(spec))),
    ):
        gc.collect()
        began, before = time.process_time(), resident_mb()
        kept = work()
        found.append((name, time.process_time() - began, resident_mb() - before))
        del kept
    return found


def _all_jobs(agenda: Agenda) -> Agenda:
    while agenda.next_job():
        pass
    return agenda


def _alone(*arguments: str) -> Any:
    """Run this program for one measurement in a process of its own, and return what it found."""
    done = subprocess.run(
        python("-m", "benchmarks.bench_growth", *arguments, "--json"), check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a table for every shape, and what planning takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="runs of the driver's own part; 0: leave it out")
    parser.add_argument("--ray", type=int, default=1000, help="runs under the real engine; 0: leave it out")
    parser.add_argument("--plan", type=int, default=100_000, help="runs of the study that is planned; 0: leave it out")
    parser.add_argument("--profile", choices=SHAPES, help="profile the driver's own part instead (or Ray's: --runs 0)")
    parser.add_argument("--json", choices=("", *SHAPES), nargs="?", const="", help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.profile:
        measured(given.profile, given.runs or given.ray, ray=not given.runs, profile=True)
        return
    if given.shape:
        print(json.dumps(measured(given.shape, given.runs or given.ray, ray=not given.runs, profile=False)))
        return
    print(header(), flush=True)
    rows = [["driver", "at run", "CPU ms a run", "wall ms a run", "memory MB", "KB a run since"]]
    for shape in SHAPES:
        if given.runs:
            rows += rows_of(f"own part, {shape}", _alone("--shape", shape, "--runs", str(given.runs)))
    if given.ray:
        rows += rows_of("with Ray, one cell", _alone("--shape", "one cell", "--runs", "0", "--ray", str(given.ray)))
    print(f"\n{table(rows)}")
    if given.plan:
        print(f"\nplanning a study of {given.plan:,} runs")
        for name, seconds, memory in planning(given.plan):
            print(f"  {name:22} {seconds:6.2f} s CPU  {memory:+6.0f} MB")


if __name__ == "__main__":
    main()
