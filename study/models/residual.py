"""Parts that residual networks share."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from study.models.norms import NORMS
from study.records import FactorValue


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
