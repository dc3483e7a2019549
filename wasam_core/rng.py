"""Random number states: capture them before one pass, replay them in the next."""

from collections.abc import Iterable

import torch

RngState = dict[str, torch.Tensor]

_CPU = torch.default_generator


def capture_rng(devices: Iterable[torch.device] = ()) -> RngState:
    """Return the state of torch's CPU generator and of the default generators of `devices`.

    Args:
        devices: accelerators whose generator is wanted as well; CPU devices are ignored, because
            the CPU generator is always captured.

    Returns:
        A dict from device name to a byte tensor; `torch.load(weights_only=True)` can read it back.

    Example:
        >>> state = capture_rng()
        >>> first = torch.rand(2)
        >>> restore_rng(state)
        >>> torch.equal(first, torch.rand(2))
        True
    """
    state = {"cpu": _CPU.get_state()}
    for device in devices:
        if device.type != "cpu":
            state[str(device)] = torch.get_device_module(device).get_rng_state(*_which(device))
    return state


def restore_rng(state: RngState) -> None:
    """Set the generators to a state that `capture_rng` returned.

    Args:
        state: what `capture_rng` returned, on this machine or on one with the same devices.

    Raises:
        RuntimeError: from torch, if `state` names a device that this machine does not have.

    Example:
        >>> restore_rng(capture_rng())
    """
    for name, value in state.items():
        if name == "cpu":
            _CPU.set_state(value)
        else:
            device = torch.device(name)
            torch.get_device_module(device).set_rng_state(value.cpu(), *_which(device))


def _which(device: torch.device) -> tuple[torch.device, ...]:
    # There is one MPS device, and its functions take no argument for it.
    return () if device.type == "mps" else (device,)
