"""What one run has measured so far, the weights that it keeps, and the time that it took."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from study.records import Measurement, Probe, Reliability
from wasam_core import Cost

_MEASUREMENT = TypeAdapter(Measurement)


@dataclass(slots=True)
class Meter:
    """Filled as a run goes on; plain data, so that a run that was interrupted goes on with it.

    Attributes:
        measurements, probes, reliability: As they go into the record.
        weights: CPU copies of parameters by ``name/parameter``.
        probing: What the probes cost.
        wall_s, evaluate_s: Seconds in all, and seconds of these spent on measuring.
    """

    measurements: list[Measurement] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    probing: Cost = field(default_factory=Cost)
    wall_s: float = 0.0
    evaluate_s: float = 0.0

    def take_as(self, known: str, name: str, epoch: int) -> None:
        """Take what was just measured of an average for another of the same epochs: it would be the same bits."""
        self.reliability += [
            one.model_copy(update={"weights": name}) for one in self.reliability if one.weights == known
        ]
        self.measurements += [
            replace(one, weights=name) for one in self.measurements if one.weights == known and one.epoch == epoch
        ]

    def keep(self, name: str, model: nn.Module) -> None:
        """Keep a copy of the parameters that the model holds."""
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
            "measurements": [_MEASUREMENT.dump_json(one).decode() for one in self.measurements],
            "seconds": [self.wall_s, self.evaluate_s],
            "weights": self.weights,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.measurements = [_MEASUREMENT.validate_json(text) for text in state["measurements"]]
        self.wall_s, self.evaluate_s = state["seconds"]
        self.weights = state["weights"]
