"""Where the slots' time goes in a whole study, and what surrounds it.

    python tests/benchmarks/bench_study.py [--spec quick] [--out FOLDER]

Starts ``python -m study.run`` in a new folder (or, with ``--out``, in one that is kept) and reads the clock times of
what it writes. A record's file is as old as the driver's taking it in, so a run began at that time less its ``wall_s``.

- to the first step: from the command to where the first run began; Ray's start, the workers' and the data are in it.
- slot time: slots × the time from there to the last record. It is inside runs (``wall_s``: building the task, steps,
  averages, measuring), of that inside training (``train_s``: all but measuring), or outside: between two runs of a
  slot, and at the end, when a slot has nothing left to do while the others finish.
- overhead per run: slot time outside runs, the wait at the end apart, by the number of runs.
- to the report: from the last file of measurements (records, lines, planes) to ``report.html``.
- Ray's end: from there to the command's end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conditions import header


@dataclass(frozen=True, slots=True)
class RunTimes:
    """One run: when it ended (seconds since the epoch), and its time in all and in training."""

    ended: float
    wall_s: float
    train_s: float

    @property
    def began(self) -> float:
        return self.ended - self.wall_s


@dataclass(frozen=True, slots=True)
class Timeline:
    """A study from its command to its report; clock times in seconds, ``slots`` runs side by side."""

    command: float
    measured: float
    reported: float
    end: float
    slots: int
    runs: Sequence[RunTimes]

    def lines(self) -> Iterator[str]:
        """Yield what there is to print."""
        first, last = min(run.began for run in self.runs), max(run.ended for run in self.runs)
        slot_s = self.slots * (last - first)
        inside, training = sum(run.wall_s for run in self.runs), sum(run.train_s for run in self.runs)
        waiting = sum(last - ended for ended in sorted(run.ended for run in self.runs)[-self.slots :])
        yield f"{len(self.runs)} runs on {self.slots} slots, {self.end - self.command:.1f} s from command to end"
        yield f"to the first step  {first - self.command:8.2f} s"
        yield f"slot time          {slot_s:8.1f} s"
        yield f"  inside runs      {inside / slot_s:8.1%}"
        yield f"  inside training  {training / slot_s:8.1%}"
        yield f"  wait at the end  {waiting / slot_s:8.1%}"
        yield f"overhead per run   {(slot_s - inside - waiting) / len(self.runs):8.3f} s"
        yield f"lines and planes   {self.measured - last:8.2f} s"
        yield f"to the report      {self.reported - self.measured:8.2f} s"
        yield f"Ray's end          {self.end - self.reported:8.2f} s"


def run_study(spec: str, folder: Path, slots: int) -> Timeline:
    """Run a study and return its times; print each line that it prints, with the seconds since the command."""
    command = [sys.executable, "-m", "study.run", spec, "--out", str(folder), "--max-concurrent", str(slots)]
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        print(f"{time.time() - began:8.2f} s  {line}", end="", flush=True)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    end = time.time()
    measured = [
        path.stat().st_mtime for kind in ("records", "lines", "planes") for path in folder.glob(f"{kind}/*.json")
    ]
    reported = (folder / "report.html").stat().st_mtime
    return Timeline(began, max(measured), reported, end, slots, list(_runs(folder)))


def _runs(folder: Path) -> Iterator[RunTimes]:
    for path in (folder / "records").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        yield RunTimes(path.stat().st_mtime, record["wall_s"], record["train_s"])


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="quick")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a new folder for the study; without it, it is thrown away")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        timeline = run_study(options.spec, options.out or Path(place) / "study", options.slots)
    print(f"\n{options.spec}: {header()}")
    print(*timeline.lines(), sep="\n")


if __name__ == "__main__":
    main()
