"""Small networks by name, initialised from the run's seed."""

from collections.abc import Callable

import torch
from torch import nn

from study.streams import torch_seed


def build_model(name: str, input_shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build a network with the initial weights of ``seed``; the global random state is left as it was.

    Args:
        name: ``conv`` or ``mlp``.
        input_shape: Shape of one example: ``(channels, length)`` or ``(channels, height, width)``.
        classes: Number of outputs.
        seed: Root seed of the run.
    """
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        return MODELS[name](input_shape, classes)


def conv_net(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return three 3-wide convolutions with BatchNorm and ReLU, global average pooling, one linear layer."""
    layers: list[nn.Module] = []
    channels = input_shape[0]
    one_dimensional = len(input_shape) == 2
    convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if one_dimensional else (nn.Conv2d, nn.BatchNorm2d)
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        layers += [
            convolution(channels, width, kernel_size=3, stride=stride, padding=1, bias=False),
            norm(width),
            nn.ReLU(inplace=True),
        ]
        channels = width
    pool = nn.AdaptiveAvgPool1d(1) if one_dimensional else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(channels, classes))


def mlp(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a fully connected net with two hidden layers of 100 and no normalization."""
    inputs = int(torch.tensor(input_shape).prod())
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, 100),
        nn.ReLU(),
        nn.Linear(100, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


MODELS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {"conv": conv_net, "mlp": mlp}
