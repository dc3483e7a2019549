"""The one average of the weights that `WASAM` keeps by itself."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from wasam_core.grad_mode import grad_off
from wasam_core.running_mean import RunningMean, WeightSwap


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
