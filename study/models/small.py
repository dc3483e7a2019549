"""Small networks for signals, tables and small images."""

import math
from collections.abc import Mapping

from torch import nn

from study.models.residual import norm
from study.records import FactorValue

Shape = tuple[int, ...]


def conv_net(factors: Mapping[str, FactorValue], input_shape: Shape, classes: int) -> nn.Module:
    """Return three 3-wide convolutions with normalization and ReLU, global average pooling, one linear layer.

    A signal is an image of height 1 to it: torch's layers for signals take a third longer.
    """
    channels, *sides = input_shape
    of_signals = len(sides) == 1
    layers: list[nn.Module] = [nn.Unflatten(-1, (1, -1))] if of_signals else []
    window, around = ((1, 3), (0, 1)) if of_signals else ((3, 3), (1, 1))
    for base_width, stride in ((16, 1), (32, 2), (64, 2)):
        width = max(4, round(base_width * float(factors["width"]) / 4) * 4)
        normalized = norm(factors, width)
        layers += [
            nn.Conv2d(channels, width, window, stride, around, bias=isinstance(normalized, nn.Identity)),
            normalized,
            nn.ReLU(inplace=True),
        ]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


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
