"""Gradients that are present when a step begins: whose they are, and what becomes of those of earlier micro-batches."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from wasam_core.rng import ForwardReplay
from wasam_core.verdicts import is_far

# Trainers whose closures hold one micro-batch: with gradients present, those are of the micro-batches before it.
TRAINERS = {"lightning", "pytorch_lightning"}


def any_entry(parameters: Sequence[Tensor], zeroed: Sequence[tuple[Tensor, int]] = (), *, look: bool = False) -> bool:
    """Tell whether there is a gradient that is not all zero, as zero_grad(set_to_none=False) leaves them.

    On an accelerator the host does not look: there, those are zero that were, and have not been written to since.

    Args:
        parameters: whose gradients.
        zeroed: gradients that were zero, and their versions then.
        look: wait for an accelerator.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not look and is_far(grads):
        versions = dict(zeroed)
        return any(versions.get(g) != g._version for g in grads)
    return any((g.coalesce().values() if g.is_sparse else g).any() for g in grads)


def with_difference(clean: Tensor, perturbed: Tensor | None, count: int) -> Tensor | None:
    """Return the clean sum of all micro-batches and `count` times what perturbing changed in the last one."""
    return perturbed if perturbed is None else clean.add(perturbed - clean, alpha=count)


def refuse_trainer(closure: Callable[..., Tensor]) -> None:
    """Refuse a closure of a trainer that accumulates, though nobody has said so.

    Raises:
        RuntimeError: if it is one.
    """
    inner: object = closure
    while isinstance(inner, partial):
        inner = inner.args[-1] if inner.args and callable(inner.args[-1]) else inner.func
    trainer = type(inner).__module__.partition(".")[0]
    if trainer in TRAINERS:
        raise RuntimeError(
            f"{trainer} called step(closure) with gradients of earlier micro-batches, and they would be taken for the "
            "whole first pass: say how many make a step, WASAM(..., gradient_accumulation_steps=k) with k = "
            "accumulate_grad_batches, or use manual optimization with first_step() and second_step()."
        )


def refuse_another_batch(replay: ForwardReplay | None) -> None:
    """Refuse gradients that were present and are not of the closure's batch, as its pass has just shown.

    Raises:
        RuntimeError: if they are not.
    """
    if replay is not None and not replay.same_inputs:
        raise RuntimeError(
            "step(closure) found gradients of another batch than its closure's: gradients that are present are taken "
            "for the whole first pass. Clear them before, or say gradient_accumulation_steps=k if they are those of "
            "earlier micro-batches."
        )
