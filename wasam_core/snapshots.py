"""Copies of nested states that share no memory with what they were made of."""

from typing import Any

import torch
from torch import Tensor


def snapshot(value: Any) -> Any:
    """Return a copy whose tensors are copies too, wherever they lie in dicts, lists and tuples.

    They may be written to wherever they are used later, also if the copy is made inside `torch.inference_mode()`.

    Example:
        >>> weights = torch.zeros(1)
        >>> copied = snapshot({"state": [weights]})
        >>> _ = weights.fill_(5.0)
        >>> copied
        {'state': [tensor([0.])]}
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        return _copied(value)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    return value
