"""Start Ray on this machine: for this machine alone, and with nothing before the first run that can come after it.

Of Ray's start, seconds go into its dashboard, its autoscaler and its log monitor, and after it each worker imports
torch for seconds more. Here workers start with Ray and import at once, and those three start when the first run has an
actor. Ray has no other way to either than its own parts, which are replaced for as long as they are needed.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import ray
from ray._private import accelerators, node, ray_constants, state, utils, worker

from study.engine.settings import environment, replaced
from study.engine.slots import EngineError

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
# What a worker imports before it is asked for anything; none of it may look for GPUs, which are assigned later.
PRELOADED = ("study.engine.worker", "study.training.trial")
_MOST_AHEAD = 16  # workers: each takes hundreds of MB, and seconds of a core, whether it gets a run or not
_PATIENCE_S = 300.0  # a busy machine imports torch for a minute
_HAVE_TIME = ("start_monitor", "start_log_monitor", "start_api_server")  # of Ray's node; the last is the dashboard
_LONGEST_WITHOUT_S = 120.0  # a run


def start_ray(
    stack: ExitStack,
    then: Callable[[], None],
    dashboard: Future[str],
    max_concurrent: int | None,
    cpus_per_trial: float | None,
) -> None:
    """Start Ray; what it can do without starts beside the first runs.

    Args:
        stack: Ends Ray, and undoes what must last as long.
        then: Called as soon as Ray has started, before anything is waited for.
        dashboard: Gets the URL of Ray's dashboard when that is up, and "" where it failed. Once it is cancelled, no
            more is started.
        max_concurrent: Upper bound of runs side by side, if there is one.
        cpus_per_trial: CPUs of each run, if that is decided.
    """
    stack.enter_context(_on_loopback())
    ahead = workers_ahead(utils.get_num_cpus(), _gpus(), max_concurrent, cpus_per_trial)
    # It would import what the dashboard needs, to see whether that is there; we depend on it.
    stack.enter_context(replaced(utils, get_dashboard_dependency_error=lambda: None))
    with _importing() if ahead else nullcontext(), _left_out() as parts:
        try:
            # Without an address Ray joins whatever cluster is named in the machine's temporary folder.
            ray.init(address="local", include_dashboard=True, **QUIET)
        except OSError as error:
            raise _told(error) from error
    ended = threading.Event()
    stack.callback(ended.set)
    stack.callback(ray.shutdown)
    then()
    stack.enter_context(_beside_runs(parts, dashboard, ended))
    from ray.tune.execution import class_cache  # noqa: PLC0415  # takes two seconds, in which the workers start

    # Tune would give its actors an environment of their own, and with it processes that nobody can start ahead. On
    # this machine they have ours.
    stack.enter_context(replaced(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=frozenset()))
    _wait_for_workers(ahead)


def _told(error: OSError) -> OSError | EngineError:
    """Return what to say of an error of Ray's start: where its temporary folder is too long, what to do."""
    if "AF_UNIX" not in str(error):
        return error
    return EngineError(
        f"Ray would make a socket at {str(error).rpartition(': ')[2]}, which is longer than the 107 bytes that Linux "
        "allows; set RAY_TMPDIR to a short folder on a local disk, such as RAY_TMPDIR=/tmp, and give the command again."
    )


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
def _left_out() -> Iterator[Mapping[str, Callable[[], None]]]:
    """Let the Ray that is started in this block leave out what has time, and yield what starts it, by name."""
    parts: dict[str, Callable[[], None]] = {}

    def noting(name: str) -> Callable[..., None]:
        method = getattr(node.Node, name)

        def note(self: node.Node, **options: Any) -> None:
            parts[name] = partial(method, self, **options)

        return note

    with replaced(node.Node, **{name: noting(name) for name in _HAVE_TIME}):
        yield parts


@contextmanager
def _beside_runs(
    parts: Mapping[str, Callable[[], None]], dashboard: Future[str], ended: threading.Event
) -> Iterator[None]:
    """Start parts of Ray in a thread, as soon as a run has its actor, or after a while without.

    At the end of the block nothing more is started, and what is starting is waited for: a Ray that ends meanwhile
    would leave it behind. The thread lives until Ray has ended, because Linux ends a process with the thread that
    started it, if it has been asked to.
    """
    busy = threading.Lock()

    def work() -> None:
        give_up = time.monotonic() + _LONGEST_WITHOUT_S
        with busy:
            while not (dashboard.cancelled() or _has_actor() or time.monotonic() > give_up):
                time.sleep(0.2)
            for start in parts.values():
                if not dashboard.cancelled():
                    with suppress(Exception):  # the study goes on without: what went wrong stands in Ray's log
                        start()
            if dashboard.set_running_or_notify_cancel():
                dashboard.set_result(url_of(worker._global_node.webui_url if worker._global_node else None))
        ended.wait()

    try:
        threading.Thread(target=work, name="parts of Ray", daemon=True).start()
        yield
    finally:
        dashboard.cancel()
        with busy:
            pass


def _has_actor() -> bool:
    """Tell whether a run has its actor, or had it: short ones end between two looks.

    Where Ray has died the answer is no; that is another's to notice.
    """
    with suppress(Exception):
        return any(actor["State"] in ("ALIVE", "DEAD") for actor in state.actors().values())
    return False
