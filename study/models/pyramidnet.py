"""Pyramidal residual networks."""

from collections.abc import Mapping

from torch import Tensor, nn

from study.models.residual import PaddedShortcut, conv, drawn, norm, scaled
from study.records import FactorValue
from study.specs.model_names import numbers_in


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
