"""Parameter groups: check what a user gave, and build the ones that are asked for often."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

from wasam_core.lookup import is_split
from wasam_core.options import check_rho

Group: TypeAlias = dict[str, Any]
Params: TypeAlias = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Group]
BaseOptimizer: TypeAlias = Optimizer | Callable[..., Optimizer]


def names_of(params: Iterable[Tensor], model: nn.Module) -> list[str]:
    """Return the names that parameters have in the model now."""
    known: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    items = list(params)
    for p in items:
        if p not in known:
            raise ValueError(
                f"A parameter of shape {tuple(p.shape)} is none of the {len(known)} that {type(model).__name__} has "
                "now, and its name says how it is perturbed: give (name, parameter) pairs, such as "
                "model.named_parameters(), and build the optimizer after parameters have been replaced."
            )
    return [known[p] for p in items]


def refuse_replaced(model: nn.Module | None, params: Sequence[Tensor]) -> None:
    """Refuse parameters that the model no longer has, if gradients have gone to others in their place."""
    idle = {p for p in params if p.requires_grad and p.grad is None}
    if model is None or not idle:
        return
    gone = idle.difference(model.parameters())
    fresh = [name for name, p in model.named_parameters() if p.grad is not None and p not in {*params}]
    if gone and fresh:
        raise RuntimeError(
            f"{len(gone)} of the optimizer's {len(params)} parameters have no gradient and are no longer in "
            f"{type(model).__name__}, which has gradients in parameters that the optimizer does not know "
            f"({', '.join(fresh[:3])}{' …' if len(fresh) > 3 else ''}): they were replaced "
            "(load_state_dict(assign=True), a new layer, to_empty, a conversion). Build the optimizer after that, or "
            "give it the new ones by add_param_group."
        )


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
    inside = {p for layer in layers for p in layer.parameters(recurse=False)}
    named = list(model.named_parameters())
    norm = [(name, p) for name, p in named if p in inside]
    rest = [(name, p) for name, p in named if p not in inside]
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
        return [{**g, "params": _listed(g["params"])} for g in items]
    return [{"params": items}]


def _listed(params: Any) -> Any:
    if isinstance(params, set):
        return params  # which torch refuses, because its order is another one in the next run
    return [params] if isinstance(params, Tensor) else list(params)


def tensors_of(group: Group) -> list[Tensor]:
    """Return the tensors of a group whose parameters may be (name, tensor) pairs."""
    return [p[1] if isinstance(p, tuple) else p for p in group["params"]]


def merge_into(base: Optimizer, groups: Sequence[Group], base_kwargs: dict[str, Any]) -> None:
    """Write the options of `groups` into the groups of a built optimizer over the same parameters.

    Raises:
        ValueError: if the optimizer holds other parameters, or if `base_kwargs` contradict it.
    """
    given = [p for group in groups for p in tensors_of(group)]
    held = [p for group in base.param_groups for p in group["params"]]
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
    same_split = len(groups) == len(base.param_groups) and all(
        {*tensors_of(g)} == {*b["params"]} for g, b in zip(groups, base.param_groups, strict=True)
    )
    if any(options) and not same_split:
        raise ValueError(
            f"params are split into {len(groups)} groups with options of their own, "
            f"{type(base).__name__} into {len(base.param_groups)}: split both in the same way, or "
            "give its class."
        )
    names = {p[1]: p[0] for group in groups for p in group["params"] if isinstance(p, tuple)}
    if names and len(names) < len({*given}):
        raise ValueError(f"{len(names)} of {len({*given})} parameters came with a name: give all of them one, or none.")
    for group in base.param_groups if names else ():
        group["param_names"] = [names[p] for p in group["params"]]
    for group, option in zip(base.param_groups, options, strict=False):
        group.update(option)


def build_base(base_optimizer: BaseOptimizer, groups: list[Group], kwargs: Group) -> Optimizer:
    """Return the base optimizer: as given, or made from a class or another callable.

    Raises:
        TypeError: if it is neither, or if the callable returns no optimizer.
        ValueError: if its step needs a closure, as that of LBFGS, whose line search has no single gradient to sharpen;
            if its step is sharpness-aware already; if it has an option rho of its own; or if it leaves groups behind.
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
    closure = inspect.signature(type(base).step).parameters.get("closure")
    if closure is not None and (closure.default is inspect.Parameter.empty or hasattr(base, "first_step")):
        raise ValueError(
            f"{type(base).__name__} evaluates the loss more than once a step and has no single gradient to take at the "
            "perturbed weights: choose a first-order optimizer, such as torch.optim.SGD."
        )
    if "rho" in base.defaults:
        raise ValueError(
            f"{type(base).__name__} has an option rho of its own, and its groups would hold one number for that and "
            "for the radius of the perturbation: choose another optimizer, such as torch.optim.RMSprop for Adadelta."
        )
    if any("rho" not in group for group in base.param_groups):
        raise ValueError(
            f"The {type(base).__name__} that base_optimizer returned has groups without rho: let the callable pass the "
            "groups on as it gets them, lambda groups, lr: torch.optim.SGD(groups, lr=lr)."
        )
    return base


def check_group(group: Group) -> Group:
    """Return the group, or say what is not supported: options that a sharpness-aware step can't honour, split tensors.

    Raises:
        ValueError: for a rho out of range, differentiable=True, or parameters that are split over processes.
    """
    check_rho(group.get("rho", 0.0))
    if group.get("differentiable"):
        raise ValueError(
            "differentiable=True was given, and a sharpness-aware step can't be differentiated: the weights are moved "
            "and put back outside of autograd. Leave it out, or use the base optimizer alone."
        )
    for p in tensors_of(group):
        if is_split(p):
            raise ValueError(
                f"A parameter of shape {tuple(p.shape)} is split over processes (FSDP, tensor parallelism: "
                f"{type(p).__name__}), and the norm of its gradient would be that of a part: use "
                "DistributedDataParallel, which keeps whole parameters in each process."
            )
    return group
