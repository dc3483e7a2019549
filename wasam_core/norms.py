"""What is asked of a list of gradients: how large it is, whether it is finite, whether it is anything but zero."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from wasam_core.bare_torch import non_finite_check
from wasam_core.verdicts import Verdict, is_far

# Entries from which on a sum beats the joint check by more than its own call costs.
LARGE = 2**16


def global_norm(tensors: list[Tensor]) -> float | Tensor:
    """Return the Euclidean norm of all `tensors` together; it is inf or nan only if an entry is.

    On an accelerator it is a tensor of float64, for which nobody has waited. 16-bit entries are summed in float32.

    Example:
        >>> global_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        5.0
    """
    if not tensors:
        return 0.0
    if is_far(tensors):
        # In float64 no squares overflow, and memory is what it waits for.
        norms = torch._foreach_norm([_dense_and_real(t) for t in tensors], 2, torch.float64)
        total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return total
    try:
        norm = _norm(tensors, torch.float32)
    except (RuntimeError, NotImplementedError):
        # Wider or sparse tensors; asking beforehand would cost every step.
        norm = math.nan
    if math.isfinite(norm):
        return norm
    # Also finite numbers whose squares overflow in float32.
    return _norm([_dense_and_real(t) for t in tensors], torch.float64)


def is_finite(number: float | Tensor) -> Verdict:
    """Tell whether a number is finite, without waiting for it."""
    return number.isfinite() if isinstance(number, Tensor) else math.isfinite(number)


def any_entry(parameters: Sequence[Tensor], zeroed: Sequence[tuple[Tensor, int]] = (), *, look: bool = False) -> bool:
    """Tell whether there is a gradient that is not all zero, as zero_grad(set_to_none=False) leaves them.

    On an accelerator the host does not look: there, those are zero that were, and have not been written to since.

    Args:
        parameters: whose gradients.
        zeroed: gradients that were zero, and their versions then.
        look: wait for an accelerator.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return False
    if not look and is_far(grads):
        versions = dict(zeroed)
        return any(versions.get(g) != g._version for g in grads)
    return any((g.coalesce().values() if g.is_sparse else g).any() for g in grads)


class FiniteCheck:
    """Tell whether lists of tensors are free of inf and nan.

    Small tensors get the check of torch's GradScaler, all in one call; its two scalars are made once, because making
    them takes longer than checking a small model. That check writes every entry back, so large tensors on the CPU are
    summed first, which only reads: an inf or nan entry makes the sum inf or nan.
    """

    def __init__(self) -> None:
        self._one = self._found = torch.empty(0)

    def __call__(self, tensors: list[Tensor]) -> bool:
        """Return whether every entry of `tensors` is finite."""
        unsure = tensors
        if max(map(Tensor.numel, tensors), default=LARGE) >= LARGE:
            unsure = [t for t in tensors if t.numel() < LARGE or not _has_finite_sum(t)]
        if not unsure:
            return True
        if self._found.device != unsure[0].device or not self._found.numel():
            self._one = torch.ones(1, device=unsure[0].device)
            self._found = torch.zeros_like(self._one)
        try:
            non_finite_check(unsure, self._found, self._one)
        except (RuntimeError, NotImplementedError):
            # Sparse or complex tensors, or several devices.
            return bool(is_finite(global_norm(unsure)))
        if self._found.item():
            self._found.zero_()
            return False
        return True


def _has_finite_sum(tensor: Tensor) -> bool:
    """Tell whether the sum shows that all entries are finite; finite ones may sum to inf, too."""
    return tensor.is_cpu and bool(tensor.sum().isfinite())


def _norm(tensors: list[Tensor], dtype: torch.dtype) -> float:
    norms = torch._foreach_norm(tensors, 2, dtype)
    if norms[0].is_cpu:
        return math.hypot(*[norm.item() for norm in norms])
    here = norms[0].device
    return math.hypot(*cast("list[float]", torch.stack([norm.to(here) for norm in norms]).tolist()))


def _dense_and_real(tensor: Tensor) -> Tensor:
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
