"""Whether a step is to be taken: decided by the host where it can look, and on an accelerator without it.

Reading one number of an accelerator lets the host wait for all that was queued there, and a CUDA graph can't be
captured. There, a verdict is a tensor that nobody has read: a step is taken in any case, and undone by arithmetic.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from wasam_core.bare_torch import grad_off, has_step_hooks

Verdict = bool | Tensor  # a tensor is 0-dimensional, of bools, and on the accelerator of what it judges

# Kinds of devices whose values the host looks at: it is no further away on a CPU, and MPS has no 64-bit numbers.
LOOKED_AT = {"cpu", "mps"}

# What torch's optimizers begin with at zero, so that zero is as good as having no state yet.
_BORN_ZERO = {
    "step", "momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "grad_avg",
    "acc_delta", "prev",
}  # fmt: skip
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_far(tensors: Sequence[Tensor]) -> bool:
    """Tell whether the host should not look at the tensors: all are dense ones of one accelerator."""
    if not tensors or tensors[0].device.type in LOOKED_AT:
        return False
    here = tensors[0].device
    return all(t.device == here and t.layout == torch.strided for t in tensors)


def both(one: Verdict, other: Verdict) -> Verdict:
    """Return whether both hold."""
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    return one & other.to(one.device)


def erase_unless(verdict: Tensor, tensors: Iterable[Tensor]) -> None:
    """Set the tensors to zero unless the verdict is true, whatever they hold.

    Bits are multiplied by 0 or 1: a product of numbers would spread nan.

    Example:
        >>> a = torch.tensor([float("nan"), 1.0])
        >>> erase_unless(torch.tensor(False), [a])
        >>> a
        tensor([0., 0.])
    """
    for dtype, bits in _bits(tensors).items():
        torch._foreach_mul_(bits, verdict.to(dtype))


class Rollback:
    """Let a base optimizer step on an accelerator, and undo that there if the verdict is against it.

    torch's fused optimizers can leave a step out by themselves. Of its others, weights and state are copied before and
    put back by arithmetic on their bits: this takes memory for one more copy of both. The host waits, once a step, for
    those that it can't undo: optimizers that are not torch's, state on the host (the step count of Adam without
    `capturable` or `fused`), hooks, and in a first step some that begin with other state than zero.
    """

    def __init__(self) -> None:
        self._copies: list[Tensor] = []

    def take(self, base: Optimizer, step: Callable[[], None], verdict: Tensor) -> Verdict:
        """Call `step`, which is that of `base`; return whether it was taken."""
        params = [p for group in base.param_groups for p in group["params"] if p.grad is not None]
        before = {p: dict(base.state[p]) for p in params if p in base.state}
        state = [value for entries in before.values() for value in entries.values() if value is not None]
        if not (_is_torchs(base) and all(_lies_at(verdict.device, value) for value in state)):
            taken = bool(verdict)
            if taken:
                step()
            return taken
        if getattr(base, "_step_supports_amp_scaling", False):
            base.found_inf, base.grad_scale = (~verdict).float(), None  # type: ignore[attr-defined]
            try:
                step()
            finally:
                del base.found_inf, base.grad_scale  # type: ignore[attr-defined]
        else:
            self._step_and_undo([*params, *state], step, verdict)
        return self._settle_new_state(base, params, before, verdict)

    def _step_and_undo(self, tensors: list[Tensor], step: Callable[[], None], verdict: Tensor) -> None:
        with grad_off():
            if [(t.shape, t.dtype, t.device) for t in tensors] != [(t.shape, t.dtype, t.device) for t in self._copies]:
                self._copies = [torch.empty_like(t) for t in tensors]
            torch._foreach_copy_(self._copies, tensors)
        step()
        with grad_off():
            copies = _bits(self._copies)
            for dtype, bits in _bits(tensors).items():
                # new + 1 * (old - new), or + 0 * (...): integers wrap round, so that it is exact.
                torch._foreach_sub_(copies[dtype], bits)
                torch._foreach_mul_(copies[dtype], (~verdict).to(dtype))
                torch._foreach_add_(bits, copies[dtype])

    def _settle_new_state(
        self, base: Optimizer, params: list[Tensor], before: dict[Tensor, dict[str, Any]], verdict: Tensor
    ) -> Verdict:
        """Undo what has come into being in the step, if the verdict is against it."""
        born: list[Any] = []
        unsure = False
        dampened = any(group.get("dampening") for group in base.param_groups)
        for p in params:
            now, then = base.state.get(p, {}), before.get(p, {})
            new = {key: value for key, value in now.items() if value is not then.get(key)}
            born += new.values()
            zero = _BORN_ZERO - then.keys() - ({"momentum_buffer"} if dampened else set())
            unsure = unsure or not all(key in zero and _lies_at(verdict.device, t) for key, t in new.items())
        if unsure:
            taken = bool(verdict)
            for p in () if taken else params:
                base.state[p] = before.get(p, {})
                if p not in before:
                    del base.state[p]
            return taken
        with grad_off():
            erase_unless(verdict, born)
        return verdict

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what lasts for a step."""
        return {"_copies": []}


def _is_torchs(base: Optimizer) -> bool:
    """Tell whether a step does what torch's optimizers do, and nothing else."""
    return type(base).step.__module__.startswith("torch.optim.") and not has_step_hooks(base)


def _lies_at(device: torch.device, value: object) -> bool:
    return isinstance(value, Tensor) and value.device == device and value.layout == torch.strided


def _bits(tensors: Iterable[Tensor]) -> dict[torch.dtype, list[Tensor]]:
    """Return the tensors' bits as integers, by their size."""
    found: dict[torch.dtype, list[Tensor]] = {}
    for t in tensors:
        t = t.detach()
        real = torch.view_as_real(t) if t.is_complex() else t
        integers = _INTEGERS[real.element_size()]
        found.setdefault(integers, []).append(real.view(integers))
    return found
