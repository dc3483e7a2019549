"""The size of a list of tensors, and whether it is finite."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor


def global_norm(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all `tensors` together; it is inf or nan only if an entry is.

    16-bit entries are summed in float32. Costs one synchronization with an accelerator.

    Example:
        >>> global_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        5.0
    """
    if not tensors:
        return 0.0
    try:
        norm = _norm(tensors, torch.float32)
    except (RuntimeError, NotImplementedError):
        # Wider or sparse tensors; asking beforehand would cost every step.
        norm = math.nan
    if math.isfinite(norm):
        return norm
    # Also finite numbers whose squares overflow in float32.
    return _norm([_dense_and_real(t) for t in tensors], torch.float64)


class FiniteCheck:
    """Tell whether lists of tensors are free of inf and nan.

    It is the check that torch's GradScaler makes, at half the price of a norm. Its two scalars are made once, because
    making them takes longer than checking a small model.

    Example:
        >>> all_finite = FiniteCheck()
        >>> all_finite([torch.ones(2)]), all_finite([torch.ones(2), torch.tensor([math.inf])])
        (True, False)
    """

    def __init__(self) -> None:
        self._one = self._found = torch.empty(0)

    def __call__(self, tensors: list[Tensor]) -> bool:
        """Return whether every entry of `tensors` is finite."""
        if not tensors:
            return True
        if self._found.device != tensors[0].device or not self._found.numel():
            self._one = torch.ones(1, device=tensors[0].device)
            self._found = torch.zeros_like(self._one)
        try:
            torch._amp_foreach_non_finite_check_and_unscale_(tensors, self._found, self._one)
        except (RuntimeError, NotImplementedError):
            # Sparse or complex tensors, or several devices.
            return math.isfinite(global_norm(tensors))
        if self._found.item():
            self._found.zero_()
            return False
        return True


def _norm(tensors: Sequence[Tensor], dtype: torch.dtype) -> float:
    norms = torch._foreach_norm(list(tensors), 2, dtype)
    if norms[0].is_cpu:
        return math.hypot(*[norm.item() for norm in norms])
    here = norms[0].device
    return math.hypot(*cast("list[float]", torch.stack([norm.to(here) for norm in norms]).tolist()))


def _dense_and_real(tensor: Tensor) -> Tensor:
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
