"""The two passes of a sharpness-aware step: what differs between them, and how everything returns."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wasam_core.agreement import check_static_graph
from wasam_core.bare_torch import grad_off
from wasam_core.buffers import BufferGuard
from wasam_core.perturbation import Perturbation, Target
from wasam_core.rng import ForwardReplay, RngState, capture_rng, restore_rng

Closure = Callable[..., Tensor]


class Phase(Enum):
    """Where a step stands."""

    CLEAN = "before a step"
    ASCENDED = "between first_step() and second_step()"
    READY = "before the final update"


class TwoPass:
    """Lead from the clean pass to the perturbed one and back.

    Only the weights differ between the passes. Buffers (BatchNorm statistics) keep the values of the clean pass, and
    the perturbed pass sees the random numbers of the clean one. Afterwards the generators go on as after the clean
    pass, so that the data loader and everything else draw what they would draw without the second pass.

    Args:
        perturbation: moves the weights.
        model: the module that is called, or None.
        accelerators: devices whose generators count, beside the CPU's; the set may grow.
        local_ascent: take the clean pass of a DistributedDataParallel model without synchronization.

    Attributes:
        finite: whether the gradient of the latest clean pass was finite.
        set_aside: the clean gradients of a step whose weights did not move, by parameter.
    """

    def __init__(
        self, perturbation: Perturbation, model: nn.Module | None, accelerators: set[torch.device], local_ascent: bool
    ) -> None:
        check_static_graph(model, local_ascent)
        self.perturbation = perturbation
        self.phase = Phase.CLEAN
        self.finite = True
        self.set_aside: list[tuple[Tensor, Tensor]] = []
        self._model = model
        self._accelerators = accelerators
        self._ddp = model if local_ascent and isinstance(model, DistributedDataParallel) else None
        # Where the gradients of the next pass are written over those of this one.
        self._in_buckets = isinstance(model, DistributedDataParallel) and model.gradient_as_bucket_view
        self._guard = BufferGuard(model)
        self._replay = None if model is None else ForwardReplay(model, accelerators)
        self._before: RngState | None = None
        self._after: RngState | None = None
        self._within = False

    @property
    def same_inputs(self) -> bool:
        """False if the perturbed pass was seen to begin with another batch than the clean pass."""
        return self._replay is None or self._replay.same_inputs

    def clean_pass(self, closure: Closure, batch: Sequence[Tensor]) -> Tensor:
        """Run the closure at the weights, and remember the random numbers it gets."""
        if self._replay is not None:
            # The generator is set before the whole perturbed pass, not before each forward.
            self._replay.pause()
        self._before = capture_rng(self._accelerators)
        self._within = True
        try:
            if self._ddp is None:
                return _with_grad(closure, batch)
            with self._ddp.no_sync():
                return _with_grad(closure, batch)
        finally:
            self._within = False

    def perturbed_pass(self, closure: Closure, batch: Sequence[Tensor]) -> None:
        """Run the closure again, at the perturbed weights and with the same random numbers."""
        if self._before is not None:
            restore_rng(self._before)
        _with_grad(closure, batch)

    def ascend(self, targets: Iterable[Target], params: list[Tensor], *, zero_grad: bool) -> bool:
        """Move the weights along the gradients present, and return whether they moved.

        Without targets, or with a gradient that is not finite, they stay, and the gradients are set aside.
        """
        with grad_off():
            ascent = self.perturbation.apply(targets)
        self.finite = ascent.finite
        self.phase = Phase.ASCENDED
        moved = self.perturbation.active
        if not moved:
            self.set_aside = [(p, p.grad.clone() if self._in_buckets else p.grad) for p in params if p.grad is not None]
        self._guard.hold()
        if zero_grad:
            for p in params:
                p.grad = None
        if self._before is None and self._replay is not None:
            self._after = capture_rng(self._accelerators)
            self._replay.start()
        return moved

    def restore(self) -> None:
        """Put weights, buffers and generators back to what they were at the end of the clean pass."""
        if self.phase is not Phase.CLEAN:
            with grad_off():
                self.perturbation.undo()
            self._guard.release()
            if self._after is not None:
                restore_rng(self._after)
                self._after = None
            self.set_aside = []
            self.phase = Phase.CLEAN
        self.forget()

    def forget(self) -> None:
        """Begin to record random numbers anew: a new step comes. A closure that clears gradients doesn't begin one."""
        if self._within:
            return
        self._before = None
        if self._replay is not None:
            self._replay.reset()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the hook on the model out: a copy has a model of its own."""
        return {key: value for key, value in self.__dict__.items() if key != "_replay"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the hook on the copy's model."""
        self.__dict__.update(state)
        self._replay = None if self._model is None else ForwardReplay(self._model, self._accelerators)


def _with_grad(closure: Closure, batch: Sequence[Tensor]) -> Tensor:
    if torch.is_grad_enabled():
        return closure(*batch)
    with torch.enable_grad():
        return closure(*batch)
