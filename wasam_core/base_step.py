"""The base optimizer's step, without what torch wraps round it when nobody uses that."""

from collections.abc import Callable

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer


def bare_step(base: Optimizer) -> Callable[[Optimizer], object] | None:
    """Return the function inside torch's profiling and hooking wrapper of `base.step`, if there is one."""
    step = type(base).step
    return getattr(step, "__wrapped__", None) if getattr(step, "hooked", False) else None


def take_step(base: Optimizer, bare: Callable[[Optimizer], object] | None) -> None:
    """Call `base.step()`.

    The wrapper opens a profiler range and looks for hooks, which takes a few percent of the time of a small model's
    step. With no profiler running, no hooks and no replaced `step`, the bare function does the same.
    """
    if (
        bare is None
        or "step" in base.__dict__
        or base._optimizer_step_pre_hooks
        or base._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
        or torch._C._autograd._profiler_enabled()
    ):
        base.step()
    else:
        bare(base)
