"""Small networks by name, initialised from the run's seed."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from study.records import FactorValue
from study.streams import torch_seed

Shape = tuple[int, ...]


def build_model(factors: Mapping[str, FactorValue], input_shape: Shape, classes: int, seed: int) -> nn.Module:
    """Build a network with the initial weights of ``seed``; the global random state is left as it was.

    Args:
        factors: ``model`` (``conv`` or ``mlp``), ``width`` (a multiple of its channels or units) and ``norm``.
        input_shape: Shape of one example: ``(channels, length)`` or ``(channels, height, width)``.
        classes: Number of outputs.
        seed: Root seed of the run.
    """
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        return MODELS[str(factors["model"])](factors, input_shape, classes)


def conv_net(factors: Mapping[str, FactorValue], input_shape: Shape, classes: int) -> nn.Module:
    """Return three 3-wide convolutions with normalization and ReLU, global average pooling, one linear layer."""
    layers: list[nn.Module] = []
    channels = input_shape[0]
    one_dimensional = len(input_shape) == 2
    convolution = nn.Conv1d if one_dimensional else nn.Conv2d
    for base_width, stride in ((16, 1), (32, 2), (64, 2)):
        width = max(4, round(base_width * float(factors["width"]) / 4) * 4)
        norm = NORMS[str(factors["norm"])](width, one_dimensional)
        layers += [
            convolution(channels, width, kernel_size=3, stride=stride, padding=1, bias=isinstance(norm, nn.Identity)),
            norm,
            nn.ReLU(inplace=True),
        ]
        channels = width
    pool = nn.AdaptiveAvgPool1d(1) if one_dimensional else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(channels, classes))


def mlp(factors: Mapping[str, FactorValue], input_shape: Shape, classes: int) -> nn.Module:
    """Return a fully connected net with two hidden layers of 100 × ``width`` and no normalization."""
    hidden = max(4, round(100 * float(factors["width"])))
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(input_shape), hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


NORMS: dict[str, Callable[[int, bool], nn.Module]] = {
    "batch": lambda width, one_dimensional: (nn.BatchNorm1d if one_dimensional else nn.BatchNorm2d)(width),
    "group": lambda width, one_dimensional: nn.GroupNorm(4, width),
    "none": lambda width, one_dimensional: nn.Identity(),
}
MODELS: dict[str, Callable[[Mapping[str, FactorValue], Shape, int], nn.Module]] = {"conv": conv_net, "mlp": mlp}
