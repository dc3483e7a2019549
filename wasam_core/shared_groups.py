"""An optimizer round another one: the same parameter groups, the same state, the same hooks."""

from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from wasam_core.bare_torch import Eager, bare_step, take_step
from wasam_core.groups import BaseOptimizer, Group, Params, as_groups, build_base, check_group, merge_into
from wasam_core.moved import weights_moved


class SharedGroups(Eager, Optimizer):
    """Wrap a base optimizer such that everything a loop may ask of an optimizer is the base optimizer's own.

    Args:
        params: parameters, (name, parameter) pairs, or groups of either.
        base_optimizer: a built optimizer over the same parameters, or a class (or callable).
        defaults: options that every group has, beside the base optimizer's.
        base_kwargs: options for a class.
    """

    base_optimizer: Optimizer

    def __init__(
        self, params: Params, base_optimizer: BaseOptimizer, defaults: dict[str, Any], base_kwargs: dict[str, Any]
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

    @property
    def param_groups(self) -> list[Group]:
        """The parameter groups: the base optimizer's own dicts."""
        try:
            return self.base_optimizer.param_groups
        except AttributeError:
            return self._groups_in_the_making

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

    def add_param_group(self, param_group: Group) -> None:
        """Add a group to the base optimizer; options that it lacks get their defaults.

        Raises:
            ValueError: for what `WASAM` itself would refuse, or from the base optimizer; nothing has changed then.
        """
        if "base_optimizer" in self.__dict__:
            if isinstance(param_group, dict):
                (group,) = as_groups([param_group])
                param_group = self.defaults | check_group(group)
            self.base_optimizer.add_param_group(param_group)
        else:
            super().add_param_group(param_group)

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


def _call_at_moved_weights(hook: Any, *args: Any) -> None:
    weights_moved()
    hook(*args)
