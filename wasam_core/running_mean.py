"""Means of lists of tensors that come one after the other, and the exchange of weights for such a mean."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class RunningMean:
    """Average lists of tensors one after the other: plainly, or with exponential forgetting.

    The mean after update n is a_n = a_{n-1} + c_n (w_n - a_{n-1}) with
        c_n = 1 / n                    without a decay (arithmetic mean), or
        c_n = (1 - d) / (1 - d^n)      with decay d,
    and the latter is the exponential moving average started at zero and divided by 1 - d^n: the
    first value is w_1, and no later value leans on the start. Sums are kept in float32 at least.

    Memory is taken at the first update: one copy of the tensors.

    Args:
        decay: d in [0, 1); None for the arithmetic mean.
        device: where to keep the mean; None keeps each tensor beside its original.

    Example:
        >>> mean = RunningMean()
        >>> for value in (1.0, 2.0, 6.0):
        ...     mean.update([torch.tensor([value])])
        >>> mean.values
        [tensor([3.])]
    """

    def __init__(self, decay: float | None = None, device: torch.device | str | None = None) -> None:
        self.decay = decay
        self.count = 0
        self.values: list[Tensor] = []
        self._device = device

    def update(self, tensors: Sequence[Tensor]) -> None:
        """Take in one list of tensors, in the dtypes and on the devices of the mean; see `matched`.

        Call it under `torch.no_grad()`.
        """
        self.count += 1
        if self.count == 1:
            self.values = [t.detach().clone() for t in tensors]
            return
        d, n = self.decay, self.count
        share = 1.0 / n if d is None else (1.0 - d) / (1.0 - d**n)
        torch._foreach_lerp_(self.values, list(tensors), share)

    def matched(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Return `tensors` in the dtypes and on the devices of the mean."""
        if self.values:
            return [t.to(value) for t, value in zip(tensors, self.values, strict=True)]
        return [t.to(device=self._device, dtype=accumulator_dtype(t)) for t in tensors]

    def state_dict(self) -> dict[str, Any]:
        """Return count and values."""
        return {"count": self.count, "values": self.values}

    def load_state_dict(self, state: dict[str, Any], like: Sequence[Tensor]) -> None:
        """Take over what `state_dict` returned, on the device of this mean, or on those of the tensors `like`."""
        pairs = zip(state["values"], like, strict=True) if state["values"] else ()
        self.values = [value.to(self._device or t.device, copy=True) for value, t in pairs]
        self.count = state["count"]


def accumulator_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which `tensor` is averaged: float32, or its own if that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)


class WeightSwap:
    """Exchange weights in place and put the old ones back, buffers included, bit for bit.

    Args:
        parameters: the tensors to exchange.
        buffers: tensors whose values are kept and put back, whatever happens to them in between.
    """

    def __init__(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._buffers = list(buffers)
        with torch.no_grad():
            self._copies = [t.clone() for t in (*self._parameters, *self._buffers)]
        self._versions: list[int] = []

    @torch.no_grad()
    def put(self, values: Sequence[Tensor]) -> None:
        """Write `values` into the parameters, in the parameters' dtype and storage."""
        if values:
            torch._foreach_copy_(self._parameters, list(values))
        self._versions = [p._version for p in self._parameters]

    @torch.no_grad()
    def add_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Keep the present values of further buffers, if they are not kept already."""
        kept = {id(b) for b in self._buffers}
        for buffer in buffers:
            if id(buffer) not in kept:
                self._buffers.append(buffer)
                self._copies.append(buffer.clone())

    @torch.no_grad()
    def undo(self) -> bool:
        """Put everything back; return whether the parameters were changed since `put`."""
        changed = self._versions != [p._version for p in self._parameters]
        torch._foreach_copy_([*self._parameters, *self._buffers], self._copies)
        return changed
