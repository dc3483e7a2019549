"""Time and memory from records to report, and how soon the page opens.

    PYTHONPATH=.:tests python -m benchmarks.bench_report [FOLDER] [--runs 100000] [--page | --open]

With a results folder: reading its records, finding, making the frame, building the page, opening it in Chromium.
Without one: of a study of so many runs, whose records are made up, as long as real ones, and written to a folder that
is thrown away; what is opened is the page of `quick` then, with made-up records. ``--page``: building the page alone,
of a frame of so many runs that never touches the disk. ``--open``: opening that of `quick` alone.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import many_runs
from benchmarks.conditions import header
from benchmarks.instant import ready_record, spec_of
from benchmarks.opening import opening
from synthetic import measured, spec_text

from dashboards.report import build_report
from study.findings import find
from study.plan.agenda import Agenda
from study.specs.spec import load_spec
from study.store.folder import ResultsError, freeze_spec, frozen_spec, records_of
from study.store.frame import frame_of
from study.store.record_files import read_lines, write_record

PER_CELL = 1000  # tune runs; confirm runs come on top
T = TypeVar("T")


def timed(name: str, work: Callable[[], T]) -> T:
    """Do the work; print its time and the peak of memory so far."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(f"{name:24} {wall:8.2f} s wall {cpu:8.2f} s CPU {peak:6.2f} GiB peak", flush=True)
    return result


def measure(folder: Path) -> str:
    """Print what every step from a results folder to its page takes, and return the page."""
    spec = frozen_spec(folder)
    if spec is None:
        raise ResultsError(f"{folder} was given; it has no spec.toml; give a results folder.")
    records = timed("read records", lambda: records_of(folder, spec))
    findings = timed("find", lambda: find(spec, records, lines=read_lines(folder)))
    frame = timed("make the frame", lambda: frame_of(records))
    page = timed("build the page", lambda: build_report(findings, frame, records=records))
    print(f"{len(records):,} runs, {len(page.encode()) / 1e6:.2f} MB")
    return page


def measure_opening(page: str) -> None:
    """Print how soon a page opens."""
    with tempfile.TemporaryDirectory(prefix="page-") as home:
        path = Path(home, "report.html")
        path.write_text(page, encoding="utf-8")
        print(opening(path) if "data-chart=" in page else "the page has no figure", flush=True)


def page_of_quick() -> str:
    """Return the page of the built-in study, of records that are made up."""
    records = measured(spec := load_spec("quick")[0])
    return build_report(find(spec, records), frame_of(records), records=records)


def fill(folder: Path, runs: int) -> None:
    """Write a finished study of at least so many runs into a new folder."""
    spec = spec_of(runs, PER_CELL)
    folder.mkdir(exist_ok=True)
    freeze_spec(folder, spec, spec_text(spec))
    agenda = Agenda(spec)
    while job := agenda.next_job():
        record = ready_record(job, spec.hash)
        write_record(folder, record)
        agenda.complete(record)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--open", action="store_true")
    given = parser.parse_args()
    print(header(), flush=True)
    if given.page:
        many_runs.main(given.runs)
    elif given.folder:
        measure_opening(measure(given.folder))
    elif given.open:
        measure_opening(page_of_quick())
    else:
        with tempfile.TemporaryDirectory(prefix="report-") as home:
            timed("write records", lambda: fill(Path(home), given.runs))
            measure(Path(home))
        measure_opening(page_of_quick())


if __name__ == "__main__":
    main()
