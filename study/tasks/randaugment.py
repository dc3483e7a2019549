"""RandAugment for a whole batch at once, on whatever device it is on.

Source: Cubuk et al. 2020, arXiv 1909.13719: two operations an image, drawn with equal chances, at one strength for all.
Differs from: the paper and torchvision, in that the two act in a fixed order (geometry, then colour), which lets a
batch go through each operation once; drawing one twice is drawing it once; and sharpness, auto-contrast and equalize
are left out. Ranges are those of `torchvision.transforms.RandAugment`, strength 1 its largest magnitude.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_MOST_SHEAR, _MOST_SHIFT, _MOST_ROTATION = 0.3, 150 / 331, 30.0  # slope, share of a side, degrees
_MOST_ENHANCED = 0.9  # of the factor 1 that leaves brightness, saturation and contrast alone
_MOST_BITS = 4  # of eight
_GREY = (0.2989, 0.587, 0.114)
OPERATIONS = (
    "identity", "shear x", "shear y", "shift x", "shift y", "rotate",
    "brightness", "saturation", "contrast", "posterize", "solarize",
)  # fmt: skip
_OPERATIONS_AN_IMAGE = 2


def rand_augment(strength: float, images: Tensor, fill: Sequence[float], draws: np.random.Generator) -> Tensor:
    """Return each image after two operations of its own draw.

    Args:
        strength: Above 0, at most 1.
        images: ``(n, channels, side, side)`` in [0, 255], bytes or floats.
        fill: Mean colour in [0, 255], a channel each; stands where a moved picture leaves nothing.
        draws: The stream of augmentation.
    """
    count = len(images)
    chosen = np.zeros((count, len(OPERATIONS)), np.float32)
    chosen[np.arange(count)[:, None], draws.integers(len(OPERATIONS), size=(count, _OPERATIONS_AN_IMAGE))] = strength
    amounts = torch.from_numpy(chosen * draws.choice(np.array([-1, 1], np.float32), chosen.shape)).to(images.device)
    return changed(images.float(), dict(zip(OPERATIONS, amounts.unbind(1), strict=True)), fill)


def changed(images: Tensor, amounts: Mapping[str, Tensor], fill: Sequence[float]) -> Tensor:
    """Return images after every operation by its amount.

    Args:
        images: ``(n, channels, side, side)``, floats in [0, 255].
        amounts: By name in `OPERATIONS`, ``(n,)`` each: shares of the largest magnitude in [-1, 1], 0 for "leave it".
        fill: Mean colour in [0, 255], a channel each.
    """
    return _recoloured(_moved(images, amounts, fill), {name: a[:, None, None, None] for name, a in amounts.items()})


def _moved(images: Tensor, amounts: Mapping[str, Tensor], fill: Sequence[float]) -> Tensor:
    """Shear, shift and rotate with nearest neighbours."""
    angle = torch.deg2rad(_MOST_ROTATION * amounts["rotate"])
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    # From places in the result to places in the image, in units of half a side.
    rotation = _rows((angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero), (zero, zero, one))
    shear_x = _rows((one, _MOST_SHEAR * amounts["shear x"], zero), (zero, one, zero), (zero, zero, one))
    shear_y = _rows((one, zero, zero), (_MOST_SHEAR * amounts["shear y"], one, zero), (zero, zero, one))
    shift = _rows(
        (one, zero, -2 * _MOST_SHIFT * amounts["shift x"]),
        (zero, one, -2 * _MOST_SHIFT * amounts["shift y"]),
        (zero, zero, one),
    )
    places = functional.affine_grid((shift @ shear_y @ shear_x @ rotation)[:, :2], list(images.shape), False)
    colour = torch.tensor(fill, device=images.device)[:, None, None]
    return colour + functional.grid_sample(images - colour, places, "nearest", "zeros", False)


def _rows(*rows: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _recoloured(images: Tensor, amounts: Mapping[str, Tensor]) -> Tensor:
    images = (images * (1 + _MOST_ENHANCED * amounts["brightness"])).clamp(0, 255)
    images = _blended(images, _grey(images), amounts["saturation"])
    images = _blended(images, _grey(images).mean((1, 2, 3), keepdim=True), amounts["contrast"])
    levels = 2 ** (_MOST_BITS * amounts["posterize"].abs()).round()
    images = torch.where(amounts["posterize"] == 0, images, (images / levels).floor() * levels)
    threshold = 255 * (1 - amounts["solarize"].abs())
    return torch.where((amounts["solarize"] != 0) & (images >= threshold), 255 - images, images)


def _blended(images: Tensor, others: Tensor, amount: Tensor) -> Tensor:
    share = 1 + _MOST_ENHANCED * amount
    return (share * images + (1 - share) * others).clamp(0, 255)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor(_GREY, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True)
