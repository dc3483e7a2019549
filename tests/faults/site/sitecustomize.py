"""Python runs this at its start, if its folder is on the path: it lets a fault happen to the driver at a chosen write.

``FAULT_AT`` is a part of a file's path and a number: ``/records/ 3`` is the third time that a record is about to be put
in place, its content written and its name still temporary. ``FAULT_DO`` is what happens then. The product knows
nothing of it.
"""

import json
import os
import resource
import subprocess
import time
from pathlib import Path

_fsync, _time = os.fsync, time.time
_seen = 0


def _watched_fsync(descriptor: int) -> None:
    global _seen
    _fsync(descriptor)
    part, _, number = os.environ["FAULT_AT"].rpartition(" ")
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if part in path and os.getpid() == _DRIVER:
        _seen += 1
        if _seen == int(number):
            _do(os.environ["FAULT_DO"], Path(os.environ["FAULT_FOLDER"]))


def _do(what: str, folder: Path) -> None:
    if what.isdecimal():
        os.kill(os.getpid(), int(what))
    elif what == "group-ctrl-c":  # a terminal sends it to the whole group
        os.killpg(os.getpgrp(), 2)
    elif what == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    elif what == "full disk for the database":
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))  # records are smaller
    elif what == "vanish":
        folder.rename(f"{folder}-gone")
    elif what == "clock":
        time.time = lambda: _time() - 86_400
    elif what == "second driver":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FAULT_")}
        done = subprocess.run(json.loads(os.environ["FAULT_COMMAND"]), capture_output=True, text=True, env=clean)
        Path(f"{folder}-second").write_text(f"{done.returncode} {os.getpid()} {done.stderr}")
    else:
        raise ValueError(what)


if os.environ.get("FAULT_AT") and "FAULT_DRIVER" not in os.environ:
    _DRIVER = os.getpid()
    os.environ["FAULT_DRIVER"] = str(_DRIVER)  # Ray's processes inherit it and are left alone
    os.fsync = _watched_fsync
