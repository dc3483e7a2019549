"""Every use of what Ray and Tune keep to themselves, with what is done without it.

Public ways are taken wherever they reach. What stands here was tried with the releases in `TRIED`; of any other nothing
here is touched, and a study runs by public ways alone. It then starts some seconds later, shows Ray's own pages about
lost workers, starts a new process for each stage, keeps some memory, and gives up where a worker is lost in a way
that Tune does not know; `--resume` goes on. `tests/test_innards.py` tells what of a new release has changed.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import accelerators, node, ray_constants, state, utils, worker

TRIED = ("2.60",)
HAVE_TIME = ("start_monitor", "start_log_monitor", "start_api_server")  # of Ray's node; the last is the dashboard


def known() -> bool:
    """Tell whether this is a Ray whose innards were tried."""
    return ray.__version__.rpartition(".")[0] in TRIED


@contextmanager
def quiet() -> Iterator[None]:
    """Print no page about a lost worker, of which we tell in a sentence."""
    with replaced(worker, print_to_stdstream=lambda *_, **__: None) if known() else nullcontext():
        yield


@contextmanager
def on_loopback() -> Iterator[None]:
    """Tell a Ray that is started in this block to let no other machine join: its ports are then on loopback alone.

    Ray has this switch for macOS and Windows, where it is off; elsewhere every port would be open to the network. Its
    processes read the variable, this one has read it when it imported Ray. Safety asks for it of any release that has
    the switch; whether it worked is looked up by who starts Ray.
    """
    switch = {"ENABLE_RAY_CLUSTER": False} if hasattr(ray_constants, "ENABLE_RAY_CLUSTER") else {}
    with environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"), replaced(ray_constants, **switch):
        yield


def machine() -> tuple[float, int] | None:
    """Return the CPUs and GPUs that a Ray on this machine will have, before it is started; None if not known."""
    if not known():
        return None
    manager = accelerators.get_accelerator_manager_for_resource("GPU")
    return utils.get_num_cpus(), manager.get_current_node_num_accelerators() if manager else 0


@contextmanager
def left_out() -> Iterator[Mapping[str, Callable[[], None]]]:
    """Let the Ray that is started in this block leave out what has time, and yield what starts it, by name.

    Empty where nothing was left out.
    """
    parts: dict[str, Callable[[], None]] = {}

    def noting(name: str) -> Callable[..., None]:
        method = getattr(node.Node, name)

        def note(self: node.Node, **options: Any) -> None:
            parts[name] = partial(method, self, **options)

        return note

    with replaced(node.Node, **{name: noting(name) for name in HAVE_TIME}) if known() else nullcontext():
        yield parts


@contextmanager
def one_environment() -> Iterator[None]:
    """Let Tune's actors have our environment, which on this machine they do.

    It would give them one of their own, and with it processes that nobody can start ahead.
    """
    if not known():
        yield
        return
    from ray.tune.execution import class_cache  # noqa: PLC0415  # takes two seconds, in which the workers start

    with replaced(class_cache, DEFAULT_ENV_VARS={}, ENV_VARS_TO_PROPAGATE=frozenset()):
        yield


@contextmanager
def dashboard_taken_for_granted() -> Iterator[None]:
    """Import nothing of the dashboard to see whether it is installed: we depend on it."""
    with replaced(utils, get_dashboard_dependency_error=lambda: None) if known() else nullcontext():
        yield


def workers() -> int:
    """Return how many workers this Ray knows."""
    return len(state.workers())


def has_actor() -> bool:
    """Tell whether a run has its actor, or had it: short ones end between two looks.

    Where Ray has died the answer is no; that is another's to notice.
    """
    with suppress(Exception):
        return any(actor["State"] in ("ALIVE", "DEAD") for actor in state.actors().values())
    return False


def dashboard_address() -> str | None:
    """Return where the dashboard of the Ray that was started by this process listens; None before it is up."""
    return worker._global_node.webui_url if worker._global_node else None


def place_of(actor: Any) -> tuple[int, str]:
    """Return the process and the node of an actor.

    Raises:
        LookupError: that is not known of this Ray.
    """
    if not known():
        raise LookupError(f"where an actor of Ray {ray.__version__} is")
    about = state.actors(actor._actor_id.hex())
    return about["Pid"], about["Address"]["NodeID"]


@contextmanager
def our_tune(storage: str, losses: tuple[type[Exception], ...]) -> Iterator[None]:
    """Change Tune for the length of the block.

    Args:
        storage: Tune's way to save its state would bring one back that has vanished: it is not used then.
        losses: What counts as the loss of an actor; Tune knows `RayActorError`, and any other would end all.
    """
    if not known():
        yield
        return
    from ray.air._internal import usage  # noqa: PLC0415  # as is the next, workers need none of it
    from ray.air.execution._internal import actor_manager  # noqa: PLC0415
    from ray.tune.execution import tune_controller  # noqa: PLC0415

    with (
        replaced(actor_manager, RayActorError=losses),
        replaced(tune_controller, RayActorError=losses),
        # To count our callbacks Tune would import every experiment tracker that is installed.
        replaced(usage, tag_callbacks=lambda callbacks: False),
        replaced(tune_controller.TuneController, checkpoint=_snapshot_if_there(tune_controller, storage)),
    ):
        yield


def _snapshot_if_there(tune_controller: Any, storage: str) -> Callable[..., None]:
    snapshot = tune_controller.TuneController.checkpoint

    def checkpoint(controller: Any, force: bool = False, wait: bool = False) -> None:
        if "://" in storage or Path(storage).is_dir():
            snapshot(controller, force=force, wait=wait)

    return checkpoint


def idle_actors_of(controller: Any) -> Any:
    """Return Tune's cache of actors that have nothing to do; None if there is no way in."""
    return controller._actor_cache if known() else None


def actor_of(trial: Any) -> Any:
    """Return the actor of a trial that runs; None if there is none, or no way to it."""
    return getattr(getattr(trial, "temporary_state", None), "ray_actor", None)


def forget(trial: Any) -> None:
    """Free what Tune keeps of an ended trial for a restore that is not used: tens of KB, in every snapshot of all."""
    if known():
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()
        trial.get_json_state = lambda: ("", "")


def discard_half_saved(trainable: Any) -> None:
    """Delete what a save has written that did not come to its end."""
    storage = getattr(trainable, "_storage", None)
    if storage and known():
        with suppress(OSError):
            storage.storage_filesystem.delete_dir(storage.checkpoint_fs_path)


@contextmanager
def replaced(owner: object, **values: object) -> Iterator[None]:
    """Give attributes other values for the length of the block."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables for the length of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
