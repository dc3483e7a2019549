"""Augmentation of training inputs, in batches on the trial's device.

Signals and small images are shifted and made noisy; images go through a shifted crop, a mirror image, RandAugment and
a blank square. Every number is drawn from the stream that is handed in, on the host: both passes of a step see the
same augmented batch, every method of a seed the same draws, and nothing is read back from the device.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from study.tasks.randaugment import rand_augment

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


def augmented_images(
    transforms: str, strength: float, flips: bool, fill: Sequence[float], images: Tensor, draws: np.random.Generator
) -> Tensor:
    """Return images as the factors ``transforms`` and ``augmentation`` change them, each by its own draw.

    Args:
        transforms: ``none``, ``crop-flip`` or ``cutout`` (all three).
        strength: Of RandAugment, in [0, 1]; 0 leaves it out.
        flips: Whether a mirror image keeps its class.
        fill: The data's mean colour in [0, 255], a channel each: what stands outside a picture, or in its blank square.
        images: ``(n, channels, side, side)`` in [0, 255], bytes or floats.
        draws: The stream of augmentation.
    """
    if transforms != "none":
        images = crop_flip(images, flips, draws)
    if strength:
        images = rand_augment(strength, images, fill, draws)
    return cutout(images, fill, draws) if transforms == "cutout" else images


def crop_flip(images: Tensor, flips: bool, draws: np.random.Generator) -> Tensor:
    """Return random crops of the images with a black frame of an eighth of a side, half of them mirrored if ``flips``.

    Source: He et al. 2016, arXiv 1512.03385, section 4.2 (4 pixels around 32).
    """
    count, _, height, width = images.shape
    frame = round(height / 8)
    tops, lefts = draws.integers(0, 2 * frame + 1, size=(2, count, 1))
    rows, columns = tops + np.arange(height), lefts + np.arange(width)
    if flips:
        columns = np.where(draws.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    rows_of, columns_of = (torch.from_numpy(index).to(images.device) for index in (rows, columns))
    framed = functional.pad(images, (frame, frame, frame, frame)).permute(0, 2, 3, 1)
    each = torch.arange(count, device=images.device)[:, None, None]
    return framed[each, rows_of[:, :, None], columns_of[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, fill: Sequence[float], draws: np.random.Generator) -> Tensor:
    """Return the images with a square of half a side blank; part of it may lie outside.

    Source: DeVries & Taylor 2017, arXiv 1708.04552 (16 of 32 pixels, as in the published results of SAM).
    """
    count, _, height, width = images.shape
    half = height // 4
    centres = draws.integers(0, (height, width), size=(count, 2))
    blank = torch.ones(1, dtype=torch.bool, device=images.device)
    for dim, side in ((2, height), (3, width)):
        offsets = np.arange(side) - centres[:, dim - 2, None] + half
        inside = torch.from_numpy((offsets >= 0) & (offsets < 2 * half)).to(images.device)
        blank = blank & (inside[:, None, :, None] if dim == 2 else inside[:, None, None, :])
    colour = torch.tensor(fill).round().to(images.device, images.dtype)[:, None, None]
    return torch.where(blank, colour, images)
