"""Time and memory from records to report: ``python tests/benchmarks/bench_report.py [FOLDER | RUNS]``.

With a results folder: reading its records, finding, making the frame, building the page. With a number (default
100,000): building the page alone, of a study of so many runs that never touches the disk.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import many_runs

from dashboards.report import build_report
from study.findings import find
from study.folder import ResultsError, frozen_spec, records_of
from study.frame import frame_of
from study.record_files import read_lines
from study.results import planned_runs

T = TypeVar("T")


def timed(name: str, work: Callable[[], T]) -> T:
    """Do the work; print its time and the peak of memory so far."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(f"{name:24} {wall:8.2f} s wall {cpu:8.2f} s CPU {peak:6.2f} GiB peak", flush=True)
    return result


def main(folder: Path) -> None:
    """Print what every step from a results folder to its page takes."""
    spec = frozen_spec(folder)
    if spec is None:
        raise ResultsError(f"{folder} was given; it has no spec.toml; give a results folder or a number of runs.")
    records = timed("read records", lambda: records_of(folder, spec))
    planned = timed("count planned runs", lambda: planned_runs(spec, records))
    findings = timed("find", lambda: find(spec, records, planned, read_lines(folder)))
    frame = timed("make the frame", lambda: frame_of(records))
    page = timed("build the page", lambda: build_report(findings, frame, records=records))
    print(f"{len(records):,} runs, {len(page.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else "100000"
    if given.isdecimal():
        many_runs.main(int(given))
    else:
        main(Path(given))
