"""Buffers of a model: give them back the values they had before a pass that must not count."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from wasam_core.bare_torch import AnyNorm
from wasam_core.lookup import Lookup, Place, buffer_places, put_back
from wasam_core.moved import weights_moved


class BufferGuard:
    """Give every buffer of a model the value back that it had at `hold`.

    With a model, all its buffers are copied: running statistics, and whatever else a forward pass
    in training mode may change. Without one, the running statistics of each normalization layer
    that runs between `hold` and `release` are copied just before it first runs; a hook on all
    modules, present only in between, finds them.

    Args:
        model: the model, or None.

    Example:
        >>> layer = nn.BatchNorm1d(1)
        >>> guard = BufferGuard(layer)
        >>> guard.hold()
        >>> _ = layer(torch.tensor([[4.0], [6.0]]))
        >>> guard.release()
        >>> layer.running_mean
        tensor([0.])
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._lookup = None if model is None else Lookup(model)
        self._places: list[Place] = []
        self._copies: list[Tensor] = []
        self._seen: set[nn.Module] = set()
        self._unhook: weakref.finalize[..., BufferGuard] | None = None

    def hold(self) -> None:
        """Copy the buffers away."""
        self.release()
        if self._lookup is None:
            this = weakref.ref(self)
            handle = register_module_forward_pre_hook(lambda layer, _: _hold_layer(this(), layer))
            # Runs at release(), or when the guard is dropped without it, so that no hook stays behind.
            self._unhook = weakref.finalize(self, handle.remove)
            return
        places = self._lookup.buffer_places()
        if places:
            self._keep(places)

    def release(self) -> None:
        """Copy them back, also where a pass has put another tensor in their place; nothing happens without a `hold`."""
        if self._unhook is not None:
            self._unhook()
            self._unhook = None
            self._seen.clear()
        if self._places:
            for place in self._places:
                put_back(place)
            pairs = [(tensor.detach(), copy) for (_, _, tensor), copy in zip(self._places, self._copies, strict=True)]
            if any(buffer.shape != copy.shape for buffer, copy in pairs):  # a cache may have grown meanwhile
                pairs = [(buffer, copy) for buffer, copy in pairs if buffer.shape == copy.shape]
            if pairs:
                torch._foreach_copy_([buffer for buffer, _ in pairs], [copy for _, copy in pairs])
            weights_moved()
            self._places, self._copies = [], []

    def hold_layer(self, layer: nn.Module) -> None:
        """Copy one layer's buffers away, unless that has been done."""
        if layer not in self._seen:
            self._seen.add(layer)
            self._keep(buffer_places([layer]))

    def _keep(self, places: list[Place]) -> None:
        self._places += places
        self._copies += [tensor.detach().clone() for _, _, tensor in places]


def _hold_layer(guard: BufferGuard | None, layer: nn.Module) -> None:
    if guard is not None and isinstance(layer, AnyNorm):
        guard.hold_layer(layer)


@contextmanager
def frozen_batchnorm_statistics(model: nn.Module | None = None) -> Iterator[None]:
    """Let passes inside the block leave no trace in the model's buffers.

    BatchNorm still normalizes by the batch, so the gradients are those of training mode; the running statistics (and
    every other buffer) get their old values back at the end of the block, also if it raises.

    Args:
        model: the model, compiled or wrapped as it may be. None protects the running statistics of every normalization
            layer that runs in the block; it cannot see inside a compiled model.

    Differs from: the common `disable_running_stats`, which sets the momentum to 0 and loses it
        for good when it is called twice; here no attribute of any layer is touched.

    Example:
        >>> layer = nn.BatchNorm1d(1)
        >>> with frozen_batchnorm_statistics(layer):
        ...     _ = layer(torch.tensor([[4.0], [6.0]]))
        >>> layer.running_mean, layer.num_batches_tracked
        (tensor([0.]), tensor(0))
    """
    guard = BufferGuard(model)
    guard.hold()
    try:
        yield
    finally:
        guard.release()
