"""Keep a report up to date while its study runs: rewrite it whenever records have changed, until the last one is there.

Nothing is served and nothing is asked of the running study: this reads the same files that `python -m dashboards`
reads, and a page that is open in a browser loads itself anew.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dashboards.report import write_report
from study.store.results import Study, load

EVERY_S = 10
_LAST_WRITE_S = 60  # after this the last page of an interrupted watch is given up

State = frozenset[tuple[str, int, int]]


def watch(
    folder: Path,
    path: Path | None = None,
    *,
    every_s: int = EVERY_S,
    wait: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda _: None,
) -> Study:
    """Rewrite a study's report after every change of its records; return the study once it is finished.

    A KeyboardInterrupt leaves a last page that no longer reloads itself, and goes on.

    Args:
        folder: The results folder of a study that has been started.
        path: Where the page goes; by default ``report.html`` in the folder.
        every_s: Seconds between two looks at the folder, and between two reloads of the page.
        wait: Waits for that long.
        say: Told what was written.

    Raises:
        ResultsError: no study in the folder.
        RecordError: a record that can't be read.
    """
    written: State | None = None
    study: Study | None = None
    try:
        while True:
            found = _state_of(folder)
            if found != written:
                study = load(folder)
                counts = study.findings.counts
                page = write_report(study, path, reload_s=0 if counts.finished else every_s)
                say(f"{page}: {counts.ended:,} of {counts.planned:,} runs")
                written = found
                if counts.finished:
                    return study
            wait(every_s)
    except KeyboardInterrupt:
        if study:
            write_report(study, path)
        raise


def _state_of(folder: Path) -> State:
    """Return what tells one state of a study's files from another: their names, sizes and times."""
    parts = (path for part in ("records", "lines", "planes") for path in (folder / part).glob("*.json"))
    found = set()
    for path in (folder / "spec.toml", *parts):
        with contextlib.suppress(FileNotFoundError):  # a temporary file that is gone by now
            stat = path.stat()
            found.add((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return frozenset(found)


@contextlib.contextmanager
def in_background(folder: Path, every_s: int = EVERY_S) -> Iterator[None]:
    """Watch a folder from another process for the length of the block, which goes on whatever becomes of it.

    The process ends with the block: at once where the block ends well, as its caller then writes the final report,
    and after a last page that no longer reloads itself where it is left by an exception.
    """
    command = [sys.executable, "-m", "dashboards", "--watch", str(folder), "--every", str(every_s), "--with-parent"]
    quiet = subprocess.DEVNULL
    # A session of its own: Ctrl-C on the terminal is for the study, which then says here what to do.
    try:
        watching = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError as error:
        print(f"the report does not follow the study: {error}", file=sys.stderr)
        yield
        return
    stop = signal.SIGINT
    try:
        yield
        stop = signal.SIGTERM
    finally:
        watching.send_signal(stop)
        try:
            watching.wait(_LAST_WRITE_S)
        except subprocess.TimeoutExpired:
            watching.kill()
            watching.wait()


def until_parent_exits(wait: Callable[[float], None] = time.sleep) -> Callable[[float], None]:
    """Return a way of waiting that ends a watch, by KeyboardInterrupt, once the process that started it is gone."""
    parent = os.getppid()

    def waiting(seconds: float) -> None:
        wait(seconds)
        if os.getppid() != parent:
            raise KeyboardInterrupt

    return waiting
