"""A perturbed pass round any torch optimizer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from wasam_core.buffers import BufferGuard
from wasam_core.groups import check_group, names_of
from wasam_core.perturbation import Ascent, Perturbation, Target, Variant, check_rho
from wasam_core.rng import RngState, capture_rng, restore_rng

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
    maximize: bool = False,
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
            values of the clean pass, and its names count where `params` came without.
        rng: what `capture_rng()` returned before the clean pass: the block sees the same random
            numbers, so that dropout masks agree, and afterwards the generator goes on as after
            the clean pass.
        zero_grad: set the clean gradients to None on entry, so that the block's backward does not
            add to them.
        maximize: the optimizer goes uphill (its option of that name), so that the worse points lie downhill.

    Yields:
        The `Ascent`: norm, and whether it was finite. If it was not, the weights have not moved.

    Raises:
        ValueError: for a negative rho, an unknown variant, "asam" without names, or parameters that are split over
            processes (FSDP).

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
    check_group({"params": target.params})
    devices = {p.device for p in target.params}
    perturbation = Perturbation(variant, eta)
    if perturbation.rule.needs_names and target.names is None and model is not None:
        target = target._replace(names=names_of(target.params, model))
    if maximize:
        target = target._replace(rho=-target.rho)
    guard = BufferGuard(model)
    after = capture_rng(devices)
    with torch.no_grad():
        ascent = perturbation.apply([target])
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
