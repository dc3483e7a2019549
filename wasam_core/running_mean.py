"""Means of lists of tensors that come one after the other."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from wasam_core.bare_torch import grad_off
from wasam_core.snapshots import snapshot


def lasting_memory() -> AbstractContextManager[object]:
    """Return a block without gradients whose new tensors may be written to wherever they are used later.

    Those that are made inside `torch.inference_mode()`, where validation hooks often run, may not.

    Example:
        >>> with torch.inference_mode(), lasting_memory():
        ...     memory = torch.zeros(1)
        >>> memory.add_(1.0)
        tensor([1.])
    """
    return _out_of_inference_mode() if torch.is_inference_mode_enabled() else grad_off()


@contextmanager
def _out_of_inference_mode() -> Iterator[None]:
    with torch.inference_mode(mode=False), grad_off():
        yield


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
        self._forms: list[tuple[torch.Size, torch.dtype]] = []
        self._device = device

    def prepare(self, tensors: Sequence[Tensor]) -> None:
        """Do what may fail in an update: compare shapes, take memory, follow a change of dtype; count nothing.

        Args:
            tensors: what `update` will get.

        Raises:
            ValueError: if there are others, or of other shapes, than before; nothing has changed then.
        """
        if self.count:
            check_shapes(self.values, tensors)
        with lasting_memory():
            if self.count:
                pairs = zip(self.values, tensors, strict=True)
                self.values = [value.to(t.dtype, copy=value.is_inference()) for value, t in pairs]
            else:
                self.values = [torch.empty_like(t) for t in tensors]
        self._forms = [(t.shape, t.dtype) for t in tensors]

    def update(self, tensors: Sequence[Tensor]) -> None:
        """Take in one list of tensors, as `matched` returns them.

        Raises:
            ValueError: as `prepare`.
        """
        update_together([self], tensors)

    @property
    def next_share(self) -> float:
        """c_n of the update to come."""
        d, n = self.decay, self.count + 1
        return 1.0 / n if d is None else (1.0 - d) / (1.0 - d**n)

    def matched(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Return `tensors` on the devices of the mean, in the dtypes in which they are averaged."""
        with lasting_memory():
            if not self.count:
                return [t.detach().to(device=self._device, dtype=accumulator_dtype(t)) for t in tensors]
            pairs = [(t, value, accumulator_dtype(t)) for t, value in zip(tensors, self.values, strict=True)]
            return [t.to(value) if value.dtype is wide else t.to(value.device, wide) for t, value, wide in pairs]

    def state_dict(self) -> dict[str, Any]:
        """Return count and values, as they are now."""
        return {"count": self.count, "values": snapshot(self.values) if self.count else []}

    def check_state(self, state: dict[str, Any], like: Sequence[Tensor]) -> None:
        """Refuse a state that is not that of a mean of tensors like these.

        Raises:
            ValueError: if counts, shapes or dtypes do not fit.
        """
        count, values = state["count"], state["values"]
        if count != int(count) or count < 0 or bool(count) != bool(values):
            raise ValueError(
                f"A mean of {count!r} sets of weights with {len(values)} tensors is no state of an average."
            )
        if values:
            check_shapes(like, values)
            for number, (value, t) in enumerate(zip(values, like, strict=True)):
                if value.dtype != accumulator_dtype(t):
                    raise ValueError(
                        f"Tensor {number} of the saved average has dtype {value.dtype}, and weights of {t.dtype} are "
                        f"averaged in {accumulator_dtype(t)}: bring the model to the dtype of the saved run first."
                    )

    def load_state_dict(self, state: dict[str, Any], like: Sequence[Tensor]) -> None:
        """Take over what `state_dict` returned, on the device of this mean, or on those of the tensors `like`.

        Raises:
            ValueError: if it does not fit the tensors `like`; nothing has changed then.
        """
        self.check_state(state, like)
        with lasting_memory():
            pairs = zip(state["values"], like, strict=True) if state["values"] else ()
            values = [value.to(self._device or t.device, copy=True) for value, t in pairs]
        self.values, self.count = values, int(state["count"])
        self._forms = [(value.shape, value.dtype) for value in values]


def update_together(means: Sequence[RunningMean], tensors: Sequence[Tensor]) -> None:
    """Let several means take in the same list of tensors: all of them or, if that fails, none.

    Raises:
        ValueError: as `RunningMean.prepare`.
    """
    given = list(tensors)
    forms = [(t.shape, t.dtype) for t in given]
    for mean in means:
        # A copy of the mean that was made in inference mode can't be written to outside of it.
        if mean._forms != forms or (mean.values and mean.values[0].is_inference()):
            mean.prepare(given)
    first = [value for mean in means if not mean.count for value in mean.values]
    later = [value for mean in means if mean.count for value in mean.values]
    with lasting_memory():
        if first:
            torch._foreach_copy_(first, given * (len(first) // len(given)))
        if later:
            shares = [mean.next_share for mean in means if mean.count for _ in given]
            torch._foreach_lerp_(later, given * (len(later) // len(given)), shares)
    for mean in means:
        mean.count += 1


_WIDE = {
    torch.float64: torch.float64,
    torch.complex32: torch.complex64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}


def accumulator_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which `tensor` is averaged: float32 (or complex64), or its own if that is wider."""
    return _WIDE.get(tensor.dtype, torch.float32)


def check_shapes(held: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Refuse tensors that are more, fewer or of other shapes: arithmetic would broadcast some of them in silence.

    Raises:
        ValueError: says which.
    """
    if [t.shape for t in held] == [t.shape for t in given]:
        return
    if len(held) != len(given):
        raise ValueError(f"{len(given)} tensors were given for an average of {len(held)}.")
    number = next(i for i, (a, b) in enumerate(zip(held, given, strict=True)) if a.shape != b.shape)
    raise ValueError(
        f"Tensor {number} of {len(held)} has shape {tuple(given[number].shape)}, and {tuple(held[number].shape)} is "
        "needed: an average belongs to weights of one shape."
    )
