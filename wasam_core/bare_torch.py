"""torch's optimizers without their imports of torch.compile, which take two seconds of each new process.

An optimizer calls `torch._dynamo` to say what must not be compiled: once in its constructor, and round every step.
Where nothing has imported that, nothing is being compiled, and there is nobody to tell. The functions that torch wraps
are used bare, as it keeps them (`__wrapped__`); of a torch that does not, the wrappers, which take their time.
"""

import sys
from collections.abc import Callable
from typing import Any, cast

from torch.optim import Optimizer
from torch.optim.optimizer import _use_grad_for_differentiable

Step = Callable[[Optimizer], object]
_add_param_group: Callable[..., None] = getattr(Optimizer.add_param_group, "__wrapped__", Optimizer.add_param_group)


def _nothing(_: Optimizer) -> None:
    pass


# A wrapper is known by its code: whoever wraps a step in his own way copies all other marks of torch's.
_HOOKING = cast(Any, Optimizer.profile_hook_step(_nothing)).__code__
_SETTING_GRAD_MODE = cast(Any, _use_grad_for_differentiable(_nothing)).__code__


class Eager:
    """Mixed into an optimizer class, it makes optimizers that import nothing of torch.compile.

    Example:
        >>> import torch
        >>> class SGD(Eager, torch.optim.SGD):
        ...     pass
        >>> SGD([torch.zeros(2)], lr=0.1).param_groups[0]["lr"]
        0.1
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as every optimizer does."""
        _add_param_group(self, param_group)


def unhooked(step: Step) -> Step | None:
    """Return the step inside torch's profiling and hooking wrapper; None where `step` is no such wrapper."""
    return _inside(step, _HOOKING)


def eager_step(base: Optimizer, step: Step) -> Step | None:
    """Return what takes the same step where gradients are off already and nothing is compiled; None if not known.

    Args:
        base: whose step it is.
        step: what `unhooked` returned.
    """
    return None if base.defaults.get("differentiable", True) else _inside(step, _SETTING_GRAD_MODE)


def nothing_compiles() -> bool:
    """Tell whether torch.compile can't be at work, because nobody has imported it."""
    return "torch._dynamo" not in sys.modules


def _inside(function: Step, wrapper: object) -> Step | None:
    wraps = getattr(function, "__code__", None) is wrapper
    return cast("Step | None", getattr(function, "__wrapped__", None)) if wraps else None
