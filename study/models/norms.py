"""Normalization layers by name: the factor ``norm``."""

import math
from collections.abc import Callable

from torch import nn

NORMS: dict[str, Callable[[int, bool], nn.Module]] = {
    "batch": lambda width, one_dimensional: (nn.BatchNorm1d if one_dimensional else nn.BatchNorm2d)(width),
    "group": lambda width, one_dimensional: nn.GroupNorm(math.gcd(4, width), width),  # PyramidNet has odd widths
    "none": lambda width, one_dimensional: nn.Identity(),
}
