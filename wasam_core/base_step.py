"""The base optimizer's step, without what torch wraps round it when nobody uses that."""

from dataclasses import dataclass

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from wasam_core.bare_torch import Step, eager_step, nothing_compiles, unhooked
from wasam_core.grad_mode import grad_off


@dataclass(frozen=True, slots=True)
class BareStep:
    """The function inside torch's profiling and hooking wrapper of a step.

    Attributes:
        step: does all that the step does.
        eager: does the same where gradients are off and nothing is compiled; None if that is not known.
    """

    step: Step
    eager: Step | None


def bare_step(base: Optimizer) -> BareStep | None:
    """Return what is inside torch's profiling and hooking wrapper of `base.step`, if there is one."""
    step = unhooked(type(base).step)
    return BareStep(step, eager_step(base, step)) if step else None


def take_step(base: Optimizer, bare: BareStep | None) -> None:
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
    elif bare.eager and nothing_compiles():
        with grad_off():
            bare.eager(base)
    else:
        bare.step(base)
