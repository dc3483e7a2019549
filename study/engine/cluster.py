"""Join a Ray cluster or start one on this machine, with the code that its workers need."""

import importlib.util
import os
import socket
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants

from study.engine.slots import EngineError
from study.factors import is_own_task

_SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must reach the driver, which knows how to resume
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are ours; three more files a trial help nobody
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # about a restore that is not used
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner ignores verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a user's task mean what they say
    "RAY_USAGE_STATS_ENABLED": "0",  # a cluster that we start tells nobody about itself
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what later releases do; the device comes from the resources
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that this process has joined or started."""

    resources: Mapping[str, float]
    dashboard_url: str


@contextmanager
def cluster(address: str | None, tasks: Iterable[str] = ()) -> Iterator[Cluster]:
    """Join the Ray cluster at ``address``, or start one on this machine; leave it again at the end.

    Args:
        address: ``auto``, ``host:port``, or None to start one.
        tasks: Names of the tasks that will run; the modules of a user's own go along to the nodes of a cluster. (On
            this machine Ray's workers search the folder that the driver was started in, so nothing needs to.)

    Raises:
        EngineError: there is no cluster at the address, or a task's module is not found.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    _check_that_somebody_listens(address)
    loopback = address is None
    before = ray_constants.ENABLE_RAY_CLUSTER
    if loopback:
        _keep_to_loopback(False)
    modules = [str(path) for path in module_paths(tasks)] if address else []
    try:
        context = (
            ray.init(address=address, runtime_env={"py_modules": modules} if modules else None, **quiet)
            if address
            # Without an address Ray joins whatever cluster is named in the machine's temporary folder.
            else ray.init(address="local", include_dashboard=True, **quiet)
        )
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, error) from error
    try:
        url = context.dashboard_url
        yield Cluster(ray.cluster_resources(), f"http://{url}" if url else "")
    finally:
        ray.shutdown()
        if loopback:
            _keep_to_loopback(before)


def _keep_to_loopback(clusters: bool) -> None:
    """Tell Ray whether other machines may join what it starts; if none may, its ports are open on loopback alone.

    Ray has this switch for macOS and Windows, where it is off; elsewhere every port would be open to the network. Its
    processes read the variable, this one has read it when it imported Ray.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = str(int(clusters))
    ray_constants.ENABLE_RAY_CLUSTER = clusters


def _check_that_somebody_listens(address: str | None) -> None:
    """Fail at once where Ray would knock for minutes: at a ``host:port`` where nothing is."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> EngineError:
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
