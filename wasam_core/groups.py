"""Parameter groups: check what a user gave, and build the ones that are asked for often."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Group: TypeAlias = dict[str, Any]
Params: TypeAlias = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Group]
BaseOptimizer: TypeAlias = Optimizer | Callable[..., Optimizer]


def norm_layer_groups(model: nn.Module, rho: float = 0.05) -> list[Group]:
    """Build parameter groups that perturb the normalization layers only.

    A module is a normalization layer if its class has "norm" in its name; only the parameters that it holds itself
    count, not those of modules inside it.

    Args:
        model: the model.
        rho: radius for the parameters of normalization layers, ≥ 0; all others get 0.

    Returns:
        Two groups of (name, parameter) pairs, for `WASAM(norm_layer_groups(model), ...)`; a group
        that would be empty is left out.

    Raises:
        ValueError: if the model has no normalization layer with parameters.

    Source: Müller et al. 2023 (arXiv 2306.04226): SAM-ON.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        >>> [(g["rho"], [n for n, _ in g["params"]]) for g in norm_layer_groups(model, rho=0.5)]
        [(0.5, ['1.weight', '1.bias']), (0.0, ['0.weight', '0.bias'])]
    """
    layers = [m for m in model.modules() if "norm" in type(m).__name__.lower()]
    inside = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    named = list(model.named_parameters())
    norm = [(name, p) for name, p in named if id(p) in inside]
    rest = [(name, p) for name, p in named if id(p) not in inside]
    if not norm:
        raise ValueError(
            f"{type(model).__name__} has no normalization layer with parameters, so nothing would "
            "be perturbed. Perturb all of it: WASAM(model.parameters(), ...)."
        )
    groups: list[Group] = [{"params": norm, "rho": rho}]
    if rest:
        groups.append({"params": rest, "rho": 0.0})
    return groups


def as_groups(params: Params) -> list[Group]:
    """Return parameter groups: those given, or one group of the parameters given.

    Raises:
        TypeError: for a single tensor or a model.
        ValueError: if there is no parameter.
    """
    if isinstance(params, Tensor | nn.Module):
        raise TypeError(
            f"params is a {type(params).__name__}: give an iterable of parameters or of groups, "
            "such as model.parameters()."
        )
    items: list[Any] = list(params)
    if not items:
        raise ValueError("There is no parameter to optimize: params is empty.")
    if isinstance(items[0], dict):
        return [{**g, "params": [g["params"]] if isinstance(g["params"], Tensor) else list(g["params"])} for g in items]
    return [{"params": items}]


def tensors_of(group: Group) -> list[Tensor]:
    """Return the tensors of a group whose parameters may be (name, tensor) pairs."""
    return [p[1] if isinstance(p, tuple) else p for p in group["params"]]


def merge_into(base: Optimizer, groups: Sequence[Group], base_kwargs: dict[str, Any]) -> None:
    """Write the options of `groups` into the groups of a built optimizer over the same parameters.

    Raises:
        ValueError: if the optimizer holds other parameters, or if `base_kwargs` contradict it.
    """
    given = [id(p) for group in groups for p in tensors_of(group)]
    held = [id(p) for group in base.param_groups for p in group["params"]]
    if set(given) != set(held):
        raise ValueError(
            f"base_optimizer is a {type(base).__name__} over {len(held)} parameters, and params "
            f"are {len(given)}, of which {len(set(given) & set(held))} are the same. Build it over "
            "the same parameters, or give its class: WASAM(model.parameters(), torch.optim.SGD, "
            "lr=0.1)."
        )
    for key, value in base_kwargs.items():
        found = [group.get(key) for group in base.param_groups]
        if any(present != value for present in found):
            raise ValueError(
                f"{key}={value!r} was given beside a built {type(base).__name__} whose groups have "
                f"{key}={found}. Set it where that optimizer is built, or give its class."
            )
    options = [{k: v for k, v in group.items() if k != "params"} for group in groups]
    if not any(options):
        return
    same_split = len(groups) == len(base.param_groups) and all(
        {id(p) for p in tensors_of(g)} == {id(p) for p in b["params"]}
        for g, b in zip(groups, base.param_groups, strict=True)
    )
    if not same_split:
        raise ValueError(
            f"params are split into {len(groups)} groups with options of their own, "
            f"{type(base).__name__} into {len(base.param_groups)}: split both in the same way, or "
            "give its class."
        )
    for group, option in zip(base.param_groups, options, strict=True):
        group.update(option)


def build_base(base_optimizer: BaseOptimizer, groups: list[Group], kwargs: Group) -> Optimizer:
    """Return the base optimizer: as given, or made from a class or another callable.

    Raises:
        TypeError: if it is neither, or if the callable returns no optimizer.
        ValueError: if it is LBFGS, whose line search has no single gradient to sharpen.
    """
    if isinstance(base_optimizer, Optimizer):
        base = base_optimizer
    elif callable(base_optimizer):
        base = base_optimizer(groups, **kwargs)
    else:
        base = base_optimizer
    if not isinstance(base, Optimizer):
        raise TypeError(
            f"base_optimizer gave {base!r}: give a built torch optimizer, or a class such as "
            "torch.optim.SGD with its options, as in WASAM(params, torch.optim.SGD, lr=0.1)."
        )
    if isinstance(base, torch.optim.LBFGS):
        raise ValueError(
            "LBFGS evaluates the loss many times a step and has no single gradient to take at the "
            "perturbed weights: choose a first-order optimizer."
        )
    return base
