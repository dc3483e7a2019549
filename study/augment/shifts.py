"""Shifts and noise, for standardized signals and small images."""

import numpy as np
import torch
from torch import Tensor

_MAX_SHIFT_SHARE = 0.25  # of each spatial side, at strength 1
_MAX_NOISE = 0.5  # standard deviations of the (standardized) inputs, at strength 1


def augmented(strength: float, inputs: Tensor, draws: np.random.Generator) -> Tensor:
    """Return inputs that are shifted (with wrap-around) and noisy, each example by its own draw.

    Args:
        strength: Above 0, at most 1.
        inputs: ``(n, channels, *shape)``, standardized.
        draws: The stream of augmentation.
    """
    shifted = inputs
    for dim in range(2, inputs.dim()):
        side = inputs.shape[dim]
        most = round(strength * _MAX_SHIFT_SHARE * side)
        offsets = torch.from_numpy(draws.integers(-most, most + 1, size=len(inputs))).to(inputs.device)
        positions = (torch.arange(side, device=inputs.device)[None, :] - offsets[:, None]) % side
        index = positions.reshape(len(inputs), *(side if d == dim else 1 for d in range(1, inputs.dim())))
        shifted = shifted.gather(dim, index.expand_as(shifted))
    noise = torch.from_numpy(draws.standard_normal(inputs.shape, dtype=np.float32)).to(inputs.device)
    return shifted + strength * _MAX_NOISE * noise
