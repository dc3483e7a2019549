"""The one average of the weights that `WASAM` keeps by itself, and as what it offers it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wasam_core.bare_torch import grad_off
from wasam_core.batchnorm import ForwardFn, recalibrate_batchnorm
from wasam_core.cost import Cost
from wasam_core.running_mean import RunningMean, WeightSwap
from wasam_core.shared_groups import SharedGroups


class OwnAverage:
    """The one average that `WASAM` keeps: take weights in, swap them, put them back, save."""

    def __init__(self) -> None:
        self._mean = RunningMean()
        self._swap: WeightSwap | None = None

    @property
    def count(self) -> int:
        """How many sets of weights it holds."""
        return self._mean.count

    @property
    def swapped(self) -> bool:
        """Whether the model holds the average now."""
        return self._swap is not None

    def update(self, parameters: Sequence[Tensor]) -> None:
        """Take in the weights."""
        if self.count and len(parameters) != len(self._mean.values):
            raise RuntimeError(
                f"The average holds {len(self._mean.values)} parameters and the optimizer {len(parameters)}: add "
                "parameter groups before the first update_swa()."
            )
        with grad_off():
            self._mean.update(self._mean.matched(parameters))

    def swap_in(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
        """Put the average into the parameters; nothing moves while it is empty."""
        values = self._mean.values
        self._swap = WeightSwap(parameters if values else [], buffers)
        self._swap.put(values)

    def swap_out(self) -> None:
        """Put parameters and buffers back."""
        assert self._swap is not None
        changed = self._swap.undo()
        self._swap = None
        if changed:
            raise RuntimeError(
                "The parameters were changed while the average was swapped in. The change is "
                "undone: train only after swapping back."
            )

    def keep_buffers(self, buffers: Iterable[Tensor]) -> None:
        """While swapped, let these buffers return with the weights."""
        if self._swap is not None:
            self._swap.add_buffers(buffers)

    def refuse_swapped(self, call: str) -> None:
        """Raise if the model holds the average."""
        if self._swap is not None:
            raise RuntimeError(
                f"{call}() while the average is swapped in: call swap_swa_sgd() again first, or "
                "leave the average_parameters() block."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return self._mean.state_dict()

    def load_state_dict(self, state: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """Take over what `state_dict` returned."""
        self._mean.load_state_dict(state, parameters)


class SwaFace(SharedGroups):
    """An optimizer that also averages its parameters; `WASAM` builds on it."""

    model: nn.Module | None
    cost: Cost
    _average: OwnAverage

    def _require_clean(self, call: str) -> None:
        """Refuse `call` unless the parameters hold the trained weights."""
        self._average.refuse_swapped(call)

    def update_swa(self) -> None:
        """Take the present weights into the average, a plain mean kept in float32.

        Raises:
            RuntimeError: while the weights are perturbed or swapped, or if parameters were added meanwhile.
        """
        self._require_clean("update_swa")
        self._average.update(self.parameters())

    def swap_swa_sgd(self) -> None:
        """Exchange the weights for their average; the next call puts them back, bit for bit.

        Buffers return too: the model's, and those of any model that `bn_update` has changed in between. Before the
        first `update_swa` there is no average, and the weights stay.

        Raises:
            RuntimeError: while the weights are perturbed, or if they were changed while swapped.
        """
        if self._average.swapped:
            self._average.swap_out()
            return
        self._require_clean("swap_swa_sgd")
        buffers = [] if self.model is None else list(self.model.buffers())
        self._average.swap_in(self.parameters(), buffers)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Put the average into the model for the length of the block.

        Raises:
            RuntimeError: before the first `update_swa`, while perturbed or swapped, or if the block changed the
                parameters (the change is undone).
        """
        self._require_clean("average_parameters")
        if not self._average.count:
            raise RuntimeError("The average is empty: call update_swa() at the end of an epoch.")
        self.swap_swa_sgd()
        try:
            yield
        finally:
            self.swap_swa_sgd()

    def bn_update(
        self,
        loader: Any,
        model: nn.Module,
        device: torch.device | str | None = None,
        *,
        forward_fn: ForwardFn | None = None,
        limit: int | None = None,
    ) -> None:
        """Set the BatchNorm statistics of `model` to the population's over `loader`.

        While swapped, the statistics of the trained weights are kept and return with them. See
        `recalibrate_batchnorm` for the arguments.
        """
        self._average.keep_buffers(model.buffers())
        examples = recalibrate_batchnorm(model, loader, forward_fn=forward_fn, limit=limit, device=device)
        self.cost.bill_forwards(examples)
