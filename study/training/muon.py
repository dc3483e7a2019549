"""Muon as a user would take it: its steps for the hidden layers' matrices and kernels, AdamW's for the rest."""

from typing import Any

from torch.optim import Optimizer

ADAMW_SCALE = 0.1  # AdamW's rate in that of Muon: the steps of the latter have the size of a whole matrix


def muon(params: list[dict[str, Any]], lr: float, weight_decay: float, momentum: float = 0.95) -> Optimizer:
    """Return `pytorch_optimizer.Muon` over a network's parameters, in the order in which data go through them.

    Args:
        params: Groups of parameters.
        lr: Of the hidden layers; AdamW, which has vectors and the last layer, takes a tenth of it.
        weight_decay: Of matrices and kernels, decoupled.
        momentum: Of Muon, in [0, 1).

    Source: Jordan 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    from pytorch_optimizer import Muon  # noqa: PLC0415  # a package that only this method needs

    tensors = [p for group in params for p in group["params"]]
    matrices = [p for p in tensors if p.ndim > 1]
    hidden = matrices[:-1]
    inside = {*map(id, hidden)}
    rest = [p for p in tensors if id(p) not in inside]
    made: Optimizer = Muon(
        [
            {"params": hidden, "lr": lr, "weight_decay": weight_decay, "use_muon": True},
            {"params": rest, "lr": lr * ADAMW_SCALE, "lr_scale": ADAMW_SCALE, "weight_decay": 0.0, "use_muon": False},
        ],
        momentum=momentum,
    )
    return made
