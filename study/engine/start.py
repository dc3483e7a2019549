"""Start Ray on this machine: for this machine alone, and without waiting for what can come beside.

Of Ray's start, seconds are spent waiting for its dashboard, and after it each worker imports torch for seconds more.
Here the dashboard starts in a thread, and workers start with Ray and import at once. Ray has no other way to either
than its own parts, which are replaced for as long as they are needed.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import ray
from ray._private import accelerators, node, ray_constants, state, utils, worker
from ray.tune.execution import class_cache

from study.engine.settings import environment, replaced

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
# What a worker imports before it is asked for anything; none of it may look for GPUs, which are assigned later.
PRELOADED = ("study.engine.worker", "study.trial", "torch._dynamo")
_MOST_AHEAD = 16  # workers: each takes hundreds of MB, and seconds of a core, whether it gets a run or not
_PATIENCE_S = 20.0


def start_ray(
    stack: ExitStack, then: Callable[[], None], max_concurrent: int | None, cpus_per_trial: float | None
) -> str:
    """Start Ray and return the URL of its dashboard; "" where that failed.

    Args:
        stack: Undoes what must last as long as Ray does.
        then: Called as soon as Ray has started, before what comes beside is waited for.
        max_concurrent: Upper bound of runs side by side, if there is one.
        cpus_per_trial: CPUs of each run, if that is decided.
    """
    # Tune would give its actors an environment of their own, and with it processes that nobody can start ahead. On
    # this machine they have ours.
    stack.enter_context(replaced(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=frozenset()))
    ahead = workers_ahead(utils.get_num_cpus(), _gpus(), max_concurrent, cpus_per_trial)
    over = threading.Event()
    stack.callback(over.set)
    with _on_loopback(), _importing() if ahead else nullcontext(), _dashboard_beside(over) as dashboard:
        # Without an address Ray joins whatever cluster is named in the machine's temporary folder.
        ray.init(address="local", include_dashboard=True, **QUIET)
        then()
        _wait_for_workers(ahead)
        dashboard.wait()
    ours = worker._global_node
    return url_of(ours.webui_url if ours else None)


def url_of(address: str | None) -> str:
    """Return the URL of a dashboard; "" where there is none."""
    return f"http://{address}" if address else ""


def workers_ahead(cpus: float, gpus: int, max_concurrent: int | None, cpus_per_trial: float | None) -> int:
    """Return how many workers start with Ray: one for every CPU, or none. Ray knows no other number.

    None where some would get no run, and on large machines, which would be full of workers before there is a run.

    Example:
        >>> workers_ahead(8, 0, None, None), workers_ahead(8, 1, None, None), workers_ahead(8, 0, 2, None)
        (8, 0, 0)
    """
    runs = gpus or min(max_concurrent or cpus, int(cpus / (cpus_per_trial or 1)))
    return int(cpus) if runs >= cpus and cpus <= _MOST_AHEAD else 0


def _gpus() -> int:
    manager = accelerators.get_accelerator_manager_for_resource("GPU")
    return manager.get_current_node_num_accelerators() if manager else 0


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Tell a Ray that is started in this block to let no other machine join: its ports are then on loopback alone.

    Ray has this switch for macOS and Windows, where it is off; elsewhere every port would be open to the network. Its
    processes read the variable, this one has read it when it imported Ray.
    """
    with (
        environment(**{ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}),
        replaced(ray_constants, ENABLE_RAY_CLUSTER=False),
    ):
        yield


@contextmanager
def _importing() -> Iterator[None]:
    """Let the Ray that is started in this block start a worker for every CPU at once, and these import at once.

    Otherwise a worker is started for the first run, when all else is ready, and imports while the run waits.
    """
    with environment(
        RAY_preload_python_modules=",".join(PRELOADED),
        RAY_enable_worker_prestart="1",
        RAY_prestart_worker_first_driver="0",  # those come later
        RAY_idle_worker_killing_time_threshold_ms="120000",  # after a second it would end those that still import
        # Ray sets it when a worker gets a run, on one CPU each here, and NumPy reads it when it is imported.
        OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"),
    ):
        yield


def _wait_for_workers(wanted: int) -> None:
    """Wait a moment until workers that were started ahead are known: else more are started for those that ask now."""
    give_up = time.monotonic() + _PATIENCE_S
    while len(state.workers()) < wanted and time.monotonic() < give_up:
        time.sleep(0.05)


@contextmanager
def _dashboard_beside(over: threading.Event) -> Iterator[threading.Event]:
    """Let the Ray that is started in this block start its dashboard in a thread, as it would wait seconds for it.

    Args:
        over: Set when Ray has ended. The thread lives as long: Linux ends a process with the thread that started it,
            if Ray has asked for that.

    Yields:
        What is set as soon as the dashboard is up, or has failed.
    """
    start, up = node.Node.start_api_server, threading.Event()

    def start_beside(self: node.Node, **options: Any) -> None:
        def work() -> None:
            with suppress(Exception):  # the study goes on without: what went wrong stands in Ray's log
                start(self, **options)
            up.set()
            over.wait()

        threading.Thread(target=work, name="Ray's dashboard", daemon=True).start()

    with replaced(node.Node, start_api_server=start_beside):
        yield up
