"""The one average of the weights that `WASAM` keeps by itself, and as what it offers it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wasam_core.batchnorm import ForwardFn, recalibrate_batchnorm
from wasam_core.cost import Cost
from wasam_core.groups import Group
from wasam_core.lookup import Place, buffer_places, parameter_places
from wasam_core.running_mean import RunningMean, check_shapes
from wasam_core.shared_groups import SharedGroups
from wasam_core.weight_swap import WeightSwap


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
        self._refuse_others(parameters)
        self._mean.update(parameters)

    def swap_in(self, parameters: Sequence[Tensor], places: Iterable[Place]) -> None:
        """Put the average into the parameters; nothing moves while it is empty.

        Args:
            parameters: those that are averaged.
            places: where a model keeps these and its buffers, if one is known.
        """
        self._refuse_others(parameters)
        values = self._mean.values if self.count else []
        swap = WeightSwap(parameters if values else [], places)
        swap.put(values)
        self._swap = swap

    def _refuse_others(self, parameters: Sequence[Tensor]) -> None:
        if not self.count:
            return
        if len(parameters) != len(self._mean.values):
            raise RuntimeError(
                f"The average holds {len(self._mean.values)} parameters and the optimizer {len(parameters)}: add "
                "parameter groups before the first update_swa()."
            )
        try:
            check_shapes(self._mean.values, parameters)
        except ValueError as error:
            raise RuntimeError(
                f"The optimizer's parameters have changed their shapes since the first update_swa(). {error} Change "
                "them before it."
            ) from error

    def swap_out(self) -> None:
        """Put parameters and buffers back."""
        assert self._swap is not None
        try:
            changed = self._swap.undo()
        finally:
            self._swap = None
        if changed:
            raise RuntimeError(
                "The parameters were changed while the average was swapped in. The change is "
                "undone: train only after swapping back."
            )

    def keep_buffers(self, model: nn.Module) -> None:
        """While swapped, let the buffers of `model` return with the weights."""
        if self._swap is not None:
            self._swap.keep_places(buffer_places(model.modules()))

    def refuse_swapped(self, call: str) -> None:
        """Raise if the model holds the average."""
        if self._swap is not None:
            raise RuntimeError(
                f"{call}() while the average is swapped in: call swap_swa_sgd() again first, or "
                "leave the average_parameters() block."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the average as it is now."""
        return self._mean.state_dict()

    def load_state_dict(self, state: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: if it does not fit the parameters; nothing has changed then.
        """
        self._mean.load_state_dict(state, parameters)


class SwaFace(SharedGroups):
    """An optimizer that also averages its parameters; `WASAM` builds on it."""

    cost: Cost
    _average: OwnAverage
    _model: nn.Module | None
    _found_in_model: int

    @property
    def model(self) -> nn.Module | None:
        """The model whose parameters are optimized, if it is known."""
        return self._model

    @model.setter
    def model(self, model: nn.Module | None) -> None:
        self._model = model
        self._found_in_model = self._count_in_model(self.parameters())

    def add_param_group(self, param_group: Group) -> None:
        """Add a group to the base optimizer; options that it lacks get their defaults.

        Raises:
            ValueError: from the base optimizer.
        """
        super().add_param_group(param_group)
        if "_model" in self.__dict__:
            self._found_in_model += self._count_in_model(self.param_groups[-1]["params"])

    def _count_in_model(self, parameters: Sequence[Tensor]) -> int:
        if self._model is None:
            return 0
        return len({*self._model.parameters()} & {*parameters})

    def _refuse_orphans(self, call: str) -> None:
        """Refuse `call` if the model has parted with parameters: what is done to these, it doesn't feel."""
        missing = self._found_in_model - self._count_in_model(self.parameters())
        if missing > 0:
            raise RuntimeError(
                f"{call}(): {missing} of the optimizer's {len(self.parameters())} parameters are no longer the "
                "model's, which has others in their place (load_state_dict(assign=True), a new layer, a conversion). "
                "Build the optimizer after such a change, over the parameters that the model has then."
            )

    def _require_clean(self, call: str) -> None:
        """Refuse `call` unless the parameters hold the trained weights."""
        self._average.refuse_swapped(call)

    def update_swa(self) -> None:
        """Take the present weights into the average, a plain mean kept in float32.

        Raises:
            RuntimeError: while the weights are perturbed or swapped, or if parameters were added, replaced or reshaped
                meanwhile. Nothing has changed then.
        """
        self._require_clean("update_swa")
        self._refuse_orphans("update_swa")
        self._average.update(self.parameters())

    def swap_swa_sgd(self) -> None:
        """Exchange the weights for their average; the next call puts them back, bit for bit.

        Buffers return too: the model's, and those of any model that `bn_update` has changed in between. Before the
        first `update_swa` there is no average, and the weights stay. Whether the parameters are still the model's is
        seen if the optimizer was given `model`.

        Raises:
            RuntimeError: while the weights are perturbed, if parameters were added, replaced or reshaped since the
                average was begun, or if they were changed while swapped.
        """
        if self._average.swapped:
            self._average.swap_out()
            return
        self._require_clean("swap_swa_sgd")
        self._refuse_orphans("swap_swa_sgd")
        places: list[Place] = []
        if self.model is not None:
            own = {*self.parameters()}
            places += buffer_places(self.model.modules())
            places += [place for place in parameter_places(self.model.modules()) if place[2] in own]
        self._average.swap_in(self.parameters(), places)

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

        Raises:
            RuntimeError: while swapped, if the model holds none of the optimizer's parameters.
        """
        given = {*model.parameters()}
        if self._average.swapped and given and not given & {*self.parameters()}:
            raise RuntimeError(
                f"bn_update() while the average is swapped in, and this {type(model).__name__} holds none of the "
                "optimizer's parameters: it is another model, or they were replaced (load_state_dict(assign=True), a "
                "conversion). Build the optimizer after such a change."
            )
        self._average.keep_buffers(model)
        examples = recalibrate_batchnorm(model, loader, forward_fn=forward_fn, limit=limit, device=device)
        self.cost.bill_forwards(examples)
