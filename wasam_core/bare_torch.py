"""Every use of what torch keeps to itself, with what is done without it.

Most of it is what torch wraps round an optimizer, its step and the switch of gradients. An optimizer calls
`torch._dynamo`, whose import takes two seconds of each new process, to say what must not be compiled: once in its
constructor, and round every step. Where nothing has imported it, nothing is being compiled, and the functions that
torch wraps are used bare, as it keeps them (`__wrapped__`). With a torch whose innards were not tried, or that lacks
one of them, steps and results are the same and take longer. (`torch._foreach_*`, `Tensor._version` and a module's
tables stand elsewhere, too: torch's documentation lists the first, and no release has changed the others.)
"""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, instancenorm
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

TRIED = ("2.13", "2.14")  # releases whose innards these are
KNOWN = torch.__version__.rpartition(".")[0] in TRIED

AnyNorm = batchnorm._NormBase
AnyBatchNorm = batchnorm._BatchNorm
AnyInstanceNorm = instancenorm._InstanceNorm

Step = Callable[[Optimizer], object]
_add_param_group: Callable[..., None] = getattr(Optimizer.add_param_group, "__wrapped__", Optimizer.add_param_group)


def _nothing(_: Optimizer) -> None:
    pass


# A wrapper is known by its code: whoever wraps a step in his own way copies all other marks of torch's.
_HOOKING = cast(Any, Optimizer.profile_hook_step(_nothing)).__code__
_setting_grad_mode = getattr(torch_optimizer, "_use_grad_for_differentiable", None)
_SETTING_GRAD_MODE = cast(Any, _setting_grad_mode(_nothing)).__code__ if _setting_grad_mode else None
_set_grad: Callable[[bool], object] = getattr(torch._C, "_set_grad_enabled", torch.set_grad_enabled)


def _does_not_say(*_: object) -> None:
    raise NotImplementedError


non_finite_check: Callable[[list[Tensor], Tensor, Tensor], None] = getattr(
    torch, "_amp_foreach_non_finite_check_and_unscale_", _does_not_say
)


class Eager:
    """Mixed into an optimizer class, it makes optimizers that import nothing of torch.compile."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as every optimizer does."""
        _add_param_group(self, param_group)


class grad_off:
    """Do what `torch.no_grad` does in a quarter of its time, which small models notice."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = torch.is_grad_enabled()
        _set_grad(False)

    def __exit__(self, *_: object) -> None:
        _set_grad(self._before)


def nothing_compiles() -> bool:
    """Tell whether torch.compile can't be at work, because nobody has imported it."""
    return "torch._dynamo" not in sys.modules


class BareStep(NamedTuple):
    """The function inside torch's profiling and hooking wrapper of a step.

    Attributes:
        step: does all that the step does.
        eager: does the same where gradients are off and nothing is compiled; None if that is not known.
    """

    step: Step
    eager: Step | None


def bare_step(base: Optimizer) -> BareStep | None:
    """Return what is inside torch's profiling and hooking wrapper of `base.step`, if there is one that is known."""
    step = _inside(type(base).step, _HOOKING) if KNOWN else None
    if step is None:
        return None
    return BareStep(step, None if base.defaults.get("differentiable", True) else _inside(step, _SETTING_GRAD_MODE))


def _inside(function: Step, wrapper: object) -> Step | None:
    wraps = wrapper is not None and getattr(function, "__code__", None) is wrapper
    return cast("Step | None", getattr(function, "__wrapped__", None)) if wraps else None


def has_step_hooks(base: Optimizer) -> bool:
    """Tell whether something runs before or after each step of `base`, or of all optimizers."""
    return bool(
        base._optimizer_step_pre_hooks
        or base._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
    )


def take_step(base: Optimizer, bare: BareStep | None) -> None:
    """Call `base.step()`.

    The wrapper opens a profiler range and looks for hooks, which takes a few percent of the time of a small model's
    step. With no profiler running, no hooks and no replaced `step`, the bare function does the same.
    """
    if bare is None or "step" in base.__dict__ or has_step_hooks(base) or torch._C._autograd._profiler_enabled():
        base.step()
    elif bare.eager and nothing_compiles():
        with grad_off():
            bare.eager(base)
    else:
        bare.step(base)


def users_of_storage(tensor: Tensor) -> float:
    """Count the references to the storage of `tensor`; NaN, which equals no number, where torch does not tell."""
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) if KNOWN else math.nan


def forget_parametrized() -> None:
    """Drop what `torch.nn.utils.parametrize.cached` keeps; outside of its blocks that is nothing."""
    cache = getattr(parametrize, "_cache", None)
    if cache:
        cache.clear()


def dims_of_one(layer: nn.Module) -> int:
    """Return how many dimensions one example has that an InstanceNorm layer is given without a batch."""
    kinds = {nn.InstanceNorm1d: 2, nn.InstanceNorm2d: 3, nn.InstanceNorm3d: 4}
    return next(dims for kind, dims in kinds.items() if isinstance(layer, kind))
