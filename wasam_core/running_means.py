"""Means of lists of tensors that come one after the other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wasam_core.memory import lasting_memory, snapshot
from wasam_core.verdicts import Verdict, erase_unless


class RunningMeans:
    """Average lists of tensors one after the other: plainly, or with exponential forgetting at several decays.

    A mean after update n is a_n = a_{n-1} + c_n (w_n - a_{n-1}) with
        c_n = 1 / n                    without a decay (arithmetic mean), or
        c_n = (1 - d) / (1 - d^n)      with decay d,
    and the latter is the exponential moving average started at zero and divided by 1 - d^n: the
    first value is w_1, and no later value leans on the start. Sums are kept in float32 at least.

    Memory is taken at the first update: one copy of the tensors for each mean. What an update needs is kept for as long
    as the tensors keep their forms. All means take in a list or, if that fails, none.

    Args:
        decays: d in [0, 1) of each mean; None for the arithmetic mean.
        device: where to keep the means; None keeps each tensor beside its original.

    Example:
        >>> means = RunningMeans()
        >>> for value in (1.0, 2.0, 6.0):
        ...     means.update([torch.tensor([value])])
        >>> means.read()
        [tensor([3.])]
    """

    def __init__(self, decays: Sequence[float | None] = (None,), device: torch.device | str | None = None) -> None:
        self.decays = tuple(decays)
        self.device = device
        self._values: list[Tensor] = []  # of the first mean, then of the second, and so on
        self._count = 0
        self._taken: Tensor | None = None  # the count, if an accelerator keeps it
        self._forms: Sequence[Any] | None = None
        self._as_they_are = False

    @property
    def count(self) -> int:
        """How many lists of tensors were taken in."""
        if self._taken is not None:
            self._count, self._taken = int(self._taken), None
        return self._count

    @property
    def nbytes(self) -> int:
        """The memory that the means hold now, in bytes."""
        return sum(t.numel() * t.element_size() for t in self._values)

    def read(self, index: int = 0) -> list[Tensor]:
        """Return the values of a mean, which further updates write to; none before the first update."""
        size = len(self._values) // len(self.decays) if self.count else 0
        return self._values[index * size : (index + 1) * size]

    def update(self, tensors: Sequence[Tensor], taken: Verdict = True, forms: Sequence[Any] | None = None) -> None:
        """Take in a list of tensors, or leave it.

        Args:
            tensors: as the first ones; they may have changed their dtype since.
            taken: False: leave it. A tensor: the same, decided on the accelerator; all means have decays then.
            forms: the same list for as long as shapes, dtypes and devices are the same; None: look at them.

        Raises:
            ValueError: if there are others, or of other shapes, than before; nothing has changed then.
        """
        if taken is False:
            return
        if forms is None or forms is not self._forms:
            self._prepare(tensors)
            self._forms = forms
        with lasting_memory():
            given = list(tensors)
            if not self._as_they_are:
                given = [t.detach().to(value) for t, value in zip(tensors, self._values, strict=False)]
            if isinstance(taken, Tensor):
                self._update_there(given, taken)
                return
            count = self.count
            if count and given:
                shares = [share for decay in self.decays for share in [_share(decay, count + 1)] * len(given)]
                torch._foreach_lerp_(self._values, given * len(self.decays), shares)
            elif given:
                torch._foreach_copy_(self._values, given * len(self.decays))
        self._count = count + 1

    def _prepare(self, tensors: Sequence[Tensor]) -> None:
        """Do what may fail in an update: compare shapes, take memory, follow a change of dtype; count nothing."""
        originals = list(tensors) * len(self.decays)
        if self.count:
            check_shapes(self.read(), tensors)
        with lasting_memory():
            if self.count:
                # A copy of a mean that was made in inference mode can't be written to outside of it.
                pairs = zip(self._values, originals, strict=True)
                self._values = [v.to(accumulator_dtype(t), copy=v.is_inference()) for v, t in pairs]
            else:
                self._values = [torch.empty_like(t, dtype=accumulator_dtype(t), device=self.device) for t in originals]
        pairs = zip(self._values, originals, strict=True)
        self._as_they_are = all(value.dtype is t.dtype and value.device == t.device for value, t in pairs)

    def _update_there(self, given: list[Tensor], taken: Tensor) -> None:
        """Update by arithmetic that comes to nothing if the tensors are not to be taken in, and count there."""
        if self._taken is None:
            self._rates = torch.tensor(self.decays, dtype=torch.float64, device=taken.device)
            self._taken = torch.full_like(self._rates[0], self._count)
            if not self._count:
                torch._foreach_zero_(self._values)
        self._taken.add_(taken)
        shares = (1.0 - self._rates) / (1.0 - self._rates**self._taken)
        for index, share in enumerate(shares.unbind()):
            values = self._values[index * len(given) : (index + 1) * len(given)]
            steps = list(torch._foreach_sub(given, values))
            torch._foreach_mul_(steps, share.to(steps[0].dtype))
            erase_unless(taken, steps)
            torch._foreach_add_(values, steps)

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return count and values of each mean, as they are now."""
        return [{"count": self.count, "values": snapshot(self.read(index))} for index in range(len(self.decays))]

    def load_state_dicts(self, states: Sequence[dict[str, Any]], like: Sequence[Tensor]) -> None:
        """Take over what `state_dicts` returned, on the device of these means, or on those of the tensors `like`.

        Raises:
            ValueError: if counts, shapes or dtypes are not those of means of tensors `like` these; nothing has changed
                then.
        """
        count = states[0]["count"] if states else 0
        for state in states:
            if state["count"] != count or count != int(count) or count < 0 or bool(count) != bool(state["values"]):
                raise ValueError(
                    f"Means of {[one['count'] for one in states]} sets of weights with "
                    f"{[len(one['values']) for one in states]} tensors are no state of an average."
                )
            if count:
                check_shapes(like, state["values"])
            for number, (value, t) in enumerate(zip(state["values"], like, strict=False)):
                if value.dtype != accumulator_dtype(t):
                    raise ValueError(
                        f"Tensor {number} of the saved average has dtype {value.dtype}, and weights of {t.dtype} are "
                        f"averaged in {accumulator_dtype(t)}: bring the model to the dtype of the saved run first."
                    )
        with lasting_memory():
            pairs = [pair for state in states for pair in zip(state["values"], like, strict=False)]
            self._values = [value.to(self.device or t.device, copy=True) for value, t in pairs]
        self._count, self._taken, self._forms = int(count), None, None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was prepared: a copy has tensors of its own."""
        return self.__dict__ | {"_count": self.count, "_taken": None, "_forms": None}


def _share(decay: float | None, count: int) -> float:
    return 1.0 / count if decay is None else (1.0 - decay) / (1.0 - decay**count)


def accumulator_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which `tensor` is averaged: float32 (or complex64), or its own if that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)


def check_shapes(held: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Refuse tensors that are more, fewer or of other shapes: arithmetic would broadcast some of them in silence."""
    if [t.shape for t in held] == [t.shape for t in given]:
        return
    if len(held) != len(given):
        raise ValueError(f"{len(given)} tensors were given for an average of {len(held)}.")
    number = next(i for i, (a, b) in enumerate(zip(held, given, strict=True)) if a.shape != b.shape)
    raise ValueError(
        f"Tensor {number} of {len(held)} has shape {tuple(given[number].shape)}, and {tuple(held[number].shape)} is "
        "needed: an average belongs to weights of one shape."
    )
