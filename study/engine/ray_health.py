"""Whether the Ray that this process has started lives: what it is dead without, and a watch that tells its death."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import ray

from study.engine.slots import EngineError

if TYPE_CHECKING:
    import psutil

_VITAL = ("raylet", "gcs_server")
_PATIENCE_S = 3.0  # between the looks at whether Ray lives, and before the last word


def vital_parts() -> "dict[psutil.Process, str]":
    """Return what the Ray that this process has started is dead without, by process; nothing of a Ray that was joined.

    Returns:
        The processes, each with its name.
    """
    import psutil  # noqa: PLC0415  # Ray brings it, and `import ray` puts it on the path

    found: dict[str, psutil.Process] = {}
    for one in sorted(psutil.Process().children(), key=psutil.Process.create_time):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found.setdefault(one.name(), one)  # the first: the others of its name are nodes that were added, and may go
    return {one: name for name, one in found.items() if name in _VITAL}


def check_that_ray_lives(parts: "Mapping[psutil.Process, str]") -> None:
    """Fail with a sentence where a part of the Ray that this process has started has died; Ray would just end us.

    Args:
        parts: What `vital_parts` returned while it lived.

    Raises:
        EngineError: it has died, and Ray has not been shut down.
    """
    dead = [name for process, name in parts.items() if _has_ended(process)]
    if dead and ray.is_initialized():
        raise EngineError(
            f"Ray's {dead[0]} has died (was it killed, or memory short?); every finished run is kept: "
            "give the command again, or --resume the folder."
        )


def _has_ended(process: "psutil.Process") -> bool:
    import psutil  # noqa: PLC0415  # as above

    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE  # which nobody has asked how it was
    except psutil.NoSuchProcess:
        return True


@contextmanager
def watched() -> Iterator[Callable[[], None]]:
    """End this process with a sentence where Ray dies in this block and the main thread does not come to notice it.

    Yields what ends the watch before the block does.

    Ray's calls wait for a dead Ray; after a while it ends the process, with a code and words that tell nobody.
    """
    over = threading.Event()

    def watch() -> None:
        parts: dict[psutil.Process, str] = {}
        while not over.wait(_PATIENCE_S):
            parts |= vital_parts()
            try:
                check_that_ray_lives(parts)
            except EngineError as error:
                if over.wait(_PATIENCE_S):
                    return
                with suppress(EngineError):  # it was about to be shut down
                    check_that_ray_lives(parts)
                    continue
                print(f"error: {error}", file=sys.stderr, flush=True)
                os._exit(2)

    thread = threading.Thread(target=watch, name="watch over Ray", daemon=True)
    thread.start()
    try:
        yield over.set
    finally:
        over.set()
        thread.join()
