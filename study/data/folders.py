"""Where downloaded data are looked for, whether they may be downloaded, and what is said where they are nowhere."""

import os
from pathlib import Path

from study.data.pool import TaskError

DATA, DOWNLOAD = "WASAM_DATA", "WASAM_DOWNLOAD"  # environment variables; the flags --data and --download set them
_OF_DEBIAN = Path("/usr/share/datasets")  # packages such as dataset-fashion-mnist
_OF_R = Path("/usr/lib/R/site-library")  # Debian's packages of R, such as r-cran-mlbench


def data_folders(folder: Path | None = None) -> list[Path]:
    """Return the folders that are looked into, in order: the given one alone, or the usual ones.

    These are the one that the environment variable ``WASAM_DATA`` names, ``~/.cache/wasam-study`` (under
    ``XDG_CACHE_HOME`` where that is set), and those of Debian's ``dataset-…`` and ``r-cran-…`` packages.
    """
    if folder is not None:
        return [folder]
    named = os.environ.get(DATA)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*([Path(named)] if named else []), cache / "wasam-study", _OF_DEBIAN, _OF_R]


def may_download() -> bool:
    """Whether the user has asked for missing data to be downloaded."""
    return os.environ.get(DOWNLOAD, "") not in ("", "0")


def missing(task: str, files: str, folder: Path | None, remedy: str) -> TaskError:
    """Return the error for files that are nowhere: what was looked for, where, and how to get it ("or …")."""
    return TaskError(
        f"task {task!r} was given; its data ({files}) are in none of {', '.join(map(str, data_folders(folder)))}; "
        f"put them there, name their folder with --data ({DATA}), or {remedy}"
    )
