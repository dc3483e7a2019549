"""Normalization layers by name: the factor ``norm``."""

import math
from collections.abc import Callable

from torch import nn

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda width: nn.GroupNorm(math.gcd(4, width), width),  # PyramidNet has odd widths
    "none": lambda width: nn.Identity(),
}
