"""Files that a reader sees whole or not at all."""

import os
from pathlib import Path

_TEMPORARY = ".tmp"


def write_atomically(path: Path, text: str | bytes) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one, never a part.

    The file's folder is made, but not the one above: a results folder that has vanished must not come back half.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    data = text.encode() if isinstance(text, str) else text
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Tell whether a file is one that `write_atomically` had no time to finish."""
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)
