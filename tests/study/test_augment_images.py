"""Images are changed as torchvision's functions of another hand change them, by draws of the seed's stream alone."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as reference
from torchvision.transforms.functional import InterpolationMode

from study.tasks.augment import augmented_images, crop_flip, cutout
from study.tasks.randaugment import OPERATIONS, changed, rand_augment

FILL = (120.0, 110.0, 100.0)


def pictures(count: int, channels: int = 3, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=torch.manual_seed(0))


def amounts(count: int, **given: float) -> dict[str, Tensor]:
    return {name: torch.full((count,), given.get(name.replace(" ", "_"), 0.0)) for name in OPERATIONS}


def affine(images: Tensor, **changes: object) -> Tensor:
    settings = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | changes
    return reference.affine(images, **settings, interpolation=InterpolationMode.NEAREST, fill=list(FILL))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, lambda x: x),
        ({"brightness": 0.5}, lambda x: reference.adjust_brightness(x, 1.45)),
        ({"brightness": -1.0}, lambda x: reference.adjust_brightness(x, 0.1)),
        ({"saturation": 0.5}, lambda x: reference.adjust_saturation(x, 1.45)),
        ({"saturation": -0.5}, lambda x: reference.adjust_saturation(x, 0.55)),
        ({"contrast": 1.0}, lambda x: reference.adjust_contrast(x, 1.9)),
        ({"contrast": -0.5}, lambda x: reference.adjust_contrast(x, 0.55)),
        ({"posterize": 1.0}, lambda x: reference.posterize(x, 4)),
        ({"posterize": -0.5}, lambda x: reference.posterize(x, 6)),
        ({"solarize": 0.5}, lambda x: reference.solarize(x, 127.5)),
        ({"shift_x": 6 / 32 / (150 / 331)}, lambda x: affine(x, translate=[6, 0])),
        ({"shift_y": -6 / 32 / (150 / 331)}, lambda x: affine(x, translate=[0, -6])),
        ({"rotate": 0.5}, lambda x: reference.rotate(x, 15.0, fill=list(FILL))),
        ({"shear_x": 0.5}, lambda x: affine(x, shear=[np.degrees(np.arctan(0.15)), 0.0])),
        ({"shear_y": -0.5}, lambda x: affine(x, shear=[0.0, np.degrees(np.arctan(-0.15))])),
    ],
)
def test_an_operation_equals_torchvisions(given: dict[str, float], expected) -> None:
    images = pictures(4)
    ours, theirs = changed(images.float(), amounts(4, **given), FILL), expected(images).float()
    close = (ours - theirs).abs() <= 2  # theirs are bytes, rounded down twice
    # A place half-way between two pixels may round either way.
    assert close.float().mean() > 0.99


def test_weak_augmentation_changes_less_than_strong() -> None:
    images = pictures(500)
    gaps = [
        (rand_augment(strength, images, FILL, np.random.default_rng(0)) - images).abs().mean().item()
        for strength in (0.1, 0.5, 1.0)
    ]
    assert gaps == sorted(gaps)
    assert rand_augment(0.1, images, FILL, np.random.default_rng(0)).dtype == torch.float32


def test_every_operation_has_its_share_of_images() -> None:
    """An image stays as it is when "identity" is drawn twice: 1 in 121. (Noise is changed by everything else.)"""
    images = pictures(6000, side=8)
    same = (rand_augment(1.0, images, FILL, np.random.default_rng(0)) == images).flatten(1).all(1).float().mean()
    assert same.item() == pytest.approx(1 / 121, abs=3 * (1 / 121 / 6000) ** 0.5)


@pytest.mark.parametrize("flips", [True, False])
def test_crops_are_shifts_in_a_black_frame_and_half_of_them_mirrored(flips: bool) -> None:
    images = pictures(600, channels=2, side=16).clamp(min=1)
    crops = crop_flip(images, flips, np.random.default_rng(0))
    framed = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen: dict[tuple[int, int, bool], int] = {}
    for image, crop in zip(framed, crops, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(crop.flip(-1) if mirrored else crop, image[:, top : top + 16, left : left + 16])
        ]
        assert len(found) == 1
        seen[found[0]] = seen.get(found[0], 0) + 1
    assert len(seen) == (50 if flips else 25)
    mirrored = sum(count for (_, _, is_mirrored), count in seen.items() if is_mirrored) / 600
    assert mirrored == pytest.approx(0.5 if flips else 0.0, abs=0.06)


def test_cutout_blanks_a_square_of_half_a_side_that_may_lie_outside() -> None:
    images = torch.zeros(2000, 3, 32, 32, dtype=torch.uint8)
    blank = cutout(images, FILL, np.random.default_rng(0)) == torch.tensor([120, 110, 100])[:, None, None]
    assert torch.equal(blank[:, 0], blank[:, 2])
    areas = blank[:, 0].flatten(1).sum(1)
    assert areas.max() == 16 * 16
    assert areas.min() == 8 * 8
    # Each side keeps 16 pixels for 17 of 32 centres, and loses up to 8 of them near an edge.
    kept = sum(min(centre + 8, 32) - max(centre - 8, 0) for centre in range(32)) / 32
    assert areas.double().mean().item() == pytest.approx(kept**2, rel=0.02)


@pytest.mark.parametrize("transforms", ["none", "crop-flip", "cutout"])
@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_stream_decides_alone(transforms: str, strength: float, channels: int) -> None:
    images, fill = pictures(50, channels, 28), FILL[:channels]
    before, random_state = images.clone(), torch.get_rng_state()
    first, again, other = (
        augmented_images(transforms, strength, True, fill, images, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert first.shape == images.shape
    assert torch.equal(first, other) == (transforms == "none" and not strength)
    assert first.dtype == (torch.float32 if strength else torch.uint8)
    assert first.min() >= 0
    assert first.max() <= 255
