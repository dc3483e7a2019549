"""How a model lies in memory: on its device, and where it is measured."""

import copy
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def placed(model: nn.Module, device: torch.device, *, built_in: bool) -> nn.Module:
    """Return a model on a device; on a GPU with matrices in TF32 and images channels last, its fast ways.

    A user's own model keeps its layout: it may `view` what a convolution returns, which another layout does not allow.
    """
    if device.type != "cuda":
        return model.to(device)
    torch.set_float32_matmul_precision("high")  # convolutions are in TF32 without being told
    return channels_last(model.to(device)) if built_in else model.to(device)


def channels_last(model: nn.Module) -> nn.Module:
    """Lay a model's convolution weights out channels last, so that its convolutions work and answer in that order."""
    return model.to(memory_format=torch.channels_last)


def measured_twin(model: nn.Module, device: torch.device, *, built_in: bool) -> nn.Module:
    """Return the model that stands in for a model when it is measured; see `follow`.

    On a CPU that is a copy of a convolutional net, channels last: passes without gradients take half to three quarters
    of the time there. A net for signals becomes one for images of height 1, because torch has fast layers for images
    only. Training keeps the other layout, from which its steps gain less. Everywhere else it is the model itself.
    """
    if device.type != "cpu" or not built_in:
        return model
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return channels_last(copy.deepcopy(model))
    if _is_for_signals(model):
        return channels_last(_ForImages(model))
    return model


@torch.no_grad()
def follow(twin: nn.Module, model: nn.Module) -> None:
    """Give a model's twin the weights and buffers that the model holds."""
    if twin is not model:
        for ours, theirs in zip(_tensors(twin), _tensors(model), strict=True):
            ours.copy_(theirs.reshape(ours.shape))


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def _is_for_signals(model: nn.Module) -> bool:
    layers = list(model.children())
    known = (*_FOR_IMAGES, nn.ReLU, nn.GroupNorm, nn.Identity, nn.Flatten, nn.Linear)
    return type(model) is nn.Sequential and nn.Conv1d in map(type, layers) and all(type(one) in known for one in layers)


class _ForImages(nn.Module):
    """A net for signals, in layers for images; its weights are whatever memory held, until it follows the net."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*map(_for_images, net.children()))

    def forward(self, signals: Tensor) -> Tensor:
        """Return the net's outputs for ``(n, channels, length)``."""
        outputs: Tensor = self.layers(signals.unsqueeze(2))
        return outputs


def _for_images(layer: nn.Module) -> nn.Module:
    make = _FOR_IMAGES.get(type(layer))
    return make(layer) if make else copy.deepcopy(layer)


def _convolution(layer: nn.Conv1d) -> nn.Module:
    (side,), (stride,), (dilation,), padding = layer.kernel_size, layer.stride, layer.dilation, layer.padding[0]
    assert isinstance(padding, int)
    bare = nn.Conv2d(
        layer.in_channels, layer.out_channels, (1, side), (1, stride), (0, padding), (1, dilation), layer.groups,
        bias=layer.bias is not None, device="meta",
    )  # fmt: skip
    return bare.to_empty(device="cpu")  # initial weights would be drawn from the run's random stream


def _batch_norm(layer: nn.BatchNorm1d) -> nn.Module:
    return nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)


_FOR_IMAGES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Conv1d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.AdaptiveAvgPool1d: lambda layer: nn.AdaptiveAvgPool2d((1, layer.output_size)),
}
