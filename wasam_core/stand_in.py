"""Let other values stand in for parameters during one pass, and give back the old ones, bit for bit."""

from operator import attrgetter, is_

import torch
from torch import Tensor, nn

from wasam_core.bare_torch import users_of_storage
from wasam_core.moved import note_away, note_back, weights_moved
from wasam_core.verdicts import Verdict, erase_unless, is_far

LOW_PRECISION = {torch.float16, torch.bfloat16}
_place = attrgetter("dtype", "shape", "device")

# Weights of fewer bytes stay in the processor's cache, where copies are cheaper than a call for each parameter.
LARGE_BYTES = 2**20


class StandIn:
    """Move parameters for a while; afterwards they hold the same bits at the same address.

    There are two ways, and both need one further tensor per parameter, which is kept between steps. *In place*: the
    weights are copied away, moved where they are, and copied back. *Aside*: the moved weights are written into the
    further tensor, the parameter points to it, and later points to its own, untouched storage again. That takes one
    pass over memory instead of three, and memory is what a step with large weights on a CPU waits for.

    Aside is chosen for large weights when nobody can tell the difference: plain tensors on the CPU, each the only user
    of its storage. With views of the weights about (tied or flattened parameters, a detached copy that the model
    computes with), and on accelerators, where captured graphs remember addresses, it is in place.

    Call the methods under `torch.no_grad()`.

    Attributes:
        active: whether parameters are moved now, or may be.
    """

    def __init__(self) -> None:
        self.active = False
        self._params: list[Tensor] = []
        self._places: list[tuple[torch.dtype, torch.Size, torch.device]] = []
        self._spares: list[Tensor] = []
        self._own: list[tuple[Tensor, Tensor]] = []
        self._aside = False
        self._plain = False
        self._coarse = False

    def begin(self, params: list[Tensor]) -> None:
        """Make sure that the present values of `params` will return."""
        # What changes when parameters are converted, moved or cut; they stay the same objects then.
        places = list(map(_place, params))
        if places != self._places or not all(map(is_, params, self._params)):
            self._spares = [torch.empty_like(p) for p in params]  # first, because memory may be short
            self._params = params
            self._places = places
            self._coarse = any(p.dtype in LOW_PRECISION for p in params)
            size = sum(p.numel() * p.element_size() for p in params)
            self._plain = size >= LARGE_BYTES and all(map(_is_plain, params))
        self._aside = self._plain and all(users_of_storage(p) == ALONE for p in params)
        if not self._aside:
            torch._foreach_copy_(self._spares, params)
        self.active = True
        note_away(self, params)

    def add(self, params: list[Tensor], steps: list[Tensor], factor: float | Tensor, verdict: Verdict = True) -> None:
        """Move `params`, the next ones of those that `begin` got, by `factor` times `steps`; by 0 against a verdict."""
        if isinstance(factor, Tensor):
            steps = widened(steps)
            alike = all(step.dtype == steps[0].dtype for step in steps)
            steps = list(torch._foreach_mul(steps, factor.to(steps[0].dtype) if alike else factor))
            if isinstance(verdict, Tensor):
                erase_unless(verdict, steps)
            torch._foreach_add_(params, steps)
            weights_moved()
            return
        if self._coarse:
            # A 16-bit factor would be rounded, or too large to exist.
            steps = list(torch._foreach_mul(widened(steps), factor))
            factor = 1.0
        if not self._aside:
            torch._foreach_add_(params, steps, alpha=factor)
            weights_moved()
            return
        spares = self._spares[len(self._own) :]
        for p, step, spare in zip(params, steps, spares, strict=False):
            own = p.data
            self._own.append((p, own))
            p.data = torch.add(own, step, alpha=factor, out=spare)
        # As after a change in place, backward through an older graph must be refused.
        torch.autograd.graph.increment_version(params)
        weights_moved()

    def end(self) -> None:
        """Give the parameters their own values back; nothing happens without a `begin` before."""
        if not self.active:
            return
        if self._aside:
            # The first one counts if a parameter has been moved twice.
            for p, own in reversed(self._own):
                p.data = own
            torch.autograd.graph.increment_version(self._params)
            self._own = []
        else:
            torch._foreach_copy_(self._params, self._spares)
        self.active = False
        note_back(self)
        weights_moved()


def widened(tensors: list[Tensor]) -> list[Tensor]:
    """Return `tensors` with those of 16 bits in float32."""
    return [t.float() if t.dtype in LOW_PRECISION else t for t in tensors]


def _is_plain(p: Tensor) -> bool:
    """Tell whether `p` is an ordinary tensor on the CPU that fills its storage."""
    ordinary = type(p) in (Tensor, nn.Parameter) and p.is_cpu and p.layout == torch.strided and not is_far([p])
    return ordinary and p.untyped_storage().nbytes() == p.numel() * p.element_size()


# What a tensor that shares its storage with no other one counts.
ALONE = users_of_storage(torch.empty(0))
