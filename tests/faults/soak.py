"""``make soak``: one study of 1,000 tiny runs. Does the driver grow, does a run get dearer, is anybody left behind?

Memory, open files, and children that nobody waited for are read from /proc, twice a second.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faults.laboratory import HERE, ROOT, SPEC, processes_of

HUNDRED = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """The driver at one moment: MB of memory, open files, zombies among all of the study's processes, runs done."""

    memory_mb: float
    files: int
    zombies: int
    runs: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, metavar="N", help="about so many runs; default 1000")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as home:
        return _soak(Path(home), given.runs)


def _soak(home: Path, runs: int) -> int:
    folder = home / "study"
    # Two families are tuned in each of two replicates; the rest of the runs are trials: they cost the same and need no
    # second start of Ray.
    text = SPEC.replace("trials = 2", f"trials = {runs // 4 - 4}").replace("epochs = 4", "epochs = 1")
    (home / "tiny.toml").write_text(text)
    (home / "tiny_task.py").write_text((HERE / "tiny_task.py").read_text())
    with (home / "log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "study.run", "tiny.toml", "--out", str(folder), "--no-report"],
            stdout=log, stderr=log, cwd=home, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FAULTS_OF": str(folder)},
        )  # fmt: skip
        samples = []
        while driver.poll() is None:
            if (folder / "records").is_dir():
                samples.append(_sample(driver.pid, folder))
            time.sleep(0.5)
    print(f"exit code {driver.returncode}")
    ends = sorted(path.stat().st_mtime for path in (folder / "records").glob("*.json"))
    _print(samples, ends)
    time.sleep(10)
    print(f"processes left behind: {len(processes_of(folder))}")
    return driver.returncode


def _sample(driver: int, folder: Path) -> Sample:
    process = Path(f"/proc/{driver}")
    try:
        resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        files = len(list((process / "fd").iterdir()))
    except OSError:  # it has just ended
        resident, files = float("nan"), 0
    zombies = sum(_is_zombie_of(entry, driver) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return Sample(resident, files, zombies, len(os.listdir(folder / "records")))


def _is_zombie_of(entry: Path, driver: int) -> bool:
    try:
        state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
    except OSError:
        return False
    return state == "Z" and int(parent) == driver


def _print(samples: list[Sample], ends: list[float]) -> None:
    # The first hundred runs fill caches; what grows after that grows for ever. After the last come findings and views.
    settled = [s for s in samples if HUNDRED <= s.runs < len(ends)] or samples
    runs = np.array([s.runs for s in settled])
    print(f"{len(ends)} runs in {ends[-1] - ends[0]:.0f} s")
    for name, values in (
        ("memory of the driver, MB", [s.memory_mb for s in settled]),
        ("open files of the driver", [s.files for s in settled]),
    ):
        third = [values[len(values) * part // 3] for part in range(3)] + [values[-1]]
        slope = np.polynomial.Polynomial.fit(runs, values, 1).convert().coef[1] * 1000
        thirds = " → ".join(f"{value:.0f}" for value in third)
        print(f"{name}: {thirds} from run {runs[0]} to {runs[-1]}, by thirds; {slope:+.1f} per 1,000 runs")
    gaps = np.diff(ends)
    for name, part in (("first", gaps[:HUNDRED]), ("last", gaps[-HUNDRED:])):
        print(f"seconds per run, {name} {len(part)}: mean {part.mean():.3f}, median {statistics.median(part):.3f}")
    print(f"zombies: at most {max(s.zombies for s in samples)}")


if __name__ == "__main__":
    sys.exit(main())
