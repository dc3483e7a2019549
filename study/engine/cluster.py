"""Join a Ray cluster or start one on this machine, with the code that its workers need."""

import importlib.util
import os
import signal
import socket
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ray

from study.engine import bare_ray
from study.engine.ray_health import watched
from study.engine.slots import EngineError
from study.specs.tasks import is_own_task

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
_STARTS = 3  # Ray waits half a minute for its own processes, which may not be enough where many others run
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that this process has joined or started.

    Attributes:
        resources: What it has, as ``ray.cluster_resources()`` gives it.
        dashboard_url: Of its dashboard; "" where there is none.
        let_it_go: To be called when the process does not depend on Ray any more, so that its death is nobody's matter.
        warning: What a user must know of it; "" if there is nothing.
    """

    resources: Mapping[str, float]
    dashboard_url: str
    let_it_go: Callable[[], None]
    warning: str = ""


@contextmanager
def cluster(address: str | None, tasks: Iterable[str] = ()) -> Iterator[Cluster]:
    """Join the Ray cluster at ``address``, or start one on this machine; leave it again at the end.

    Signals are answered as before throughout: Ray puts handlers in their place, and leaves SIGTERM to the system.

    Args:
        address: ``auto``, ``host:port``, or None to start one.
        tasks: Names of the tasks that will run; the modules of a user's own go along to the nodes of a cluster. (On
            this machine Ray's workers search the folder that the driver was started in, so nothing needs to.)

    Raises:
        EngineError: there is no cluster at the address, or a task's module is not found.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    _check_that_somebody_listens(address)
    modules = [str(path) for path in module_paths(tasks)] if address else []
    with ExitStack() as stack:
        take_back = stack.enter_context(_our_signals())
        stop_watching = stack.enter_context(watched())
        stack.enter_context(bare_ray.quiet())
        if not address:
            stack.enter_context(bare_ray.on_loopback())
        try:
            # Without an address Ray joins whatever cluster is named in the machine's temporary folder.
            environment = {"py_modules": modules} if modules else None
            joined = _init(address=address or "local", runtime_env=environment, **_QUIET)
        except Exception as error:  # Ray raises just that where a busy machine takes it too long
            raise _no_cluster(address, error) from error
        stack.callback(ray.shutdown)
        take_back()
        url = f"http://{joined.dashboard_url}" if joined.dashboard_url else ""
        warning = "" if address else warning_of(ray.nodes()[0]["NodeManagerAddress"])
        yield Cluster(ray.cluster_resources(), url, stop_watching, warning)


def _init(**asked: Any) -> Any:
    """Call ``ray.init``, and again where it had no time; what it left behind ends with this process."""
    for _ in range(_STARTS - 1):
        try:
            return ray.init(**asked)
        except Exception as error:
            if "timed out" not in str(error):
                raise
    return ray.init(**asked)


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


def _check_that_somebody_listens(address: str | None) -> None:
    """Fail at once where Ray would knock for minutes: at a ``host:port`` where nothing is."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> EngineError:
    if address is None and "AF_UNIX" in str(error):
        return EngineError(
            f"Ray would make a socket at {str(error).rpartition(': ')[2]}, which is longer than the 107 bytes that "
            "Linux allows; set RAY_TMPDIR to a short folder on a local disk, such as RAY_TMPDIR=/tmp, and give the "
            "command again."
        )
    if address is None:
        return EngineError(
            f"Ray can't be started on this machine: {str(error).splitlines()[0]}; mend that, and try again."
        )
    return EngineError(
        f"--address {address} was given; no Ray cluster answers there ({str(error).splitlines()[0]}); "
        "start one with `ray start --head`, or leave --address out."
    )


def warning_of(address: str) -> str:
    """Return what to say where a Ray listens that should be on loopback alone, "" where it is."""
    if ip_address(address).is_loopback:
        return ""
    return (
        f"warning: Ray {ray.__version__} listens at {address}: machines that reach this one reach its ports, too, "
        f"where they are asked for a token; Ray {bare_ray.TRIED[-1]} would listen on loopback alone."
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
