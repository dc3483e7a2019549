"""Join a Ray cluster or start one on this machine, with the code that its workers need."""

import importlib.util
import os
import signal
import socket
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from study.engine import bare_ray
from study.engine.slots import EngineError
from study.engine.start import QUIET, start_ray, url_of
from study.specs.tasks import is_own_task

if TYPE_CHECKING:
    import psutil

_SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must reach the driver, which knows how to resume
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are ours; three more files a trial help nobody
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # about a restore that is not used
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner ignores verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a user's task mean what they say
    "RAY_USAGE_STATS_ENABLED": "0",  # a cluster that we start tells nobody about itself
    # In a Ray that we start a process is dead when it has ended, and not when it has been slow for a minute.
    "RAY_worker_register_timeout_seconds": "3600",
    "RAY_health_check_failure_threshold": "1000",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what later releases do; the device comes from the resources
}
_VITAL = ("raylet", "gcs_server")
_PATIENCE_S = 3.0  # between the looks at whether Ray lives, and before the last word


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that this process has joined or started.

    Attributes:
        resources: What it has, as ``ray.cluster_resources()`` gives it.
        dashboard_url: Done when there is a dashboard, with "" where there is none; cancelled where it came too late.
        let_it_go: To be called when the process does not depend on Ray any more, so that its death is nobody's matter.
        warning: What a user must know of it; "" if there is nothing.
    """

    resources: Mapping[str, float]
    dashboard_url: Future[str]
    let_it_go: Callable[[], None]
    warning: str = ""


@contextmanager
def cluster(
    address: str | None,
    tasks: Iterable[str] = (),
    max_concurrent: int | None = None,
    cpus_per_trial: float | None = None,
) -> Iterator[Cluster]:
    """Join the Ray cluster at ``address``, or start one on this machine; leave it again at the end.

    Signals are answered as before throughout: Ray puts handlers in their place, and leaves SIGTERM to the system.

    Args:
        address: ``auto``, ``host:port``, or None to start one.
        tasks: Names of the tasks that will run; the modules of a user's own go along to the nodes of a cluster. (On
            this machine Ray's workers search the folder that the driver was started in, so nothing needs to.)
        max_concurrent: Upper bound of runs side by side, if there is one.
        cpus_per_trial: CPUs of each run, if that is decided.

    Raises:
        EngineError: there is no cluster at the address, or a task's module is not found.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    _check_that_somebody_listens(address)
    modules = [str(path) for path in module_paths(tasks)] if address else []
    with ExitStack() as stack:
        take_back = stack.enter_context(_our_signals())
        stop_watching = stack.enter_context(_watched())
        stack.enter_context(bare_ray.quiet())
        warning = ""
        dashboard: Future[str] = Future()
        try:
            if address:
                environment = {"py_modules": modules} if modules else None
                joined = ray.init(address=address, runtime_env=environment, **QUIET)
                stack.callback(ray.shutdown)
                take_back()
                dashboard.set_result(url_of(joined.dashboard_url))
            else:
                warning = start_ray(stack, take_back, dashboard, max_concurrent, cpus_per_trial)
        except EngineError:
            raise
        except (ConnectionError, ValueError) as error:
            raise _no_cluster(address, error) from error

        def let_it_go() -> None:
            stop_watching()
            dashboard.cancel()

        yield Cluster(ray.cluster_resources(), dashboard, let_it_go, warning)


@contextmanager
def _our_signals() -> Iterator[Callable[[], None]]:
    """Answer signals as before whenever what is yielded is called, and after the block."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def take_back() -> None:
        # What Python remembers as set may be gone, so they are set anew.
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)

    try:
        yield take_back
    finally:
        take_back()


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
def _watched() -> Iterator[Callable[[], None]]:
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


def _check_that_somebody_listens(address: str | None) -> None:
    """Fail at once where Ray would knock for minutes: at a ``host:port`` where nothing is."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> EngineError:
    if address is None:
        return EngineError(
            f"Ray can't be started on this machine: {str(error).splitlines()[0]}; mend that, and try again."
        )
    return EngineError(
        f"--address {address} was given; no Ray cluster answers there ({str(error).splitlines()[0]}); "
        "start one with `ray start --head`, or leave --address out."
    )


def module_paths(tasks: Iterable[str]) -> list[Path]:
    """Return the files and folders that hold the tasks named ``module:function``, once each.

    A module inside a package stands for the whole package. What was installed is left out: a cluster's nodes have
    their own environment, and it must be installed there, too.

    Raises:
        EngineError: there is no such module.
    """
    installed = tuple(Path(sysconfig.get_path(key)) for key in ("purelib", "platlib", "stdlib"))
    found: dict[Path, None] = {}
    for task in tasks:
        if not is_own_task(task):
            continue
        top = task.partition(":")[0].partition(".")[0]
        spec = importlib.util.find_spec(top)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        place = folders[0] if folders else spec.origin if spec else None
        if place is None:
            raise EngineError(
                f"task = {task!r} was given; there is no module {top!r} here; "
                "start the study in the folder that holds it, or install it."
            )
        path = Path(place)
        if not any(path.is_relative_to(folder) for folder in installed):
            found[path] = None
    return list(found)
