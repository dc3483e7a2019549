"""One driver a folder: a lock that the operating system takes back when its holder dies, whatever it died of.

The file ``<folder>/.lock`` names the holder for people; the lock itself is the kernel's (``flock``), so a file that a
killed driver left behind is no obstacle. Reading a results folder needs no lock. On NFS the lock holds across machines
from version 4 on; where a file system has no locks at all, there is no protection, and nothing is refused.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from study.store.folder import LOCK, ResultsError

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep every other driver out of a folder, which is made if need be, for the length of the block.

    What was made is taken away again if nothing has come into it: a folder is there to be gone on with.

    Raises:
        ResultsError: another process holds it; the message says which one, on which machine.
        OSError: the folder can't be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    path = folder / LOCK
    descriptor: int | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        # First the name, then the lock: who opened the file in between finds in `_locked` that it is gone.
        if descriptor is not None:
            with suppress(OSError):
                if _is_file_at(path, descriptor):  # the folder may have been renamed meanwhile
                    path.unlink()
            os.close(descriptor)
        with suppress(OSError):
            for place in made:
                place.rmdir()  # which takes an empty folder alone


def _locked(path: Path) -> int:
    """Return the descriptor of the lock file, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)  # a link could lead anywhere
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 500).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise ResultsError(
                f"{path.parent} is being worked on by {holder}; wait until it ends, or stop it, or choose another "
                "folder with --out (reading the folder and its report needs no waiting)."
            ) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        if _is_file_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # its holder let go and took the file away


def _is_file_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
