"""Under what a benchmark ran, and what its rounds come to: what stands above and in every table."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("torch", "ray", "optuna", "numpy", "pydantic", "sqlalchemy")


def header(packages: Sequence[str] = PACKAGES) -> str:
    """Return two lines: date, commit, machine and its load; the versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    where = f"{day} UTC, commit {commit()}, {platform.system()} {platform.machine()}, {cores} cores, load {load:.1f}"
    return f"{where}\nPython {platform.python_version()}, " + ", ".join(_with_version(name) for name in packages)


def commit() -> str:
    """Return the short hash of the commit that is measured, with ``+`` where files differ from it."""
    try:
        found = _git("rev-parse", "--short", "HEAD")
        return found + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _with_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} –"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write the median of some rounds, and the lowest and highest where there are several."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def resident_mb(process: int | str = "self") -> float:
    """Return the memory that a process holds now, in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first one the head, as a table that is also valid Markdown."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def python(*arguments: str) -> list[str]:
    """Return the command of this interpreter with some arguments."""
    return [sys.executable, *arguments]
