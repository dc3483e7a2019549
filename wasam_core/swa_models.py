"""Averaged copies of a model, one per start: the face that the public WASAM code shows."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from wasam_core.averaging import WeightAverages
from wasam_core.lookup import differences, forms_of
from wasam_core.memory import lasting_memory, snapshot
from wasam_core.moved import weights_moved


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
        self, model: nn.Module, device: torch.device | str | None, max_epochs: int, starts: Iterable[float]
    ) -> None:
        self.averages = WeightAverages(model, swa_starts=starts, max_epochs=max_epochs)
        self.models: list[AveragedCopy] = [
            {"model": copy.deepcopy(model).to(device), "start": self.averages.start_epoch(name)}
            for name in self.averages.names
        ]

    def update_parameters(self, model: nn.Module, epoch: int) -> None:
        """Take in the weights at the end of `epoch` (1-based), for every start that has come.

        Buffers of the copies are set to the model's; recalibrate BatchNorm before evaluating.

        Raises:
            ValueError: if `model` is another one than at the beginning, or has other parameters or buffers than were
                copied, or epochs run backwards. Nothing has changed then.
        """
        if model is not self.averages.model:
            raise ValueError("update_parameters() got another model than MultipleSWAModels().")
        for entry in self.models:
            found = differences(forms_of(_tensors(entry["model"])), forms_of(_tensors(model)))
            if found:
                raise ValueError(
                    f"The model is not what MultipleSWAModels() copied: {found}. Build it after such a change."
                )
        self.averages.update(epoch)
        for index, name in enumerate(self.averages.names):
            if self.averages.count(name):
                self._fill(index, _tensors(model))

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, and the buffers of the copies, as they are now."""
        buffers = [dict(entry["model"].named_buffers()) for entry in self.models]
        return {"averages": self.averages.state_dict(), "buffers": snapshot(buffers)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned for the same model and starts.

        Raises:
            ValueError: if parameters, buffers or starts are others; nothing has changed then.
        """
        if len(state["buffers"]) != len(self.models):
            raise ValueError(
                f"{len(state['buffers'])} copies were saved, and there are {len(self.models)} here: build "
                "MultipleSWAModels with the starts of the saved run."
            )
        for entry, saved in zip(self.models, state["buffers"], strict=True):
            found = differences(forms_of(saved), forms_of(dict(entry["model"].named_buffers())))
            if found:
                raise ValueError(f"The saved copies are those of another model; in this one, {found}.")
        self.averages.load_state_dict(state["averages"])
        for index, saved in enumerate(state["buffers"]):
            self._fill(index, saved)

    def _fill(self, index: int, others: Mapping[str, Tensor]) -> None:
        """Write an average into its copy, and the buffers, and what is not averaged, of `others`."""
        name = self.averages.names[index]
        read = self.averages.read(name) if self.averages.count(name) else []
        values = dict(zip(self.averages.layout, read, strict=False))
        with lasting_memory():
            for key, tensor in _tensors(self.models[index]["model"]).items():
                if key in values or key in others:
                    tensor.copy_(values[key] if key in values else others[key])
        weights_moved()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
