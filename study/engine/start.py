"""Start Ray on this machine: for this machine alone, and without waiting for what can come beside.

Of Ray's start, seconds are spent waiting for its dashboard, and after it each worker imports torch for seconds more.
Here the dashboard starts in a thread, and workers start with Ray and import at once. Ray has no other way to either
than its own parts, which are replaced for as long as they are needed.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import ray
from ray._private import node, ray_constants, state
from ray.tune.execution import class_cache

from study.engine.settings import environment, replaced

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
# What a worker imports before it is asked for anything; none of it may look for GPUs, which are assigned later.
PRELOADED = ("study.engine.worker", "study.trial", "torch._dynamo")
_PATIENCE_S = 20.0
_MOST_WORKERS_AHEAD = 16  # each holds 350 MB and takes seconds of a core; more are started as they are needed


def start_ray(stack: ExitStack, tell: Callable[[str], None], max_concurrent: int | None) -> Callable[[], None]:
    """Start Ray and return what waits for its dashboard: it must be called before Ray is shut down.

    Args:
        stack: Undoes what must last as long as Ray does.
        tell: Called with the address of the dashboard when it is up, from another thread; with "" where it failed.
        max_concurrent: Upper bound of runs side by side, if there is one.
    """
    # Tune would give its actors an environment of their own, and with it processes that nobody can start ahead. On
    # this machine they have ours.
    stack.enter_context(replaced(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=frozenset()))
    wanted = min(max_concurrent or _MOST_WORKERS_AHEAD, os.cpu_count() or 1, _MOST_WORKERS_AHEAD)
    with _on_loopback(), _workers_ahead(wanted), _dashboard_beside(tell) as wait_for_dashboard:
        # Without an address Ray joins whatever cluster is named in the machine's temporary folder.
        ray.init(address="local", include_dashboard=True, **QUIET)
    _wait_for_workers(wanted)
    return wait_for_dashboard


def url_of(address: str | None) -> str:
    """Return the URL of a dashboard; "" where there is none."""
    return f"http://{address}" if address else ""


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
def _workers_ahead(wanted: int) -> Iterator[None]:
    """Let the Ray that is started in this block start the workers of the runs, too, and these import torch at once.

    Otherwise a worker is started for the first run, when all else is ready, and imports while the run waits. Ray's own
    start of workers ahead comes later, and makes one for every CPU, however few are wanted.
    """
    with environment(
        RAY_preload_python_modules=",".join(PRELOADED),
        RAY_enable_worker_prestart="1",
        RAY_num_prestart_python_workers=str(wanted),
        RAY_prestart_worker_first_driver="0",
        RAY_idle_worker_killing_time_threshold_ms="120000",  # after a second it would end those that still import
    ):
        yield


def _wait_for_workers(wanted: int) -> None:
    """Wait a moment until workers that were started ahead are known: else more are started for those that ask now."""
    give_up = time.monotonic() + _PATIENCE_S
    while len(state.workers()) < wanted and time.monotonic() < give_up:
        time.sleep(0.05)


@contextmanager
def _dashboard_beside(tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Let the Ray that is started in this block start its dashboard in a thread, as it would wait seconds for it.

    Yields what waits for that thread.
    """
    start = node.Node.start_api_server
    threads: list[threading.Thread] = []

    def start_beside(self: node.Node, **options: Any) -> None:
        def work() -> None:
            with suppress(Exception):  # the study goes on without: what went wrong stands in Ray's log
                start(self, **options)
            tell(url_of(self.webui_url))

        threads.append(threading.Thread(target=work, name="start Ray's dashboard", daemon=True))
        threads[-1].start()

    def wait() -> None:
        for thread in threads:
            thread.join()

    with replaced(node.Node, start_api_server=start_beside):
        yield wait
