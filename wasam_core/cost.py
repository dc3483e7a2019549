"""Count what a training run costs, in a unit that can be compared between methods."""

from dataclasses import asdict, dataclass, fields


@dataclass(slots=True)
class Cost:
    """Count gradient evaluations, forward-only evaluations and steps of one run.

    A *gradient evaluation* is forward and backward of one example, a *forward evaluation* is
    forward alone (an evaluation, a BatchNorm recalibration). `WASAM` counts steps and passes by
    itself; it cannot know how many examples a pass holds, so examples are counted when they are
    told: `step(closure, examples=128)`, or by the loop that owns the batch: `bill_gradients(128)`.

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

    steps: int = 0
    skipped: int = 0
    gradient_passes: int = 0
    gradient_evaluations: int = 0
    forward_evaluations: int = 0

    @property
    def in_gradients(self) -> float:
        """Express everything in gradient evaluations; a forward counts as one third of one.

        The backward pass costs about two forward passes, because it multiplies by the weights
        once for the inputs and once for the weights.
        """
        return self.gradient_evaluations + self.forward_evaluations / 3

    def bill_gradients(self, examples: int) -> None:
        """Add the forward and backward of `examples` examples (an int ≥ 0)."""
        self.gradient_evaluations += _whole(examples)

    def bill_forwards(self, examples: int) -> None:
        """Add the forward-only evaluation of `examples` examples (an int ≥ 0)."""
        self.forward_evaluations += _whole(examples)

    def state_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take over the counts that `state_dict` returned."""
        for field in fields(self):
            setattr(self, field.name, state[field.name])


def _whole(examples: int) -> int:
    if examples < 0 or examples != int(examples):
        raise ValueError(f"examples = {examples!r}: give the number of examples, an int >= 0.")
    return int(examples)
