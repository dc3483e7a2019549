"""Files that a reader sees whole or not at all."""

import os
from pathlib import Path

_TEMPORARY = ".tmp"


def write_atomically(path: Path, text: str | bytes, *, make_folder: bool = False) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Args:
        path: Where it goes, in a folder that is there: a results folder that has vanished must not come back half.
        text: All of it; a text is encoded in UTF-8.
        make_folder: Make the file's folder if need be, but never the one above.

    Raises:
        OSError: it can't be written; nothing of it is left behind.
    """
    if make_folder:
        path.parent.mkdir(exist_ok=True)
    temporary = temporary_beside(path)
    data = text.encode() if isinstance(text, str) else text
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return the name under which this process builds a file or folder that is to stand at a path."""
    return path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")


def is_temporary(path: Path) -> bool:
    """Tell whether a file or folder is one that was being built, by its name."""
    return path.name.startswith(".") and path.suffix == _TEMPORARY
