"""Networks of torchvision, without pre-trained weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from study.records import FactorValue


def from_torchvision(factors: Mapping[str, FactorValue], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return ``torchvision/NAME`` with its own normalization and initial weights.

    Grey images enter as three equal channels. Most of these networks are made for 224×224 pixels; a size that is too
    small for one is refused by its own layers.

    Raises:
        ValueError: ``width`` or ``norm`` is not at its default: these networks have their own.
    """
    from torchvision.models import get_model  # noqa: PLC0415  # seconds of every worker's start, needed by few

    for name, default in (("width", 1), ("norm", "batch")):
        if factors[name] != default:
            raise ValueError(
                f"factors.{name} = {factors[name]!r} was given; {factors['model']} has its own, leave the factor out"
            )
    name = str(factors["model"]).partition("/")[2]
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name.startswith("vit_"):
        options["image_size"] = input_shape[-1]
    elif name == "maxvit_t":
        options["input_size"] = input_shape[-2:]
    elif name in ("googlenet", "inception_v3"):  # their auxiliary outputs would be a second loss
        options |= {"aux_logits": False, "init_weights": False}
    model: nn.Module = get_model(name, **options)
    return model if input_shape[0] == 3 else nn.Sequential(_Rgb(), model)


class _Rgb(nn.Module):
    """Grey images as three equal channels."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, 3, height, width)`` of ``(n, 1, height, width)``."""
        return inputs.expand(-1, 3, -1, -1)
