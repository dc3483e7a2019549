"""Count what a training run costs, in a unit that can be compared between methods."""

import torch
from torch import Tensor

from wasam_core.options import whole
from wasam_core.verdicts import Verdict

_NAMES = ("steps", "skipped", "gradient_passes", "gradient_evaluations", "forward_evaluations")


class Cost:
    """Count gradient evaluations, forward-only evaluations and steps of one run.

    A *gradient evaluation* is forward and backward of one example, a *forward evaluation* is
    forward alone (an evaluation, a BatchNorm recalibration). `WASAM` counts steps and passes by
    itself; it cannot know how many examples a pass holds, so examples are counted when they are
    told: `step(closure, examples=128)`, or by the loop that owns the batch: `bill_gradients(128)`.
    Whether a step on an accelerator was skipped is counted there, and read when `steps` or `skipped` is.

    Attributes:
        steps: optimizer steps that changed the weights.
        skipped: steps left out because a gradient was not finite.
        gradient_passes: forward-backward passes that the optimizer has seen.
        gradient_evaluations: examples that went through forward and backward.
        forward_evaluations: examples that went through forward only.

    Example:
        >>> cost = Cost()
        >>> cost.bill_gradients(128)
        >>> cost.bill_forwards(600)
        >>> cost.gradient_evaluations, cost.forward_evaluations, cost.in_gradients
        (128, 600, 328.0)
    """

    def __init__(
        self,
        steps: int = 0,
        skipped: int = 0,
        gradient_passes: int = 0,
        gradient_evaluations: int = 0,
        forward_evaluations: int = 0,
    ) -> None:
        self.gradient_passes = gradient_passes
        self.gradient_evaluations = gradient_evaluations
        self.forward_evaluations = forward_evaluations
        self._steps, self._skipped = steps, skipped
        self._unread: Tensor | None = None  # steps taken and skipped, on an accelerator

    @property
    def steps(self) -> int:
        self._read()
        return self._steps

    @property
    def skipped(self) -> int:
        self._read()
        return self._skipped

    def bill_step(self, updated: Verdict) -> None:
        """Add a step: one that changed the weights, or one that was skipped."""
        if isinstance(updated, bool):
            self._steps += updated
            self._skipped += not updated
            return
        if self._unread is None or self._unread.device != updated.device:
            self._read()
            self._unread = torch.zeros(2, dtype=torch.long, device=updated.device)
        # In place, so that a captured graph goes on counting.
        self._unread.add_(torch.stack((updated, ~updated)))

    def _read(self) -> None:
        if self._unread is not None:
            taken, skipped = self._unread.tolist()
            self._steps, self._skipped = self._steps + taken, self._skipped + skipped
            self._unread.zero_()

    @property
    def in_gradients(self) -> float:
        """Express everything in gradient evaluations; a forward counts as one third of one.

        The backward pass costs about two forward passes, because it multiplies by the weights
        once for the inputs and once for the weights.
        """
        return self.gradient_evaluations + self.forward_evaluations / 3

    def bill_gradients(self, examples: int) -> None:
        """Add the forward and backward of `examples` examples (an int ≥ 0)."""
        self.gradient_evaluations += whole("examples", examples, least=0)

    def bill_forwards(self, examples: int) -> None:
        """Add the forward-only evaluation of `examples` examples (an int ≥ 0)."""
        self.forward_evaluations += whole("examples", examples, least=0)

    def state_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in _NAMES}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take over the counts that `state_dict` returned.

        Raises:
            ValueError: if a count is missing, or no int >= 0; nothing has changed then.
        """
        missing = [name for name in _NAMES if name not in state]
        if missing:
            raise ValueError(f"The saved counts lack {', '.join(missing)}: give what Cost.state_dict() returned.")
        counts = {name: whole(name, state[name], least=0) for name in _NAMES}
        self._read()
        self._steps, self._skipped = counts.pop("steps"), counts.pop("skipped")
        self.__dict__.update(counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cost) and self.state_dict() == other.state_dict()

    __hash__ = None  # type: ignore[assignment]  # counts change

    def __repr__(self) -> str:
        return f"Cost({', '.join(f'{name}={count}' for name, count in self.state_dict().items())})"
