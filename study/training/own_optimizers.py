"""Optimizers that are not built in: imported by name, built over a model's parameters, and stepped with."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from study.data.pool import TaskError
from study.records import Family, Job
from study.specs.methods import family_of
from study.tasks.groups import Groups
from study.tasks.nests import leaves
from study.tasks.own import imported, signature_of
from wasam_core import Cost
from wasam_core.bare_torch import Eager
from wasam_core.norms import FiniteCheck, global_norm
from wasam_core.rng import capture_rng, restore_rng

_INNER = ("base_optimizer", "optimizer")  # what a two-pass optimizer, or one that wraps another, calls that


class SGD(Eager, torch.optim.SGD):
    """torch's own, in a worker that is ready two seconds earlier."""


class AdamW(Eager, torch.optim.AdamW):
    """torch's own, in a worker that is ready two seconds earlier."""


def weight_decay_of(job: Job) -> float:
    """Return the weight decay of a run: the proposed one where it is searched, else the cell's."""
    return float((job.factors | job.searched_factors)["weight_decay"])


def built_in(base: str, job: Job) -> Callable[..., Optimizer]:
    """Return what makes a built-in base optimizer of parameters, with what a job says."""
    usual: dict[str, Any] = {"lr": job.learning_rate, "weight_decay": weight_decay_of(job)}
    return (
        partial(AdamW, **usual) if base == "adamw" else partial(SGD, momentum=float(job.factors["momentum"]), **usual)
    )


def own_optimizer(job: Job, groups: Groups, model: nn.Module) -> Optimizer:
    """Build the optimizer of a family that brings its own.

    It is called with its fixed and its searched options, and with whatever else of these it has an argument for:
    ``params``, ``lr``, ``weight_decay`` (the cell's, or the searched one), ``rho`` (where it has a range), ``model``,
    ``base_optimizer`` (or ``optimizer``) and ``num_data`` (the training examples).

    Raises:
        TaskError: it is not there, it does not take an option, or it needs what nothing gives.
    """
    what = family_of(job)
    given = f"optimizer = {what.base!r}"
    make = imported(what.base, given)
    takes = _parameters(make)
    open_ended = _is_open_ended(takes)
    options = dict(what.options) | dict(job.options)
    _check_options(given, options, takes)
    if job.weight_decay is not None and not what.around and ("weight_decay" not in takes or "weight_decay" in options):
        raise TaskError(
            f"{given} {'fixes' if 'weight_decay' in options else 'has no argument'} weight_decay, which is searched; "
            "leave the range out, or the option, or name a function of yours that takes it"
        )
    inner = next((name for name in _INNER if name in takes), None)
    groups = [group | {"params": [p[1] if isinstance(p, tuple) else p for p in group["params"]]} for group in groups]
    known: dict[str, Any] = {
        "params": groups,
        "lr": job.learning_rate,
        "weight_decay": weight_decay_of(job),
        "model": model,
        "num_data": int(job.factors["train_size"]),
    }
    needed = {}
    if job.rho > 0 and not what.rule:
        known["rho"], needed["rho"] = job.rho, "a range of rho"
    if what.around:
        if inner is None:
            raise TaskError(f"{given} was given a base, and has no argument {_INNER[0]!r} for it: leave base out")
        made_of = _around(what, job)
        annotated = takes[inner].annotation
        built = "params" not in takes or (inspect.isclass(annotated) and issubclass(annotated, Optimizer))
        known[inner] = made_of(groups) if built else _as_class(made_of)
    elif inner is not None and inner not in options:
        raise TaskError(
            f'{given} takes its steps with another optimizer; name it: base = "SGD", "AdamW" or "package:Class"'
        )
    else:
        needed["lr"] = "the learning rate, which is searched for every method"
    for name, why in needed.items():
        if name not in takes and not open_ended:
            raise TaskError(
                f"{given} has no argument {name!r} for {why}; name a function of yours that takes it and builds the "
                "optimizer"
            )
    passed = {name: value for name, value in known.items() if name in takes} | options
    if open_ended and "lr" not in takes and not what.around:
        passed["lr"] = job.learning_rate
    first = next(iter(takes), "params")
    if "params" not in takes and first != inner:
        passed[first] = groups
    missing = [
        name for name, p in takes.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in passed
    ]  # fmt: skip
    if missing:
        raise TaskError(
            f"{given} needs {', '.join(missing)}, which neither the options nor the study give: give it in the "
            "options, or name a function of yours that builds the optimizer"
        )
    made: Optimizer = make(**passed)
    if not (hasattr(made, "param_groups") and callable(getattr(made, "step", None))):
        raise TaskError(
            f"{given} returned {type(made).__name__}; it must return an optimizer, with param_groups and step"
        )
    return made


def _parameters(make: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    if signature := signature_of(make):
        return signature.parameters
    return {"params": inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)}


def _is_open_ended(takes: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in takes.values())


def _check_options(given: str, options: Iterable[str], takes: Mapping[str, inspect.Parameter]) -> None:
    unknown = [name for name in options if name not in takes]
    if unknown and not _is_open_ended(takes):
        raise TaskError(
            f"{given} was given the option {unknown[0]!r}, which it does not take; it takes "
            f"{', '.join(name for name in takes if name != 'params')}"
        )


def _as_class(made_of: Any) -> Any:
    """Return a class whose instances have a partial's arguments: some optimizers ask what they are given."""
    if not isinstance(made_of, partial) or not inspect.isclass(made_of.func):
        return made_of
    inner: Any = made_of.func

    def __init__(self: Any, params: Any, **more: Any) -> None:
        inner.__init__(self, params, **made_of.keywords | more)

    return type(inner.__name__, (inner,), {"__init__": __init__})


def _around(what: Family, job: Job) -> Callable[..., Any]:
    """Return what makes the optimizer that steps are taken with, of groups."""
    if ":" not in what.around:
        if what.around_options:
            raise TaskError(
                f"base_options were given for the built-in base of {what.base!r}, whose momentum and weight decay are "
                'factors; leave them out, or name the base as package:Class, such as "torch.optim:SGD"'
            )
        return built_in(what.around, job)
    given, options = f"base = {what.around!r}", dict(what.around_options)
    make = imported(what.around, given)
    takes = _parameters(make)
    _check_options(given, options, takes)
    usual = {"lr": job.learning_rate, "weight_decay": weight_decay_of(job)}
    return partial(make, **({name: value for name, value in usual.items() if name in takes} | options))


class OwnSteps:
    """Steps of an optimizer that is not built in, as the training loop takes them of `wasam_core.WASAM`.

    Args:
        optimizer: The optimizer.
        job: Whose family it is of: what it needs is known.
        model: The network that the closure calls.
        clip_norm: The largest norm of a gradient, > 0; None clips none.

    Attributes:
        updated: Whether the last step moved the weights; one on a gradient that is not finite is skipped.
    """

    m = None
    updated = True

    def __init__(self, optimizer: Optimizer, job: Job, model: nn.Module, clip_norm: float | None) -> None:
        self.base_optimizer = optimizer
        self.cost = Cost()
        self._needs = family_of(job).needs
        self._passes = PassCounter(model) if self._needs and self._needs.closure else None
        self._clip_norm = clip_norm
        self._all_finite = FiniteCheck()

    @property
    def param_groups(self) -> Groups:
        """The optimizer's own."""
        return self.base_optimizer.param_groups

    def step(
        self, closure: Callable[..., Tensor], *, batch: Sequence[Tensor] = (), examples: int | None = None
    ) -> Tensor:
        """Take a step and return the loss at the weights that it began with.

        Args:
            closure: Computes the loss, calls backward and returns the loss; called with ``batch``.
            batch: Tensors of the batch.
            examples: How many the batch holds, for `cost`.
        """
        count = examples or len(batch[0])
        if self._passes is None:
            return self._plain_step(closure, batch, count)
        losses: list[Tensor] = []
        parts = 1

        def anew() -> Tensor:
            nonlocal parts
            before = passes.backwards
            with torch.enable_grad():
                self._clear()
                loss = closure(*batch)
            parts = max(1, passes.backwards - before)  # of the batch, where gradients are accumulated
            losses.append(loss.detach())
            return loss

        with self._passes as passes:
            if self._needs and self._needs.gradients_first:
                anew()
            self.base_optimizer.step(anew)  # type: ignore[arg-type]  # torch's own pass a tensor, too
        self._clear()
        self.cost.bill_step(self.updated)
        self.cost.gradient_passes += passes.backwards // parts
        self.cost.bill_gradients(count * passes.backwards // parts)
        self.cost.bill_forwards(count * max(0, passes.forwards - passes.backwards) // parts)
        return losses[0]

    def _plain_step(self, closure: Callable[..., Tensor], batch: Sequence[Tensor], count: int) -> Tensor:
        self._clear()
        loss = closure(*batch)
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.cost.gradient_passes += 1
        self.cost.bill_gradients(count)
        self.updated = self._all_finite(gradients)
        if self.updated:
            if self._clip_norm is not None and (norm := float(global_norm(gradients))) > self._clip_norm:
                torch._foreach_mul_(gradients, self._clip_norm / norm)
            self.base_optimizer.step()
        self.cost.bill_step(self.updated)
        self._clear()
        return loss.detach()

    def _clear(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to go on: the optimizer's own state, the counts, and the random numbers."""
        return {
            "optimizer": self.base_optimizer.state_dict(),
            "cost": self.cost.state_dict(),
            "rng": capture_rng({p.device for group in self.param_groups for p in group["params"] if not p.is_cpu}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.base_optimizer.load_state_dict(state["optimizer"])
        self.cost.load_state_dict(state["cost"])
        restore_rng(state["rng"])


class PassCounter:
    """Counts the passes of a model inside its block, whoever makes them: by hooks on forward and on backward.

    Attributes:
        forwards: Forward passes with gradients.
        backwards: Backward passes.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.forwards = self.backwards = 0

    def __enter__(self) -> "PassCounter":
        self.forwards = self.backwards = 0
        self._handle = self._model.register_forward_hook(self._forward)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _forward(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        tensor = next((one for one in leaves(outputs) if one.requires_grad), None)  # leads back to the weights
        if tensor is not None:
            self.forwards += 1
            tensor.register_hook(self._backward)

    def _backward(self, gradient: Tensor) -> None:
        self.backwards += 1
