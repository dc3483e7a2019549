"""Parameter groups of a task: parts of the network with a rate, or other options, of their own."""

import math
from typing import Any

from torch import Tensor, nn

from study.data.pool import TaskError
from study.tasks.task import Task

Groups = list[dict[str, Any]]
SCALE = "lr_scale"  # what the learning rate of a group is multiplied by, as timm calls it


def groups_of(task: Task, model: nn.Module) -> Groups:
    """Return the groups of (name, parameter) pairs that a task's model is trained in; one, unless the task says more.

    The task's ``parameter_groups`` are called with its own model; names are those of the model as it is trained.

    Raises:
        TaskError: they are no groups, leave a parameter out that is trained, or hold one twice; or a group gives a rate
            or a radius, which are searched.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    if task.parameter_groups is None:
        return [{"params": [(name, p) for p, name in names.items()]}]
    given = task.parameter_groups(task.model)
    if not (isinstance(given, list) and all(isinstance(group, dict) and "params" in group for group in given)):
        raise TaskError(
            "parameter_groups returned something else than a list of dicts with params; return such as "
            f'[{{"params": model.head.parameters()}}, {{"params": model.body.parameters(), "{SCALE}": 0.1}}]'
        )
    groups = [group | {"params": _tensors(group["params"])} for group in given]
    for group in groups:
        _check_options(group)
    held = [p for group in groups for p in group["params"]]
    if len({*held}) < len(held) or not {*held} <= names.keys():
        raise TaskError("parameter_groups returned a parameter twice, or one that the model does not have")
    if left := [name for p, name in names.items() if p.requires_grad and p not in {*held}]:
        raise TaskError(
            f"parameter_groups left out {', '.join(left[:3])}{' …' if len(left) > 3 else ''}; put every parameter that "
            "is trained into a group, and freeze others with requires_grad_(False)"
        )
    return [group | {"params": [(names[p], p) for p in group["params"]]} for group in groups if group["params"]]


def _tensors(params: Any) -> list[Tensor]:
    return [params] if isinstance(params, Tensor) else [p[1] if isinstance(p, tuple) else p for p in params]


def _check_options(group: dict[str, Any]) -> None:
    for name, instead in (("lr", f'its multiple of that instead: "{SCALE}": 0.1'), ("rho", "no radius")):
        if name in group:
            raise TaskError(
                f"parameter_groups gave a group {name} = {group[name]!r}, which is searched for all of them; give "
                f"{instead}"
            )
    scale = group.get(SCALE, 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not (math.isfinite(scale) and scale > 0):
        raise TaskError(f"parameter_groups gave a group {SCALE} = {scale!r}; it must be a number above 0")
