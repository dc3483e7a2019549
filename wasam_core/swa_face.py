"""The average of the weights as `WASAM` offers it: `update_swa`, `swap_swa_sgd`, `bn_update`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from wasam_core.batchnorm import ForwardFn, recalibrate_batchnorm
from wasam_core.cost import Cost
from wasam_core.own_average import OwnAverage
from wasam_core.shared_groups import SharedGroups


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
