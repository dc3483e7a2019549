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
        self.gradient_evaluations += whole(examples)

    def bill_forwards(self, examples: int) -> None:
        """Add the forward-only evaluation of `examples` examples (an int ≥ 0)."""
        self.forward_evaluations += whole(examples)

    def state_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take over the counts that `state_dict` returned.

        Raises:
            ValueError: if a count is missing, or no int >= 0; nothing has changed then.
        """
        names = [field.name for field in fields(self)]
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(f"The saved counts lack {', '.join(missing)}: give what Cost.state_dict() returned.")
        for name, count in [(name, whole(state[name], name)) for name in names]:
            setattr(self, name, count)


def whole(count: int, name: str = "examples") -> int:
    """Return a number of things, or say what it must be."""
    if count < 0 or count != int(count):
        raise ValueError(f"{name} = {count!r}: give a number of them, an int >= 0.")
    return int(count)
