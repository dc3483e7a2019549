"""Start Ray on this machine: for this machine alone, and with nothing before the first run that can come after it.

Of Ray's start, seconds go into its dashboard, its autoscaler and its log monitor, and after it each worker imports
torch for seconds more. Here workers start with Ray and import at once, and those three start when the first run has an
actor. Ray has no other way to either than its own parts: see `study.engine.bare_ray`, also for what is done without.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from ipaddress import ip_address
from typing import Any

import ray

from study.engine import bare_ray
from study.engine.slots import EngineError

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
# What a worker imports before it is asked for anything; none of it may look for GPUs, which are assigned later.
PRELOADED = ("study.engine.worker", "study.training.trial")
_MOST_AHEAD = 16  # workers: each takes hundreds of MB, and seconds of a core, whether it gets a run or not
_PATIENCE_S = 300.0  # a busy machine imports torch for a minute
_LONGEST_WITHOUT_S = 120.0  # a run


def start_ray(
    stack: ExitStack,
    then: Callable[[], None],
    dashboard: Future[str],
    max_concurrent: int | None,
    cpus_per_trial: float | None,
) -> str:
    """Start Ray; what it can do without starts beside the first runs. Return a warning, or "".

    Args:
        stack: Ends Ray, and undoes what must last as long.
        then: Called as soon as Ray has started, before anything is waited for.
        dashboard: Gets the URL of Ray's dashboard when that is up, and "" where it failed. Once it is cancelled, no
            more is started.
        max_concurrent: Upper bound of runs side by side, if there is one.
        cpus_per_trial: CPUs of each run, if that is decided.
    """
    stack.enter_context(bare_ray.on_loopback())
    machine = bare_ray.machine()
    ahead = workers_ahead(*machine, max_concurrent, cpus_per_trial) if machine else 0
    stack.enter_context(bare_ray.dashboard_taken_for_granted())
    with _importing() if ahead else nullcontext(), bare_ray.left_out() as parts:
        try:
            # Without an address Ray joins whatever cluster is named in the machine's temporary folder.
            started = ray.init(address="local", **QUIET)
        except OSError as error:
            raise _told(error) from error
    ended = threading.Event()
    stack.callback(ended.set)
    stack.callback(ray.shutdown)
    then()
    if parts:
        stack.enter_context(_beside_runs(parts, dashboard, ended))
    else:
        dashboard.set_result(url_of(started.dashboard_url))
    stack.enter_context(bare_ray.one_environment())
    _wait_for_workers(ahead)
    return warning_of(ray.nodes()[0]["NodeManagerAddress"])


def warning_of(address: str) -> str:
    """Return what to say where a Ray listens that should be on loopback alone, "" where it is."""
    if ip_address(address).is_loopback:
        return ""
    return (
        f"warning: Ray {ray.__version__} listens at {address}: machines that reach this one reach its ports, too, "
        f"where they are asked for a token; Ray {bare_ray.TRIED[-1]} would listen on loopback alone."
    )


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


@contextmanager
def _importing() -> Iterator[None]:
    """Let the Ray that is started in this block start a worker for every CPU at once, and these import at once.

    Otherwise a worker is started for the first run, when all else is ready, and imports while the run waits.
    """
    with bare_ray.environment(
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
    while bare_ray.workers() < wanted and time.monotonic() < give_up:
        time.sleep(0.05)


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
            while not (dashboard.cancelled() or bare_ray.has_actor() or time.monotonic() > give_up):
                time.sleep(0.2)
            for start in parts.values():
                if not dashboard.cancelled():
                    with suppress(Exception):  # the study goes on without: what went wrong stands in Ray's log
                        start()
            if dashboard.set_running_or_notify_cancel():
                dashboard.set_result(url_of(bare_ray.dashboard_address()))
        ended.wait()

    try:
        threading.Thread(target=work, name="parts of Ray", daemon=True).start()
        yield
    finally:
        dashboard.cancel()
        with busy:
            pass
