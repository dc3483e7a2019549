"""A small model whose weights move from epoch to epoch, its averages, and their states as plain data."""

import io
from typing import Any

import torch
from torch import Tensor, nn

from wasam_core import WeightAverages

MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
SETTINGS: dict[str, Any] = {
    "swa_starts": (0.0, 0.5), "max_epochs": 8, "ema_decays": (0.7, 0.9), "lawa_windows": (2, 3),
}  # fmt: skip


def net(outputs: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, outputs))


def move(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.promote_types(p.dtype, torch.float32)))


def taken_in(averages: WeightAverages, epochs: range) -> WeightAverages:
    for epoch in epochs:
        move(averages.model, epoch)
        averages.update(epoch)
        averages.update_step()
    return averages


def plain(state: Any) -> Any:
    """Return a state with lists of numbers for tensors, so that == compares all of it."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return (str(state.dtype), state.tolist()) if isinstance(state, Tensor) else state


def on_disk(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
