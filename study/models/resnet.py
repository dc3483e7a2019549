"""ResNets for small images."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from study.models.residual import PaddedShortcut, conv, drawn, norm, scaled
from study.records import FactorValue


def resnet18(factors: Mapping[str, FactorValue], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return ResNet-18 with a 3×3 stem without pooling: 11,173,962 parameters for ten classes of RGB images.

    Source: He et al. 2016, arXiv 1512.03385, table 1; the stem as in every published CIFAR result.
    """
    return _resnet(factors, input_shape[0], classes, (64, 128, 256, 512), blocks=2, padded=False)


def resnet_of_cifar(factors: Mapping[str, FactorValue], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return ResNet-20, -32, -44, -56 or -110 of three stages: 0.27, 0.46, 0.66, 0.85, 1.7 million parameters.

    Source: He et al. 2016, section 4.2 and table 6, with shortcuts of option A.
    """
    depth = int(str(factors["model"]).removeprefix("resnet"))
    return _resnet(factors, input_shape[0], classes, (16, 32, 64), blocks=(depth - 2) // 6, padded=True)


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, ReLU after the sum."""

    def __init__(
        self, factors: Mapping[str, FactorValue], channels: int, width: int, stride: int, *, padded: bool
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv(channels, width, stride=stride), norm(factors, width), nn.ReLU(inplace=True),
            conv(width, width), norm(factors, width),
        )  # fmt: skip
        self.shortcut: nn.Module
        if stride == 1 and channels == width:
            self.shortcut = nn.Identity()
        elif padded:
            self.shortcut = PaddedShortcut(width - channels, stride, window=1)
        else:
            self.shortcut = nn.Sequential(conv(channels, width, side=1, stride=stride), norm(factors, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's features."""
        return functional.relu(self.branch(inputs) + self.shortcut(inputs), inplace=True)


def _resnet(
    factors: Mapping[str, FactorValue],
    channels: int,
    classes: int,
    widths: tuple[int, ...],
    *,
    blocks: int,
    padded: bool,
) -> nn.Module:
    stem = scaled(factors, widths[0])
    layers = [conv(channels, stem), norm(factors, stem), nn.ReLU(inplace=True)]
    channels = stem
    for stage, base_width in enumerate(widths):
        width = scaled(factors, base_width)
        for block in range(blocks):
            layers.append(BasicBlock(factors, channels, width, 2 if stage and not block else 1, padded=padded))
            channels = width
    return drawn(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)))
