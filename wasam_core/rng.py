"""Random number states: capture them before one pass, replay them in the next, as a whole or forward by forward."""

import weakref
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from wasam_core.memory import tensors_in
from wasam_core.verdicts import is_far

RngState = dict[str, torch.Tensor]

_CPU = torch.default_generator


def capture_rng(devices: Iterable[torch.device] = ()) -> RngState:
    """Return the state of torch's CPU generator and of the default generators of `devices`.

    Args:
        devices: accelerators whose generator is wanted as well; CPU devices are ignored, because
            the CPU generator is always captured, and CUDA devices while a graph is captured, which moves theirs on.

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
        if device.type != "cpu" and _has_generator(device):
            state[str(device)] = torch.get_device_module(device).get_rng_state(*_which(device))
    return state


def restore_rng(state: RngState) -> None:
    """Set the generators to a state that `capture_rng` returned.

    Args:
        state: what `capture_rng` returned, on this machine or on one with the same devices.

    Raises:
        RuntimeError: if `state` names a device that this machine does not have; no generator has changed then.

    Example:
        >>> restore_rng(capture_rng())
    """
    if len(state) == 1 and "cpu" in state:  # the common case, at every step
        own = state["cpu"]
        _CPU.set_state(own if own.is_cpu else own.cpu())
        return
    accelerators = [(torch.device(name), value) for name, value in state.items() if name != "cpu"]
    for device, _ in accelerators:
        present = torch.get_device_module(device).device_count()
        # torch would keep the state for the day on which there is one.
        if (device.index or 0) >= present:
            raise RuntimeError(
                f"The saved random numbers are those of {device}, and this machine has {present} of its kind: leave "
                "its entry out of the state."
            )
    for device, value in accelerators:
        torch.get_device_module(device).set_rng_state(value.cpu(), *_which(device))
    if "cpu" in state:
        _CPU.set_state(state["cpu"].cpu())


def _has_generator(device: torch.device) -> bool:
    module = torch.get_device_module(device)
    # A tensor may say that it is on a device that isn't there: FakeTensorMode.
    return module.is_available() and not (device.type == "cuda" and module.is_current_stream_capturing())


def _which(device: torch.device) -> tuple[torch.device, ...]:
    # There is one MPS device, and its functions take no argument for it.
    return () if device.type == "mps" else (device,)


class ForwardReplay:
    """Record the generator before each training forward of a model, and replay it later.

    A step may consist of several forwards (gradient accumulation), with other consumers of random numbers in between (a
    data loader), so each forward has a state of its own: the i-th forward of the perturbed pass gets the state of the
    i-th of the clean pass. Forwards in eval mode or without gradients are not part of a step.

    Args:
        model: the module that is called.
        devices: accelerators whose generators count, beside the CPU's.

    Attributes:
        same_inputs: False if the first replayed forward got another batch than the first recorded one.
    """

    def __init__(self, model: nn.Module, devices: Collection[torch.device]) -> None:
        self.devices = devices
        self.same_inputs = True
        self._compared = False
        self._states: list[RngState] = []
        self._inputs: list[Tensor] = []
        self._next: int | None = None
        self._hook = _Hook(self)
        handle = model.register_forward_pre_hook(self._hook, with_kwargs=True)
        self._hook_id: int = handle.id
        self._hooks = model._forward_pre_hooks

    def pause(self) -> None:
        """Take the hook out until `reset`: a call through hooks costs a small model some percent."""
        self._hooks.pop(self._hook_id, None)

    def start(self) -> None:
        """Begin to replay: the perturbed pass follows."""
        self._next = 0

    def reset(self) -> None:
        """Forget what was recorded: a new step begins."""
        self.same_inputs = True
        self._states.clear()
        self._inputs = []
        self._next = None
        self._hooks[self._hook_id] = self._hook

    def before_forward(self, devices: set[torch.device], inputs: object) -> None:
        """Record the generators, or set them, depending on the pass; compare the first inputs of both.

        Args:
            devices: where the model is now; it may have moved since the optimizer looked.
            inputs: what the model is called with.
        """
        if self._next is None:
            if not self._states:
                self._inputs = list(tensors_in(inputs))
            self._states.append(capture_rng(devices.union(self.devices)))
        elif self._next < len(self._states):
            if self._next == 0:
                self.same_inputs = _are_equal(self._inputs, list(tensors_in(inputs)), look=not self._compared)
                self._compared = True
            restore_rng(self._states[self._next])
            self._next += 1


class _Hook:
    """Tell a `ForwardReplay` of each training forward of one model.

    It does not hold the replay alive, and a copy of the model (deepcopy, pickle) carries an inert one.
    """

    def __init__(self, replay: ForwardReplay | None) -> None:
        self._replay = None if replay is None else weakref.ref(replay)

    def __call__(self, module: nn.Module, *inputs: Any) -> None:
        replay = None if self._replay is None else self._replay()
        if replay is not None and module.training and torch.is_grad_enabled():
            replay.before_forward({p.device for p in islice(module.parameters(), 1)}, inputs)

    def __deepcopy__(self, _: Any) -> "_Hook":
        return _Hook(None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Hook, (None,))


def _are_equal(some: list[Tensor], others: list[Tensor], *, look: bool) -> bool:
    """Compare tensors; values on an accelerator only where the host may `look`, which lets it wait."""
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all(a is b or _holds_the_same(a, b, look) for a, b in pairs)


def _holds_the_same(a: Tensor, b: Tensor, look: bool) -> bool:
    if (a.shape, a.dtype, a.device, a.layout) != (b.shape, b.dtype, b.device, b.layout):
        return False
    if not look and is_far([a]):
        return True
    return torch.equal(a, b) or (a.is_floating_point() and torch.equal(a.nan_to_num(), b.nan_to_num()))
