"""The ascent half of sharpness-aware minimization: move the weights uphill, and put them back.

The weights return as the same bits at the same address, because they are kept; see `StandIn`. Subtracting the
perturbation instead would change the last bits of nearly half of them over a thousand steps. How far each goes is
the matter of a rule, by name: plain, and adaptive in the two ways that are in use.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from wasam_core.norms import global_norm, is_finite
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

    @property
    def needs_names(self) -> bool:
        """Whether it tells parameters from each other by their names."""
        return bool(self.rescales)


RULES: dict[str, Rule] = {
    "sam": Rule(None, 0.0, "Foret 2021, eq. 2"),
    "asam": Rule("weight", 0.01, "Kwon 2021, eq. 10; the authors' code"),
    "asam-common": Rule("", 0.0, "Kwon 2021 without eta and on every parameter"),
}


def find_rule(variant: str) -> Rule:
    """Return the rule called `variant`, or say which ones exist."""
    if variant not in RULES:
        raise ValueError(f"variant = {variant!r}: choose one of {', '.join(map(repr, RULES))}.")
    return RULES[variant]


class Ascent(NamedTuple):
    """Report one ascent step: the norm it divided by, and whether that was finite; tensors on an accelerator."""

    norm: float | Tensor
    finite: Verdict


class Target(NamedTuple):
    """Name the parameters that move together, and how far: rho, uphill; below 0, downhill."""

    params: Sequence[Tensor]
    names: Sequence[str] | None
    rho: float


class _Piece(NamedTuple):
    """Parameters that follow the same formula: T (None where it is 1), T*g, and rho."""

    params: list[Tensor]
    scale: list[Tensor] | None
    ascent: list[Tensor]
    rho: float


def check_rho(rho: float) -> float:
    """Return `rho`, or say what it must be."""
    if not 0.0 <= rho < math.inf:
        raise ValueError(
            f"rho = {rho!r}: the radius of the perturbation must be a finite number >= 0; 0 turns the perturbation off."
        )
    return rho


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
        self.rule = find_rule(variant)
        self.eta = self.rule.eta if eta is None else float(eta)
        if not 0.0 <= self.eta < math.inf:
            raise ValueError(f"eta = {eta!r}: the offset of |w| must be a finite number >= 0.")
        self.variant = variant
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
        pieces = [piece for target in targets if target.rho for piece in self._pieces(target)]
        if not pieces:
            return Ascent(0.0, finite=True)
        norm = global_norm([t for piece in pieces for t in piece.ascent])
        finite = is_finite(norm)
        if finite is False:
            return Ascent(norm, finite)
        self._stand_in.begin([p for piece in pieces for p in piece.params])
        try:
            for params, scale, ascent, rho in pieces:
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

    def _pieces(self, target: Target) -> Iterator[_Piece]:
        params = [p for p in target.params if p.grad is not None]
        if self.rule.rescales is not None:
            rescaled = self._rescaled(target)
            chosen = [p for p in params if p in rescaled]
            params = [p for p in params if p not in rescaled]
            if chosen:
                scale = list(torch._foreach_abs(widened(chosen)))
                if self.eta:
                    torch._foreach_add_(scale, self.eta)
                yield _Piece(chosen, scale, list(torch._foreach_mul(scale, _grads(chosen))), target.rho)
        if params:
            yield _Piece(params, None, _grads(params), target.rho)

    def _rescaled(self, target: Target) -> set[Tensor]:
        if not self.rule.needs_names:
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
    return cast("list[Tensor]", [p.grad for p in params])
