"""Wide residual networks."""

from collections.abc import Mapping

from torch import Tensor, nn

from study.models.residual import conv, drawn, norm, scaled
from study.records import FactorValue
from study.specs.model_names import numbers_in


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
