"""Means of lists of tensors that come one after the other."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor

from wasam_core.bare_torch import grad_off
from wasam_core.snapshots import snapshot
from wasam_core.verdicts import Verdict, erase_unless


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
        self.device = device

    def update(self, tensors: Sequence[Tensor]) -> None:
        """Take in one list of tensors.

        Raises:
            ValueError: if there are others, or of other shapes, than before; nothing has changed then.
        """
        MeansTogether([self]).update(tensors)

    @property
    def next_share(self) -> float:
        """c_n of the update to come."""
        d, n = self.decay, self.count + 1
        return 1.0 / n if d is None else (1.0 - d) / (1.0 - d**n)

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
            values = [value.to(self.device or t.device, copy=True) for value, t in pairs]
        self.values, self.count = values, int(state["count"])


class MeansTogether:
    """Let several means of one count take in the same list of tensors: all of them or, if that fails, none.

    What an update needs is kept for as long as the tensors keep their forms and the means their memory.
    """

    def __init__(self, means: Iterable[RunningMean]) -> None:
        self.means = list(means)
        self._forms: Sequence[Any] | None = None
        self._held: list[list[Tensor]] = []
        self._values: list[Tensor] = []
        self._as_they_are = False
        self._taken: Tensor | None = None

    def update(self, tensors: Sequence[Tensor], taken: Verdict = True, forms: Sequence[Any] | None = None) -> None:
        """Take in a list of tensors, or leave it.

        Args:
            tensors: as the first ones; they may have changed their dtype since.
            taken: False: leave it. A tensor: the same, decided on the accelerator; all means have decays then.
            forms: the same list for as long as shapes, dtypes and devices are the same; None: look at them.

        Raises:
            ValueError: as `RunningMean.update`.
        """
        if taken is False:
            return
        if forms is None or forms is not self._forms or not all(map(is_, map(_values, self.means), self._held)):
            self._prepare(tensors)
            self._forms = forms
        with lasting_memory():
            given = list(tensors)
            if not self._as_they_are:
                given = [t.detach().to(value) for t, value in zip(tensors, self.means[0].values, strict=True)]
            if isinstance(taken, Tensor):
                self._update_there(given, taken)
                return
            self.settle()
            if not self._values:
                pass
            elif self.means[0].count:
                shares: list[float] = []
                for mean in self.means:
                    shares += [mean.next_share] * len(given)
                torch._foreach_lerp_(self._values, given * len(self.means), shares)
            else:
                torch._foreach_copy_(self._values, given * len(self.means))
        for mean in self.means:
            mean.count += 1

    def settle(self) -> None:
        """Read how many updates were taken, if an accelerator counts them."""
        if self._taken is not None:
            for mean in self.means:
                mean.count = int(self._taken)
            self._taken = None

    def _prepare(self, tensors: Sequence[Tensor]) -> None:
        """Do what may fail in an update: compare shapes, take memory, follow a change of dtype; count nothing."""
        self.settle()
        for mean in self.means:
            if mean.count:
                check_shapes(mean.values, tensors)
        with lasting_memory():
            new = [
                # A copy of a mean that was made in inference mode can't be written to outside of it.
                [v.to(accumulator_dtype(t), copy=v.is_inference()) for v, t in zip(mean.values, tensors, strict=True)]
                if mean.count
                else [torch.empty_like(t, dtype=accumulator_dtype(t), device=mean.device) for t in tensors]
                for mean in self.means
            ]
        for mean, values in zip(self.means, new, strict=True):
            mean.values = values
        self._held = new
        self._values = [value for values in new for value in values]
        pairs = zip(self._values, list(tensors) * len(new), strict=True)
        self._as_they_are = all(value.dtype is t.dtype and value.device == t.device for value, t in pairs)

    def _update_there(self, given: list[Tensor], taken: Tensor) -> None:
        """Update by arithmetic that comes to nothing if the tensors are not to be taken in, and count there."""
        if self._taken is None:
            self._decays = torch.tensor([mean.decay for mean in self.means], dtype=torch.float64, device=taken.device)
            self._taken = torch.full_like(self._decays[0], self.means[0].count)
            if not self.means[0].count:
                torch._foreach_zero_(self._values)
        self._taken.add_(taken)
        shares = (1.0 - self._decays) / (1.0 - self._decays**self._taken)
        for mean, share in zip(self.means, shares.unbind(), strict=True):
            steps = list(torch._foreach_sub(given, mean.values))
            torch._foreach_mul_(steps, share.to(steps[0].dtype))
            erase_unless(taken, steps)
            torch._foreach_add_(mean.values, steps)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was prepared: a copy has tensors of its own."""
        self.settle()
        return MeansTogether(self.means).__dict__


_values = attrgetter("values")

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
