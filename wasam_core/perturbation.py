"""The ascent half of sharpness-aware minimization: move the weights uphill, and put them back.

The weights return as the same bits at the same address, because they are kept; see `StandIn`. Subtracting the
perturbation instead would change the last bits of nearly half of them over a thousand steps. How far each goes is
the matter of a rule, by name: plain, and adaptive in the two ways that are in use.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from wasam_core.buffers import frozen_batchnorm_statistics
from wasam_core.groups import Group, check_group, names_of, tensors_of
from wasam_core.norms import global_norm, is_finite
from wasam_core.rng import RngState, capture_rng, restore_rng
from wasam_core.stand_in import StandIn, widened
from wasam_core.verdicts import Verdict

# Keeps the division by the norm of a zero gradient finite; far below any norm that matters.
NORM_FLOOR = 1e-12

Variant = Literal["sam", "asam", "asam-common"]


@dataclass(frozen=True)
class Rule:
    """Say which parameters are rescaled by their own size before the ascent step.

    With T = |w| + eta for rescaled parameters and T = 1 for the others, the perturbation is
    rho * T² g / ||T g||, and the norm runs over all perturbed parameters together.

    Attributes:
        rescales: part of the names of the rescaled parameters; "" is part of every name; None: no parameter.
        eta: the offset of |w|.
        source: where it is from.
    """

    rescales: str | None
    eta: float
    source: str


RULES: dict[str, Rule] = {
    "sam": Rule(None, 0.0, "Foret 2021, eq. 2"),
    "asam": Rule("weight", 0.01, "Kwon 2021, eq. 10; the authors' code"),
    "asam-common": Rule("", 0.0, "Kwon 2021 without eta and on every parameter"),
}


class Ascent(NamedTuple):
    """Report one ascent step: the norm it divided by, and whether that was finite; tensors on an accelerator."""

    norm: float | Tensor
    finite: Verdict


class Target(NamedTuple):
    """Name the parameters that move together, and how far: rho, uphill; below 0, downhill."""

    params: Sequence[Tensor]
    names: Sequence[str] | None
    rho: float


class _Direction(NamedTuple):
    """Where parameters go that follow the same formula: T (None where it is 1), T*g, and rho."""

    params: list[Tensor]
    scale: list[Tensor] | None
    ascent: list[Tensor]
    rho: float


class Perturbation:
    """Move parameters along their gradients and put them back, bit for bit.

    Call both methods under `torch.no_grad()`. Memory is one extra tensor per perturbed parameter, allocated at the
    first step and kept, because the next step needs it at once.

    Args:
        variant: "sam", "asam" (the authors' rule: T = |w| + eta on parameters whose name holds
            "weight") or "asam-common" (T = |w| on every parameter).
        eta: the offset of "asam", > 0; None takes the rule's own (0.01).

    Example:
        >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> w.grad = torch.tensor([0.6, 0.8])
        >>> perturbation = Perturbation("sam")
        >>> with torch.no_grad():
        ...     _ = perturbation.apply([Target([w], None, rho=0.5)])
        ...     moved = w.clone()
        ...     perturbation.undo()
        >>> moved, w.detach()
        (tensor([3.3000, 4.4000]), tensor([3., 4.]))
    """

    def __init__(self, variant: str = "sam", eta: float | None = None) -> None:
        if variant not in RULES:
            raise ValueError(f"variant = {variant!r}: choose one of {', '.join(map(repr, RULES))}.")
        self.rule = RULES[variant]
        self.eta = self.rule.eta if eta is None else float(eta)
        if not 0.0 <= self.eta < math.inf:
            raise ValueError(f"eta = {eta!r}: the offset of |w| must be a finite number >= 0.")
        if self.eta and self.rule.rescales is None:
            raise ValueError(f'eta = {eta!r} does nothing in variant "{variant}": leave it out, or choose "asam".')
        self.variant = variant
        self.needs_names = bool(self.rule.rescales)  # which tell parameters from each other
        self._stand_in = StandIn()

    @property
    def active(self) -> bool:
        """Whether the weights are moved."""
        return self._stand_in.active

    def apply(self, targets: Iterable[Target]) -> Ascent:
        """Move every parameter of `targets` that has a gradient by rho * T² g / ||T g||.

        Args:
            targets: parameters and their rho. Those with rho = 0 or without a gradient are neither
                moved nor part of the norm.

        Returns:
            The norm ||T g||, and whether it is finite. If it is not, nothing has moved; on an accelerator, where the
            host does not look, every parameter then has moved by zero.

        Raises:
            RuntimeError: if the parameters are moved already.
            ValueError: for "asam" without parameter names.
        """
        if self.active:
            raise RuntimeError("The weights are perturbed already: call undo() first.")
        directions = [direction for target in targets if target.rho for direction in self._directions(target)]
        if not directions:
            return Ascent(0.0, finite=True)
        norm = global_norm([t for direction in directions for t in direction.ascent])
        finite = is_finite(norm)
        if finite is False:
            return Ascent(norm, finite)
        self._stand_in.begin([p for direction in directions for p in direction.params])
        try:
            for params, scale, ascent, rho in directions:
                if scale is not None:
                    torch._foreach_mul_(ascent, scale)
                self._stand_in.add(params, ascent, rho / (norm + NORM_FLOOR), finite)
        except BaseException:
            self.undo()
            raise
        return Ascent(norm, finite)

    def undo(self) -> None:
        """Put the weights back; nothing happens if they have not been moved."""
        self._stand_in.end()

    def _directions(self, target: Target) -> list[_Direction]:
        params = [p for p in target.params if p.grad is not None]
        if self.rule.rescales is None:
            return [_Direction(params, None, _grads(params), target.rho)] if params else []
        rescaled = self._rescaled(target)
        chosen, others = [p for p in params if p in rescaled], [p for p in params if p not in rescaled]
        directions = []
        if chosen:
            scale = list(torch._foreach_abs(widened(chosen)))
            if self.eta:
                torch._foreach_add_(scale, self.eta)
            directions.append(_Direction(chosen, scale, list(torch._foreach_mul(scale, _grads(chosen))), target.rho))
        if others:
            directions.append(_Direction(others, None, _grads(others), target.rho))
        return directions

    def _rescaled(self, target: Target) -> set[Tensor]:
        if not self.needs_names:
            return set(target.params)
        assert self.rule.rescales is not None
        if target.names is None:
            raise ValueError(
                f'variant = "{self.variant}" rescales the parameters whose name holds "weight", but the parameters '
                "came without names: give model.named_parameters() instead of model.parameters(), or model=model, or "
                'choose "asam-common".'
            )
        return {p for p, name in zip(target.params, target.names, strict=True) if self.rule.rescales in name}


def _grads(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


@contextmanager
def perturbed(
    params: nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]],
    rho: float = 0.05,
    *,
    variant: Variant = "sam",
    eta: float | None = None,
    model: nn.Module | None = None,
    rng: RngState | None = None,
    zero_grad: bool = True,
    maximize: bool = False,
) -> Iterator[Ascent]:
    """Run the block at the worst-case weights of the gradients that are present.

    The weights move to w + rho * T² g / ||T g|| (T = 1 for "sam"), the block computes the gradient
    there, and the weights return bit for bit, also if the block raises. Then any optimizer steps.
    A step inside the block, which would be lost at its end, is refused.

    Args:
        params: a model, or parameters, or (name, parameter) pairs, with gradients from the clean
            pass. Parameters without one stay where they are.
        rho: radius, ≥ 0, in the units of the weights ("sam") or as a share of them ("asam").
        variant: "sam", "asam" or "asam-common"; see `Perturbation`.
        eta: the offset of "asam"; None takes 0.01.
        model: the model, if `params` is not one: its buffers (BatchNorm statistics) keep the
            values of the clean pass, and its names count where `params` came without.
        rng: what `capture_rng()` returned before the clean pass: the block sees the same random numbers, so that
            dropout masks agree, and afterwards the generator goes on as after the clean pass.
        zero_grad: set the clean gradients to None on entry, so that the block's backward does not add to them.
        maximize: the optimizer goes uphill (its option of that name), so that the worse points lie downhill.

    Yields:
        The `Ascent`: norm, and whether it was finite. If it was not, the weights have not moved.

    Raises:
        RuntimeError: if an optimizer of these parameters steps inside the block.
        ValueError: for a negative rho, an unknown variant, "asam" without names, or parameters that are split over
            processes (FSDP).

    Source: Foret et al. 2021 (arXiv 2010.01412), eq. 2 and Algorithm 1; Kwon et al. 2021 (arXiv 2102.11600), eq. 10.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> x = torch.ones(4, 2)
        >>> model(x).square().mean().backward()
        >>> with perturbed(model, rho=0.05):
        ...     model(x).square().mean().backward()
        >>> optimizer.step()
    """
    if isinstance(params, nn.Module):
        model = params if model is None else model
        params = params.named_parameters()
    group: Group = {"params": list(params), "rho": rho}
    tensors = tensors_of(check_group(group))
    names = [item[0] for item in group["params"] if isinstance(item, tuple)] or None
    perturbation = Perturbation(variant, eta)
    if perturbation.needs_names and names is None and model is not None:
        names = names_of(tensors, model)
    after = capture_rng({p.device for p in tensors})
    hook = register_optimizer_step_pre_hook(partial(_refuse_step, {*tensors}))
    try:
        with torch.no_grad():
            ascent = perturbation.apply([Target(tensors, names, -rho if maximize else rho)])
        with frozen_batchnorm_statistics(model):
            if zero_grad:
                for p in tensors:
                    p.grad = None
            if rng is not None:
                restore_rng(rng)
            yield ascent
    finally:
        hook.remove()
        with torch.no_grad():
            perturbation.undo()
        if rng is not None:
            restore_rng(after)


def _refuse_step(moved: set[Tensor], optimizer: Optimizer, *_: object) -> None:
    if any(p in moved for group in optimizer.param_groups for p in group["params"]):
        raise RuntimeError(
            f"{type(optimizer).__name__} steps inside perturbed(): the weights return at the end of the block, and the "
            "step would be lost. Let it step after the block."
        )
