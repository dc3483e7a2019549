"""What a run has measured so far: plain data and tensors, so that one that was interrupted goes on with it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from study.records import METRICS, Measurement, Probe
from wasam_core import Cost

_MEASUREMENT = TypeAdapter(Measurement)


def dumped(found: Measurement) -> str:
    """Return a measurement as JSON; `loaded` gives it back."""
    return _MEASUREMENT.dump_json(found).decode()


def loaded(text: str) -> Measurement:
    """Return what `dumped` was given."""
    return _MEASUREMENT.validate_json(text)


@dataclass(slots=True)
class History:
    """Filled as a run goes on.

    Attributes:
        measurements, probes, features: As they go into the record.
        weights: CPU copies of parameters by ``name/parameter``.
        probing: What the probes cost.
        wall_s, evaluate_s: Seconds in all, and seconds of these spent on measuring.
    """

    measurements: list[Measurement] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    features: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    probing: Cost = field(default_factory=Cost)
    wall_s: float = 0.0
    evaluate_s: float = 0.0

    def add_tested(self, name: str, tested: Measurement) -> None:
        """Add what was measured on the training subset and on test to what validation said of weights of this name."""
        more = {metric: value for metric in METRICS if (value := getattr(tested, metric)) is not None}
        self.measurements = [
            replace(one, **more) if (one.weights, one.epoch) == (name, tested.epoch) else one
            for one in self.measurements
        ]

    def snapshot(self, name: str, model: nn.Module) -> None:
        """Copy the parameters that the model holds."""
        self.weights |= {
            f"{name}/{key}": p.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, p in model.named_parameters()
        }

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Count the time of the block as time of measuring."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.evaluate_s += time.perf_counter() - began

    def state(self) -> dict[str, Any]:
        """Return what a run between two epochs has to remember of it."""
        return {
            "measurements": [dumped(one) for one in self.measurements],
            "seconds": [self.wall_s, self.evaluate_s],
            "weights": self.weights,
            "features": self.features,
            "probing": self.probing.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.measurements = [loaded(text) for text in state["measurements"]]
        self.wall_s, self.evaluate_s = state["seconds"]
        self.weights = state["weights"]
        self.features = state["features"]
        self.probing.load_state_dict(state["probing"])
