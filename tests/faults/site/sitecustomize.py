"""Python runs this at its start, if its folder is on the path: it lets a fault happen to the driver at chosen writes.

``FAULT_AT`` holds moments, divided by semicolons, in their order: ``/records/ 3`` is the write of a record when three
are there already; its content is written then, and its name is still temporary. ``FAULT_DO`` is what happens then: one
thing at each of them, divided likewise, or one and the same. A file beside the results says that it has happened. The
product knows nothing of it.
"""

import json
import os
import resource
import subprocess
import time
from pathlib import Path

_fsync = os.fsync


def _watched_fsync(descriptor: int) -> None:
    _fsync(descriptor)
    if os.getpid() != _DRIVER or not _moments:
        return
    folder, (part, _, number) = Path(os.environ["FAULT_FOLDER"]), _moments[0].rpartition(" ")
    there = len(list(folder.glob("records/*.json")))
    written = os.readlink(f"/proc/self/fd/{descriptor}")  # a miniature of the study is written elsewhere, before it
    if written.startswith(f"{folder}/") and part in written and there >= int(number):
        del _moments[0]
        with Path(f"{folder}-struck").open("a") as file:
            file.write(f"{part} {number}\n")
        _do(_whats.pop(0) if len(_whats) > 1 else _whats[0], folder)


def _do(what: str, folder: Path) -> None:
    if what.isdecimal():
        os.kill(os.getpid(), int(what))
    elif what == "group-ctrl-c":  # a terminal sends it to the whole group
        os.killpg(os.getpgrp(), 2)
    elif what in ("raylet", "gcs_server"):
        [process] = [pid for pid, name in _children() if name == what]
        os.kill(process, 9)
    elif what == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    elif what == "full disk for the database":
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))  # records are smaller
    elif what == "vanish":
        folder.rename(f"{folder}-gone")
    elif what == "clock":
        time.time = lambda before=time.time: before() - 86_400
    elif what == "second driver":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FAULT_")}
        done = subprocess.run(json.loads(os.environ["FAULT_COMMAND"]), capture_output=True, text=True, env=clean)
        with Path(f"{folder}-second").open("a") as file:
            file.write(json.dumps([done.returncode, os.getpid(), done.stderr]) + "\n")
    else:
        raise ValueError(what)


def _children() -> list[tuple[int, str]]:
    """Return the processes that this one has started, by number and name."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                head, _, rest = (entry / "stat").read_text().rpartition(") ")
            except OSError:
                continue
            if int(rest.split()[1]) == os.getpid():
                found.append((int(entry.name), head.partition("(")[2]))
    return found


if os.environ.get("FAULT_AT") and "FAULT_DRIVER" not in os.environ:
    _DRIVER, _moments, _whats = os.getpid(), os.environ["FAULT_AT"].split(";"), os.environ["FAULT_DO"].split(";")
    os.environ["FAULT_DRIVER"] = str(_DRIVER)  # Ray's processes inherit it and are left alone
    os.fsync = _watched_fsync
