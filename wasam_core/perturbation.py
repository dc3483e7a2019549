"""The ascent half of sharpness-aware minimization: move the weights uphill, and put them back.

Everything here works in place on the parameters' own storage: weights are copied away, moved and
copied back, so they return as the same bits at the same address. Subtracting the perturbation
instead would change the last bits of nearly half of them over a thousand steps.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from wasam_core.batchnorm import BufferGuard
from wasam_core.rng import RngState, capture_rng, restore_rng

Variant = Literal["sam", "asam", "asam-common"]

# Keeps the division by the norm of a zero gradient finite; far below any norm that matters.
NORM_FLOOR = 1e-12

LOW_PRECISION = {torch.float16, torch.bfloat16}


@dataclass(frozen=True)
class Rule:
    """Say which parameters are rescaled by their own size before the ascent step.

    With T = |w| + eta for rescaled parameters and T = 1 for the others, the perturbation is
    rho * T² g / ||T g||, and the norm runs over all perturbed parameters together.
    """

    rescales: Callable[[str], bool] | None
    eta: float
    source: str


RULES: dict[str, Rule] = {
    "sam": Rule(None, 0.0, "Foret 2021, eq. 2"),
    "asam": Rule(lambda name: "weight" in name, 0.01, "Kwon 2021, eq. 10; the authors' code"),
    "asam-common": Rule(lambda name: True, 0.0, "Kwon 2021 without eta and on every parameter"),
}


class grad_off:
    """Do what `torch.no_grad` does in a quarter of its time, which small models notice."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch._C._set_grad_enabled(self._before)


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


def find_rule(variant: str) -> Rule:
    """Return the rule called `variant`, or say which ones exist."""
    if variant not in RULES:
        raise ValueError(f"variant = {variant!r}: choose one of {', '.join(map(repr, RULES))}.")
    return RULES[variant]


def check_rho(rho: float) -> float:
    """Return `rho`, or say what it must be."""
    if not 0.0 <= rho < math.inf:
        raise ValueError(
            f"rho = {rho!r}: the radius of the perturbation must be a finite number >= 0; 0 turns the perturbation off."
        )
    return rho


def global_norm(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all `tensors` together; inf or nan only if an entry is.

    Low-precision entries are summed in float32. One synchronization with an accelerator.

    Example:
        >>> global_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        5.0
    """
    if not tensors:
        return 0.0
    dense = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    coarse = not LOW_PRECISION.isdisjoint([t.dtype for t in dense])
    norm = math.hypot(*_norms(dense, torch.float32 if coarse else None))
    if math.isfinite(norm):
        return norm
    # Squares of large finite numbers overflow in float32: decide on numbers that cannot.
    return math.hypot(*_norms(dense, torch.float64))


def _norms(tensors: list[Tensor], dtype: torch.dtype | None) -> list[float]:
    norms = torch._foreach_norm(tensors, 2, dtype)
    if tensors[0].device.type == "cpu":
        return [norm.item() for norm in norms]
    return cast("list[float]", torch.stack([n.to(norms[0].device) for n in norms]).tolist())


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
        norm = global_norm([t for piece in pieces for t in piece.ascent])
        if not math.isfinite(norm):
            return Ascent(norm, finite=False)
        self._keep([p for piece in pieces for p in piece.params])
        self.active = True
        for params, scale, ascent, rho in pieces:
            if not params:
                continue
            if scale is not None:
                torch._foreach_mul_(ascent, scale)
            torch._foreach_add_(params, ascent, alpha=rho / (norm + NORM_FLOOR))
        return Ascent(norm, finite=True)

    def undo(self) -> None:
        """Put the weights back; nothing happens if they have not been moved."""
        if self.active:
            torch._foreach_copy_(self._params, self._copies)
            self.active = False

    def _keep(self, params: list[Tensor]) -> None:
        same = len(params) == len(self._params) and all(map(is_, params, self._params))
        if not same:
            self._params = params
            self._copies = [torch.empty_like(p) for p in params]
        if params:
            torch._foreach_copy_(self._copies, params)

    def _pieces(self, target: Target) -> list[_Piece]:
        params = [p for p in target.params if p.grad is not None]
        if self.rule.rescales is None:
            return [_Piece(params, None, _grads(params), target.rho)]
        rescaled = self._rescaled(target)
        rest = [p for p in params if p not in rescaled]
        params = [p for p in params if p in rescaled]
        scale = list(torch._foreach_abs(params)) if params else []
        if self.eta and params:
            torch._foreach_add_(scale, self.eta)
        ascent = list(torch._foreach_mul(_grads(params), scale)) if params else []
        return [_Piece(params, scale, ascent, target.rho), _Piece(rest, None, _grads(rest), target.rho)]

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


def _grads(params: list[Tensor]) -> list[Tensor]:
    return cast("list[Tensor]", [p.grad for p in params])


Parameters = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]]


@contextmanager
def perturbed(
    params: Parameters,
    rho: float = 0.05,
    *,
    variant: Variant = "sam",
    eta: float | None = None,
    model: nn.Module | None = None,
    rng: RngState | None = None,
    zero_grad: bool = True,
) -> Iterator[Ascent]:
    """Run the block at the worst-case weights of the gradients that are present.

    The weights move to w + rho * T² g / ||T g|| (T = 1 for "sam"), the block computes the gradient
    there, and the weights return bit for bit, also if the block raises. Then any optimizer steps.

    Args:
        params: a model, or parameters, or (name, parameter) pairs, with gradients from the clean
            pass. Parameters without one stay where they are.
        rho: radius, ≥ 0, in the units of the weights ("sam") or as a share of them ("asam").
        variant: "sam", "asam" or "asam-common"; see `Perturbation`.
        eta: the offset of "asam"; None takes 0.01.
        model: the model, if `params` is not one: its buffers (BatchNorm statistics) keep the
            values of the clean pass.
        rng: what `capture_rng()` returned before the clean pass: the block sees the same random
            numbers, so that dropout masks agree, and afterwards the generator goes on as after
            the clean pass.
        zero_grad: set the clean gradients to None on entry, so that the block's backward does not
            add to them.

    Yields:
        The `Ascent`: norm, and whether it was finite. If it was not, the weights have not moved.

    Raises:
        ValueError: for a negative rho, an unknown variant, or "asam" without names.

    Source: Foret et al. 2021 (arXiv 2010.01412), eq. 2 and Algorithm 1; Kwon et al. 2021 (arXiv
        2102.11600), eq. 10.

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
    target = as_target(params, check_rho(rho))
    devices = {p.device for p in target.params}
    perturbation = Perturbation(variant, eta)
    with torch.no_grad():
        ascent = perturbation.apply([target])
    guard = BufferGuard(model)
    after = capture_rng(devices)
    try:
        if zero_grad:
            for p in target.params:
                p.grad = None
        guard.hold()
        if rng is not None:
            restore_rng(rng)
        yield ascent
    finally:
        with torch.no_grad():
            perturbation.undo()
        guard.release()
        if rng is not None:
            restore_rng(after)


def as_target(params: Iterable[Tensor] | Iterable[tuple[str, Tensor]], rho: float) -> Target:
    """Split parameters, or (name, parameter) pairs, into a `Target`.

    Example:
        >>> as_target(nn.Linear(2, 1).named_parameters(), 0.1).names
        ['weight', 'bias']
    """
    items = list(params)
    if items and isinstance(items[0], tuple):
        pairs = cast("list[tuple[str, Tensor]]", items)
        return Target([p for _, p in pairs], [name for name, _ in pairs], rho)
    return Target(cast("list[Tensor]", items), None, rho)
