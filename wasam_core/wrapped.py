"""An optimizer round another one: the same parameter groups, the same state, the same hooks, and one average."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from wasam_core.bare_torch import Eager, bare_step, take_step
from wasam_core.batchnorm import recalibrate_batchnorm
from wasam_core.cost import Cost
from wasam_core.groups import BaseOptimizer, Group, Params, as_groups, build_base, check_group, merge_into
from wasam_core.lookup import Place, buffer_places, parameter_places, written_by_passes
from wasam_core.moved import refuse_away, weights_moved
from wasam_core.running_means import RunningMeans, check_shapes
from wasam_core.weight_swap import WeightSwap


class WrappedOptimizer(Eager, Optimizer):
    """Wrap a base optimizer such that everything a loop may ask of an optimizer is its own; average its parameters.

    Args:
        params: parameters, (name, parameter) pairs, or groups of either.
        base_optimizer: a built optimizer over the same parameters, or a class (or callable).
        defaults: options that every group has, beside the base optimizer's.
        base_kwargs: options for a class.
        model: the model whose parameters are optimized, if it is known.
    """

    base_optimizer: Optimizer

    def __init__(
        self,
        params: Params,
        base_optimizer: BaseOptimizer,
        defaults: Group,
        base_kwargs: Group,
        model: nn.Module | None,
    ) -> None:
        groups = as_groups(params)
        built = base_optimizer.param_groups if isinstance(base_optimizer, Optimizer) else []
        for group in (*groups, *built, {**base_kwargs, "params": []}):
            check_group(group)
        if isinstance(base_optimizer, Optimizer):
            merge_into(base_optimizer, groups, base_kwargs)
            groups = base_optimizer.param_groups
        self._groups_in_the_making: list[Group] = []
        super().__init__(groups, dict(defaults))
        self.base_optimizer = build_base(base_optimizer, self._groups_in_the_making, base_kwargs)
        for group in self.base_optimizer.param_groups:
            check_group(group)
        self._groups_in_the_making = []
        self._bare_step = bare_step(self.base_optimizer)
        self.defaults = {**self.base_optimizer.defaults, **self.defaults}
        self.model = model
        self.cost = Cost()
        self._average = RunningMeans()
        self._swap: WeightSwap | None = None  # while the parameters hold the average

    @property
    def param_groups(self) -> list[Group]:
        """The parameter groups: the base optimizer's own dicts."""
        born = "base_optimizer" in self.__dict__
        return self.base_optimizer.param_groups if born else self._groups_in_the_making

    @param_groups.setter
    def param_groups(self, groups: list[Group]) -> None:
        if "base_optimizer" in self.__dict__:
            self.base_optimizer.param_groups = groups
        else:
            self._groups_in_the_making = groups

    @property
    def state(self) -> Any:
        """The state of each parameter: the base optimizer's own."""
        return self.base_optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        if "base_optimizer" in self.__dict__:
            self.base_optimizer.state = state

    @property
    def model(self) -> nn.Module | None:
        """The model whose parameters are optimized, if it is known."""
        return self._model

    @model.setter
    def model(self, model: nn.Module | None) -> None:
        self._model = model
        self._found_in_model = self._count_in_model(self.parameters())

    def _count_in_model(self, parameters: Sequence[Tensor]) -> int:
        return 0 if self._model is None else len({*self._model.parameters()} & {*parameters})

    def add_param_group(self, param_group: Group) -> None:
        """Add a group to the base optimizer; options that it lacks get their defaults.

        Raises:
            ValueError: for what `WASAM` itself would refuse, or from the base optimizer; nothing has changed then.
        """
        if "base_optimizer" not in self.__dict__:
            super().add_param_group(param_group)
            return
        if isinstance(param_group, dict):
            (group,) = as_groups([param_group])
            param_group = self.defaults | check_group(group)
        self.base_optimizer.add_param_group(param_group)
        self._found_in_model += self._count_in_model(self.param_groups[-1]["params"])

    def register_step_pre_hook(self, hook: Any) -> RemovableHandle:
        """Run `hook` just before the base optimizer's step, when the final gradient is present.

        It is called as `hook(base_optimizer, args, kwargs)`: the place to clip or to log.
        """
        return self.base_optimizer.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Any) -> RemovableHandle:
        """Run `hook(base_optimizer, args, kwargs)` just after the base optimizer's step."""
        return self.base_optimizer.register_step_post_hook(partial(_call_at_moved_weights, hook))

    def parameters(self) -> list[Tensor]:
        """Return the parameters of all groups, in order."""
        return [p for group in self.base_optimizer.param_groups for p in group["params"]]

    def gradients(self) -> list[Tensor]:
        """Return the gradients that are present."""
        return [p.grad for p in self.parameters() if p.grad is not None]

    def take_base_step(self) -> None:
        """Let the base optimizer step."""
        take_step(self.base_optimizer, self._bare_step)
        weights_moved()

    def _patch_step_function(self) -> None:
        # The base optimizer's step is profiled and runs the hooks; once is enough.
        pass

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to one process: a patched `step`, a nameless function, and, as torch does, hooks."""
        state = self.__dict__.items()
        return {k: v for k, v in state if k not in ("step", "_bare_step") and not k.startswith("_optimizer_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find anew what `__getstate__` left out."""
        super().__setstate__(state)
        self._bare_step = bare_step(self.base_optimizer)

    def _refuse_others(self, call: str) -> None:
        """Refuse `call` for parameters that hold other weights, or have left the model, or the average is not of."""
        params = self.parameters()
        refuse_away(call, params)
        missing = self._found_in_model - self._count_in_model(params)
        if missing > 0:
            raise RuntimeError(
                f"{call}(): {missing} of the optimizer's {len(params)} parameters are no longer the model's, which has "
                "others in their place (load_state_dict(assign=True), a new layer, a conversion). Build the optimizer "
                "after such a change, over the parameters that the model has then."
            )
        if self._average.count:
            try:
                check_shapes(self._average.read(), params)
            except ValueError as error:
                raise RuntimeError(
                    f"{call}(): the optimizer's parameters are others than when its average was begun. {error} Change "
                    "their shapes, and add parameter groups before the first update_swa()."
                ) from error

    def _require_clean(self, call: str) -> None:
        """Refuse `call` unless the parameters hold the trained weights."""
        if self._swap is not None:
            raise RuntimeError(
                f"{call}() while the average is swapped in: call swap_swa_sgd() again first, or leave the "
                "average_parameters() block."
            )

    def update_swa(self) -> None:
        """Take the present weights into the average, a plain mean kept in float32.

        Raises:
            RuntimeError: while the weights are perturbed or swapped, or if parameters were added, replaced or reshaped
                meanwhile. Nothing has changed then.
        """
        self._require_clean("update_swa")
        self._refuse_others("update_swa")
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
        if self._swap is not None:
            try:
                changed = self._swap.undo()
            finally:
                self._swap = None
            if changed:
                raise RuntimeError(
                    "The parameters were changed while the average was swapped in. The change is undone: train only "
                    "after swapping back."
                )
            return
        self._require_clean("swap_swa_sgd")
        self._refuse_others("swap_swa_sgd")
        params = self.parameters()
        places: list[Place] = []
        modules = [] if self.model is None else list(self.model.modules())
        if modules:
            own = {*params}
            places += buffer_places(modules)
            places += [place for place in parameter_places(modules) if place[2] in own]
        values = self._average.read()
        swap = WeightSwap(params if values else [], places, written_by_passes(modules))
        swap.put(values)
        self._swap = swap

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
        **options: Any,
    ) -> None:
        """Set the BatchNorm statistics of `model` to the population's over `loader`.

        While swapped, the statistics of the trained weights are kept and return with them. See
        `recalibrate_batchnorm` for the arguments, and for further options.

        Raises:
            RuntimeError: while swapped, if the model holds none of the optimizer's parameters.
        """
        given = {*model.parameters()}
        if self._swap is not None and given and not given & {*self.parameters()}:
            raise RuntimeError(
                f"bn_update() while the average is swapped in, and this {type(model).__name__} holds none of the "
                "optimizer's parameters: it is another model, or they were replaced (load_state_dict(assign=True), a "
                "conversion). Build the optimizer after such a change."
            )
        if self._swap is not None:
            self._swap.keep_places(buffer_places(model.modules()))
        self.cost.bill_forwards(recalibrate_batchnorm(model, loader, device=device, **options))


def _call_at_moved_weights(hook: Any, *args: Any) -> None:
    weights_moved()
    hook(*args)
