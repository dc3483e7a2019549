"""Wall and CPU time of a command and of all processes that it starts, wherever they end up in the process tree.

Ray's workers are no descendants whose time is ever added to their driver's, so they are known by a variable of the
environment that they inherit, and their times are read from ``/proc`` while they live: the last fraction of a second
of a process is lost. On a busy machine CPU time says more than wall time.
"""

import os
import subprocess
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

_MARK = "BENCHMARKED"
_EVERY_S = 0.2
_LOOKS = 5  # a process that is being started has the environment of its parent, or none yet
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Took:
    """What a command took: seconds of wall time, CPU seconds of all of its processes, and what it printed."""

    wall_s: float
    cpu_s: float
    output: str


def timed(command: Sequence[str], cwd: Path | None = None, **environment: str) -> Took:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    mark = uuid.uuid4().hex
    spent: dict[int, float] = {}
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(mark, spent, over), daemon=True)
    watcher.start()
    began = perf_counter()
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd,
            env=os.environ | environment | {_MARK: mark},
        )  # fmt: skip
    finally:
        wall = perf_counter() - began
        over.set()
        watcher.join()
    return Took(wall, sum(spent.values()), done.stdout)


def _watch(mark: str, spent: dict[int, float], over: threading.Event) -> None:
    known: dict[int, int] = {}
    while not over.wait(_EVERY_S):
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                with suppress(OSError):  # it has just ended
                    _look(int(entry), mark, known, spent)


def _look(process: int, mark: str, known: dict[int, int], spent: dict[int, float]) -> None:
    """Add up a process's time; ``known`` are the looks at a stranger that are left, -1 for one of ours."""
    home = Path(f"/proc/{process}")
    looks = known.get(process, _LOOKS)
    if looks > 0:
        known[process] = -1 if f"{_MARK}={mark}".encode() in (home / "environ").read_bytes() else looks - 1
    if known[process] < 0:
        fields = (home / "stat").read_text().rpartition(") ")[2].split()
        spent[process] = (int(fields[11]) + int(fields[12])) / _TICKS
