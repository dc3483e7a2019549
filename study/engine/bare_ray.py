"""Every use of what Ray and Tune keep to themselves, with what is done without it.

Public ways are taken wherever they reach. What stands here was tried with the releases in `TRIED`; of any other nothing
here is touched, and a study runs by public ways alone. It then shows Ray's own pages about lost workers, keeps some
memory, and gives up where a worker is lost in a way that Tune does not know; `--resume` goes on.
`tests/test_innards.py` tells what of a new release has changed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, state, worker

TRIED = ("2.60",)
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


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
    before = os.environ.get(_LOOPBACK)
    os.environ[_LOOPBACK] = "0"
    try:
        with replaced(ray_constants, **switch):
            yield
    finally:
        del os.environ[_LOOPBACK]
        os.environ.update({} if before is None else {_LOOPBACK: before})


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
