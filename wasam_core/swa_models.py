"""Averaged copies of a model, one per start: the face that the public WASAM code shows."""

import copy
from collections.abc import Iterable
from typing import TypedDict

import torch
from torch import nn

from wasam_core.averaging import WeightAverages


class AveragedCopy(TypedDict):
    """One averaged model and the first epoch (1-based) that it takes in."""

    model: nn.Module
    start: int


class MultipleSWAModels:
    """Keep one averaged copy of a model per start.

    `WeightAverages` does the averaging, in float32; the copies receive its results. Use it alone,
    with `average_parameters(name)`, to do without the copies.

    Args:
        model: the model to average.
        device: where the copies live; None for the model's own.
        max_epochs: length of the run, in epochs.
        starts: fractions of the run in [0, 1].

    Source: Kaddour et al. 2022 (arXiv 2202.00661), the public code's README.

    Differs from: the public code, whose averages are in the weights' own dtype, and which updates
        each of them anew every epoch.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> swa_models = MultipleSWAModels(model, "cpu", max_epochs=4, starts=[0.5, 0.75])
        >>> for epoch in range(1, 5):
        ...     _ = model.weight.data.fill_(float(epoch))
        ...     swa_models.update_parameters(model, epoch)
        >>> [(m["start"], m["model"].weight.item()) for m in swa_models.models]
        [(2, 3.0), (3, 3.5)]
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None,
        max_epochs: int,
        starts: Iterable[float],
    ) -> None:
        self.averages = WeightAverages(model, swa_starts=starts, max_epochs=max_epochs)
        self.models: list[AveragedCopy] = [
            {
                "model": copy.deepcopy(model).to(device),
                "start": self.averages.start_epoch(name),
            }
            for name in self.averages.names
        ]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module, epoch: int) -> None:
        """Take in the weights at the end of `epoch` (1-based), for every start that has come.

        Buffers of the copies are set to the model's; recalibrate BatchNorm before evaluating.

        Raises:
            ValueError: if `model` is another one than at the beginning, or epochs run backwards.
        """
        if model is not self.averages.model:
            raise ValueError("update_parameters() got another model than MultipleSWAModels().")
        self.averages.update(epoch)
        for name, entry in zip(self.averages.names, self.models, strict=True):
            if not self.averages.count(name):
                continue
            copied = entry["model"]
            for parameter, value in zip(copied.parameters(), self.averages.read(name), strict=True):
                parameter.copy_(value)
            for buffer, value in zip(copied.buffers(), model.buffers(), strict=True):
                buffer.copy_(value)
