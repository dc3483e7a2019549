"""The data of the built-in tasks by name: found, read or made, as arrays; `study.specs.tasks` names what does it.

The driver loads them, and what it loads ships to the trial workers once. Nothing here imports torch, which would take
the driver seconds; packages that some data need for reading are imported by these alone.
"""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from study.data.pool import Pool, SealedTestError, TaskError
from study.specs.tasks import entry_of


def find_data(name: str, folder: Path | None = None) -> None:
    """Make sure that a task's data are there, or download them if the user has asked so; nothing is read.

    Raises:
        TaskError: they are not; the message names the files and every folder that was looked into.
    """
    if find := entry_of(name).find:
        resolve_name(find)(name, folder)


def load_data(name: str, folder: Path | None = None) -> Any:
    """Load what a task needs, once; None for a user's own task, which loads its data itself.

    Raises:
        TaskError: the data is not there; the message says where it was looked for.
    """
    entry = entry_of(name)
    if not entry.load:
        return None
    load = resolve_name(entry.load)
    return load(name, folder) if entry.find else load()


__all__ = ["Pool", "SealedTestError", "TaskError", "find_data", "load_data"]
