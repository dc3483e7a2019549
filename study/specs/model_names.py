"""Names of built-in networks: what a spec may say, known without torch.

A name stands for itself, or fits a form such as ``wrn-DEPTH-WIDTH``; `study.models` builds what it names.
"""

import re
from collections.abc import Callable, Iterable

# Every classifier of torchvision 0.29; `torchvision.models.list_models` would need torch.
_TORCHVISION = frozenset(
    """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 densenet201
    efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
    efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
    mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf
    regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf
    regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152
    resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5
    shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t
    swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
    vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
    """.split()  # noqa: SIM905  # eighty quoted names are harder to read
)
WIDE_RESNET, PYRAMIDNET, FROM_TORCHVISION = "wrn-DEPTH-WIDTH", "pyramidnet-DEPTH-ALPHA", "torchvision/NAME"
IMAGE_MODELS = ("conv", "mlp", "resnet18", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110",
                WIDE_RESNET, PYRAMIDNET, FROM_TORCHVISION)  # fmt: skip


def form_of(name: str, forms: Iterable[str]) -> str | None:
    """Return which of the forms a network's name fits; None if it fits none.

    Example:
        >>> form_of("wrn-28-10", ["conv", "wrn-DEPTH-WIDTH"])
        'wrn-DEPTH-WIDTH'
        >>> form_of("wrn-27-10", ["conv", "wrn-DEPTH-WIDTH"]) is None
        True
    """
    return next((form for form in forms if _FITS.get(form, form.__eq__)(name)), None)


def numbers_in(name: str) -> list[int]:
    """Return the numbers that a name such as ``wrn-28-10`` gives."""
    return [int(number) for number in re.findall(r"-(\d+)", name)]


def _is_wide_resnet(name: str) -> bool:
    """Six layers a block of every stage, and four more: 10, 16, 22, 28, 40 …"""
    return re.fullmatch(r"wrn-\d{2,3}-\d{1,2}", name) is not None and _fits_stages(name, 4)


def _is_pyramidnet(name: str) -> bool:
    """Basic blocks alone, so depths of 6n + 2: 20, 110, 164 …"""
    return re.fullmatch(r"pyramidnet-\d{1,3}-\d{1,3}", name) is not None and _fits_stages(name, 2)


def _fits_stages(name: str, beside: int) -> bool:
    depth, size = numbers_in(name)
    return depth > beside and (depth - beside) % 6 == 0 and size > 0


_FITS: dict[str, Callable[[str], bool]] = {
    WIDE_RESNET: _is_wide_resnet,
    PYRAMIDNET: _is_pyramidnet,
    FROM_TORCHVISION: lambda name: name.startswith("torchvision/") and name.partition("/")[2] in _TORCHVISION,
}
