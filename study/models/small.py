"""Small networks for signals, tables and small images."""

import math
from collections.abc import Mapping

from torch import nn

from study.models.norms import NORMS
from study.records import FactorValue

Shape = tuple[int, ...]


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
