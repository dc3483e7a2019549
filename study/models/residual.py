"""Residual networks: ResNets for small images, wide ones and pyramids, of parts that they share."""

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional

from study.records import FactorValue
from study.specs.model_names import numbers_in

# By name: the factor ``norm``.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda width: nn.GroupNorm(math.gcd(4, width), width),  # PyramidNet has odd widths
    "none": lambda width: nn.Identity(),
}


def conv(channels: int, width: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size, apart from the stride."""
    return nn.Conv2d(channels, width, side, stride, padding=side // 2, bias=False)


def norm(factors: Mapping[str, FactorValue], width: int) -> nn.Module:
    """Return the cell's normalization of ``width`` channels."""
    return NORMS[str(factors["norm"])](width)


def scaled(factors: Mapping[str, FactorValue], channels: float) -> int:
    """Return a published number of channels times the cell's ``width``."""
    return max(4, round(channels * float(factors["width"])))


def drawn(model: nn.Module) -> nn.Module:
    """Draw the convolutions' initial weights anew, and return the model.

    Source: He et al. 2015, arXiv 1502.01852, equation 14 (normal, fan-out), as the published code of all families here.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


class PaddedShortcut(nn.Module):
    """A shortcut without parameters: pools over ``window`` by ``stride`` and fills new channels with zeros.

    Source: He et al. 2016, arXiv 1512.03385, option A (window 1: every other pixel); Han et al. 2017, arXiv
    1610.02915, section 3.3 (window 2).
    """

    def __init__(self, added: int, stride: int, window: int) -> None:
        super().__init__()
        self.added = added
        self.pool = nn.AvgPool2d(window, stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, smaller and with more channels."""
        return functional.pad(self.pool(inputs), (0, 0, 0, 0, 0, self.added))


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


def wide_resnet(factors: Mapping[str, FactorValue], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return ``wrn-DEPTH-WIDTH`` without dropout: WRN-28-10 has 36,479,194 parameters for ten classes of RGB images.

    Source: Zagoruyko & Komodakis 2016, arXiv 1605.07146, table 1 (basic blocks, B(3,3)).
    """
    depth, widening = numbers_in(str(factors["model"]))
    channels = scaled(factors, 16)
    layers: list[nn.Module] = [conv(input_shape[0], channels)]
    for stage, base_width in enumerate((16, 32, 64)):
        width = scaled(factors, base_width * widening)
        for block in range((depth - 4) // 6):
            layers.append(WideBlock(factors, channels, width, 2 if stage and not block else 1))
            channels = width
    layers += [norm(factors, channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return drawn(nn.Sequential(*layers, nn.Linear(channels, classes)))


class WideBlock(nn.Module):
    """Normalization and ReLU before each of two convolutions; a new width is projected from behind the first ReLU."""

    def __init__(self, factors: Mapping[str, FactorValue], channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.before = nn.Sequential(norm(factors, channels), nn.ReLU())  # not in place: without a norm it is the input
        self.branch = nn.Sequential(
            conv(channels, width, stride=stride), norm(factors, width), nn.ReLU(inplace=True), conv(width, width)
        )
        same = stride == 1 and channels == width
        self.projection = None if same else conv(channels, width, side=1, stride=stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's features."""
        active = self.before(inputs)
        outputs: Tensor = self.branch(active) + (inputs if self.projection is None else self.projection(active))
        return outputs


def pyramidnet(factors: Mapping[str, FactorValue], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return ``pyramidnet-DEPTH-ALPHA`` of basic blocks: every block is ALPHA / blocks channels wider than the last.

    PyramidNet-110 with alpha 270 has 28.3 million parameters for ten classes of RGB images.

    Source: Han et al. 2017, arXiv 1610.02915, equation 3 (additive widening) and figure 6 d (the block).
    """
    depth, alpha = numbers_in(str(factors["model"]))
    blocks = (depth - 2) // 6
    channels = scaled(factors, 16)
    layers: list[nn.Module] = [conv(input_shape[0], channels), norm(factors, channels)]
    for number in range(1, 3 * blocks + 1):
        width = scaled(factors, 16 + number * alpha / (3 * blocks))
        stride = 2 if number in (blocks + 1, 2 * blocks + 1) else 1
        layers.append(PyramidBlock(factors, channels, width, stride))
        channels = width
    layers += [norm(factors, channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return drawn(nn.Sequential(*layers, nn.Linear(channels, classes)))


class PyramidBlock(nn.Module):
    """Normalization first and last, one ReLU in between, and a shortcut without parameters."""

    def __init__(self, factors: Mapping[str, FactorValue], channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            norm(factors, channels), conv(channels, width, stride=stride),
            norm(factors, width), nn.ReLU(inplace=True), conv(width, width), norm(factors, width),
        )  # fmt: skip
        self.shortcut = PaddedShortcut(width - channels, stride, window=2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's features."""
        outputs: Tensor = self.branch(inputs) + self.shortcut(inputs)
        return outputs
