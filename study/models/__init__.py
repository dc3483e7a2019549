"""Networks by name, initialised from the run's seed."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from study.models.residual import NORMS, pyramidnet, resnet18, resnet_of_cifar, wide_resnet
from study.models.small import Shape, conv_net, mlp
from study.models.torchvision_nets import from_torchvision
from study.records import FactorValue
from study.specs.model_names import FROM_TORCHVISION, PYRAMIDNET, WIDE_RESNET, form_of
from study.streams import torch_seed

# By name, or by the form that a name fits (see `study.specs.model_names`).
MODELS: dict[str, Callable[[Mapping[str, FactorValue], Shape, int], nn.Module]] = {
    "conv": conv_net,
    "mlp": mlp,
    "resnet18": resnet18,
    **{f"resnet{depth}": resnet_of_cifar for depth in (20, 32, 44, 56, 110)},
    WIDE_RESNET: wide_resnet,
    PYRAMIDNET: pyramidnet,
    FROM_TORCHVISION: from_torchvision,
}


def build_model(factors: Mapping[str, FactorValue], input_shape: Shape, classes: int, seed: int) -> nn.Module:
    """Build a network with the initial weights of ``seed``; the global random state is left as it was.

    The weights of convolutions lie channels last in memory, which is their fast way on GPUs and on CPUs.

    Args:
        factors: ``model`` (a name that fits one in `MODELS`), ``width`` (a multiple of its channels or units) and
            ``norm``.
        input_shape: Shape of one example: ``(features,)``, ``(channels, length)`` or ``(channels, height, width)``.
        classes: Number of outputs.
        seed: Root seed of the run.

    Raises:
        ValueError: there is no such network, or it can't be built with these factors.
    """
    form = form_of(str(factors["model"]), MODELS)
    if form is None:
        raise ValueError(f"model = {factors['model']!r} was given; available are {', '.join(MODELS)}")
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "initial weights"))
        return MODELS[form](factors, input_shape, classes).to(memory_format=torch.channels_last)


__all__ = ["MODELS", "NORMS", "build_model"]
