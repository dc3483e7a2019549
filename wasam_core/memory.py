"""Tensors wherever they lie in nested values, and copies of them that outlive the block in which they are made."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from wasam_core.bare_torch import grad_off


def lasting_memory() -> AbstractContextManager[object]:
    """Return a block without gradients whose new tensors may be written to wherever they are used later.

    Those that are made inside `torch.inference_mode()`, where validation hooks often run, may not.

    Example:
        >>> with torch.inference_mode(), lasting_memory():
        ...     memory = torch.zeros(1)
        >>> memory.add_(1.0)
        tensor([1.])
    """
    return _out_of_inference_mode() if torch.is_inference_mode_enabled() else grad_off()


@contextmanager
def _out_of_inference_mode() -> Iterator[None]:
    with torch.inference_mode(mode=False), grad_off():
        yield


def snapshot(value: Any) -> Any:
    """Return a copy whose tensors are copies too, in lasting memory, wherever they lie in dicts, lists and tuples."""
    with lasting_memory():
        return _copied(value)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    return value


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors of a value, wherever they lie in dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(entry)
