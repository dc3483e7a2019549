"""The ascent half of sharpness-aware minimization: move the weights uphill, and put them back.

Everything here works in place on the parameters' own storage: weights are copied away, moved and
copied back, so they return as the same bits at the same address. Subtracting the perturbation
instead would change the last bits of nearly half of them over a thousand steps.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from operator import is_
from typing import NamedTuple, cast

import torch
from torch import Tensor

from wasam_core.norms import global_norm
from wasam_core.rules import find_rule

# Keeps the division by the norm of a zero gradient finite; far below any norm that matters.
NORM_FLOOR = 1e-12

LOW_PRECISION = {torch.float16, torch.bfloat16}


class Ascent(NamedTuple):
    """Report one ascent step: the norm it divided by, and whether that norm was finite."""

    norm: float
    finite: bool


class Target(NamedTuple):
    """Name the parameters that move together, and how far (`rho`)."""

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

    Call both methods under `torch.no_grad()`. The copy of the weights is kept between steps, because it is needed
    again at once: one extra tensor per perturbed parameter, allocated at the first step.

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
        self.active = False
        self._params: list[Tensor] = []
        self._copies: list[Tensor] = []
        self._dtypes: list[torch.dtype] = []
        self._coarse = False

    def apply(self, targets: Iterable[Target]) -> Ascent:
        """Move every parameter of `targets` that has a gradient by rho * T² g / ||T g||.

        Args:
            targets: parameters and their rho. Those with rho = 0 or without a gradient are neither
                moved nor part of the norm.

        Returns:
            The norm ||T g||, and whether it is finite. If it is not, nothing has moved.

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
        if not math.isfinite(norm):
            return Ascent(norm, finite=False)
        self._keep([p for piece in pieces for p in piece.params])
        self.active = True
        try:
            for params, scale, ascent, rho in pieces:
                if scale is not None:
                    torch._foreach_mul_(ascent, scale)
                factor = rho / (norm + NORM_FLOOR)
                if self._coarse:
                    # A 16-bit factor would be rounded, or too large to exist.
                    torch._foreach_add_(params, torch._foreach_mul(_wide(ascent), factor))
                else:
                    torch._foreach_add_(params, ascent, alpha=factor)
        except BaseException:
            self.undo()
            raise
        return Ascent(norm, finite=True)

    def undo(self) -> None:
        """Put the weights back; nothing happens if they have not been moved."""
        if self.active:
            torch._foreach_copy_(self._params, self._copies)
            self.active = False

    def _keep(self, params: list[Tensor]) -> None:
        dtypes = [p.dtype for p in params]
        if dtypes != self._dtypes or not all(map(is_, params, self._params)):
            self._params = params
            self._dtypes = dtypes
            self._coarse = not LOW_PRECISION.isdisjoint(dtypes)
            self._copies = [torch.empty_like(p) for p in params]
        torch._foreach_copy_(self._copies, params)

    def _pieces(self, target: Target) -> Iterator[_Piece]:
        params = [p for p in target.params if p.grad is not None]
        if self.rule.rescales is not None:
            rescaled = self._rescaled(target)
            chosen = [p for p in params if p in rescaled]
            params = [p for p in params if p not in rescaled]
            if chosen:
                scale = list(torch._foreach_abs(_wide(chosen)))
                if self.eta:
                    torch._foreach_add_(scale, self.eta)
                yield _Piece(chosen, scale, list(torch._foreach_mul(scale, _grads(chosen))), target.rho)
        if params:
            yield _Piece(params, None, _grads(params), target.rho)

    def _rescaled(self, target: Target) -> set[Tensor]:
        assert self.rule.rescales is not None
        if self.variant == "asam-common":
            return set(target.params)
        if target.names is None:
            raise ValueError(
                f'variant = "{self.variant}" rescales the parameters whose name holds "weight", but the parameters '
                "came without names: give model.named_parameters() instead of model.parameters(), or model=model, or "
                'choose "asam-common".'
            )
        return {p for p, name in zip(target.params, target.names, strict=True) if self.rule.rescales(name)}


def _wide(tensors: list[Tensor]) -> list[Tensor]:
    return [t.float() if t.dtype in LOW_PRECISION else t for t in tensors]


def _grads(params: list[Tensor]) -> list[Tensor]:
    return cast("list[Tensor]", [p.grad for p in params])
