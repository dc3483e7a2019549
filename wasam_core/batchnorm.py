"""BatchNorm statistics: keep them during a pass that must not count, or compute them exactly."""

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

# Batch statistics are kept as they come and merged this many at a time: few small operations per
# batch, and little memory however long the pass is.
MERGE_EVERY = 64


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
        # The dicts outlive model.to(device), which replaces the tensors in them.
        self._tables = None if model is None else [m._buffers for m in model.modules()]
        self._buffers: list[Tensor] = []
        self._copies: list[Tensor] = []
        self._seen: set[nn.Module] = set()
        self._unhook: weakref.finalize[..., BufferGuard] | None = None

    def hold(self) -> None:
        """Copy the buffers away."""
        self.release()
        if self._tables is None:
            this = weakref.ref(self)
            handle = register_module_forward_pre_hook(lambda layer, _: _hold_layer(this(), layer))
            # Runs at release(), or when the guard is dropped without it, so that no hook stays behind.
            self._unhook = weakref.finalize(self, handle.remove)
        else:
            self._keep(b for table in self._tables for b in table.values())

    def release(self) -> None:
        """Copy them back; nothing happens without a `hold` before."""
        if self._unhook is not None:
            self._unhook()
            self._unhook = None
            self._seen.clear()
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._copies)
            self._buffers, self._copies = [], []

    def hold_layer(self, layer: nn.Module) -> None:
        """Copy one layer's buffers away, unless that has been done."""
        if layer not in self._seen:
            self._seen.add(layer)
            self._keep(layer._buffers.values())

    def _keep(self, buffers: Iterable[Tensor | None]) -> None:
        present = [b.detach() for b in buffers if b is not None]
        self._buffers += present
        self._copies += [b.clone() for b in present]


def _hold_layer(guard: BufferGuard | None, layer: nn.Module) -> None:
    if guard is not None and isinstance(layer, _NormBase):
        guard.hold_layer(layer)


@contextmanager
def frozen_batchnorm_statistics(model: nn.Module | None = None) -> Iterator[None]:
    """Let passes inside the block leave no trace in the model's buffers.

    BatchNorm still normalizes by the batch, so the gradients are those of training mode; the
    running statistics (and every other buffer) get their old values back at the end of the block,
    also if it raises.

    Args:
        model: the model, compiled or wrapped as it may be. None protects the running statistics
            of every normalization layer that runs in the block; it cannot see inside a compiled
            model.

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


@dataclass
class _Moments:
    """Count, mean and sum of squared deviations of one layer's inputs, merged from batches."""

    layer: _BatchNorm
    n: float = 0.0
    mean: Tensor | None = None
    deviation: Tensor | None = None
    pending: list[tuple[float, Tensor, Tensor]] = field(default_factory=list)

    def add(self, n: float, mean: Tensor, biased_var: Tensor) -> None:
        self.pending.append((n, mean, biased_var))
        if len(self.pending) >= MERGE_EVERY:
            self.merge()

    def merge(self) -> None:
        """Fold the pending batches in: within-batch plus between-batch deviation, in float64."""
        if not self.pending:
            return
        like = self.pending[0][1]
        counts = torch.tensor([n for n, _, _ in self.pending], dtype=torch.float64)
        means = torch.stack([m for _, m, _ in self.pending]).double()
        deviations = torch.stack([v for _, _, v in self.pending]).double()
        counts = counts.to(like.device)[:, None]
        deviations *= counts
        self.pending.clear()
        if self.mean is not None and self.deviation is not None:
            counts = torch.cat([counts.new_tensor([[self.n]]), counts])
            means = torch.cat([self.mean[None], means])
            deviations = torch.cat([self.deviation[None], deviations])
        self.n = float(counts.sum())
        self.mean = (counts * means).sum(0) / self.n
        self.deviation = (deviations + counts * (means - self.mean).square()).sum(0)

    def reduce(self, group: dist.ProcessGroup | None) -> None:
        """Merge the moments of all processes of `group`."""
        features = self.layer.num_features
        device = next(b.device for b in self.layer.buffers())
        mean = torch.zeros(features, dtype=torch.float64, device=device)
        deviation = torch.zeros_like(mean)
        if self.mean is not None and self.deviation is not None:
            mean, deviation = self.mean, self.deviation
        totals = torch.cat([mean.new_tensor([self.n]), mean * self.n])
        dist.all_reduce(totals, group=group)
        n = float(totals[0])
        if n == 0:
            return
        common = totals[1:] / n
        deviation = deviation + self.n * (mean - common).square()
        dist.all_reduce(deviation, group=group)
        self.n, self.mean, self.deviation = n, common, deviation


ForwardFn = Callable[[nn.Module, Any], object]


@torch.no_grad()
def recalibrate_batchnorm(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward_fn: ForwardFn | None = None,
    limit: int | None = None,
    device: torch.device | str | None = None,
    process_group: dist.ProcessGroup | None = None,
) -> int:
    """Set the running statistics of BatchNorm to the population's, in one forward pass.

    Averaged weights have other activations than the weights they were made of, so they need
    statistics of their own. With n_b values per channel, mean m_b and biased variance v_b in
    batch b, N = sum n_b:
        mean = sum n_b m_b / N,   var = sum n_b (v_b + (m_b - mean)²) / N.
    Batches count by their size, and the variance between batches is part of the variance. Layers
    normalize by the batch during the pass, as in training; all other modules run in eval mode, so
    that dropout is off, as it will be when the statistics are used, and draws no random numbers.

    Args:
        model: the model; also compiled (it runs uncompiled here) or in DistributedDataParallel.
            Layers in eval mode inside a model in training mode, layers with momentum 0 and layers
            without running statistics are left alone. If the whole model is in eval mode, no
            layer counts as frozen by that.
        batches: an iterable, such as a DataLoader: tensors, or tuples whose first entry is the
            model's input, or anything that `forward_fn` understands.
        forward_fn: called as `forward_fn(model, batch)`; for dicts and for models of several
            inputs.
        limit: use at most this many batches (≥ 1); None uses all.
        device: move the tensors of each batch there first.
        process_group: combine the statistics of all its processes; taken from the model if that is
            a DistributedDataParallel.

    Returns:
        The number of examples (length of the first tensor of each batch, summed), for `Cost`.

    Raises:
        ValueError: if there is no batch, or limit < 1.
        TypeError: if a batch is neither tensor nor tuple and there is no `forward_fn`.
        Whatever the loader or the model raises: the model is then as it was before.

    Source: Izmailov et al. 2018 (arXiv 1803.05407), section 3.2; Chan et al. 1979 for merging.

    Differs from: `torch.optim.swa_utils.update_bn`, which weights batches equally, leaves the
        variance between batches out, overwrites frozen layers, runs dropout, and leaves
        momentum = None behind if the loader raises.

    Example:
        >>> layer = nn.BatchNorm1d(1)
        >>> recalibrate_batchnorm(layer, [torch.tensor([[0.0], [2.0]]), torch.tensor([[7.0]])])
        3
        >>> layer.running_mean, layer.running_var
        (tensor([3.]), tensor([8.6667]))
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit = {limit!r}: use at least one batch, or None for all of them.")
    if isinstance(model, DistributedDataParallel):
        process_group = process_group or model.process_group
        model = model.module
    forward_fn = forward_fn or _forward_first
    moments = [_Moments(layer) for layer in _layers_to_recalibrate(model)]
    if not moments:
        return 0
    examples = count = 0
    with ExitStack() as stack:
        guard = BufferGuard(model)
        guard.hold()
        stack.callback(guard.release)
        stack.enter_context(_uncompiled())
        stack.enter_context(_measuring(model, moments))
        for batch in islice(batches, limit):
            moved = batch if device is None else _to_device(batch, device)
            forward_fn(model, moved)
            examples += _batch_size(moved)
            count += 1
        if count == 0:
            raise ValueError("There is no batch to recalibrate BatchNorm with: batches is empty.")
        for m in moments:
            m.merge()
            if process_group is not None:
                m.reduce(process_group)
    for m in moments:
        _write(m, count)
    return examples


def _uncompiled() -> AbstractContextManager[object]:
    # A compiled graph would not run hooks that came after it. Without torch._dynamo nothing can be
    # compiled, and importing it takes seconds.
    if "torch._dynamo" in sys.modules:
        return cast(AbstractContextManager[object], torch.compiler.set_stance("force_eager"))
    return nullcontext()


def _layers_to_recalibrate(model: nn.Module) -> list[_BatchNorm]:
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm)
        and layer.track_running_stats
        and layer.momentum != 0.0
        and (layer.training or not model.training)
    ]


@contextmanager
def _measuring(model: nn.Module, moments: list[_Moments]) -> Iterator[None]:
    """Run the layers so that each forward hands its batch's moments over."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(m.layer, m.layer.momentum) for m in moments]
    handles: list[RemovableHandle] = []
    try:
        model.eval()
        for m in moments:
            m.layer.train()
            # With momentum 1 the layer itself leaves the batch's own moments behind.
            m.layer.momentum = 1.0
            if m.layer.running_mean is not None and m.layer.running_var is not None:
                # momentum 1 multiplies the old values by 0, which nan and inf would survive.
                m.layer.running_mean.zero_()
                m.layer.running_var.fill_(1.0)
            measure = _Measure(m)
            handles.append(m.layer.register_forward_pre_hook(measure.before))
            handles.append(m.layer.register_forward_hook(measure.after))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, momentum in momenta:
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode


class _Measure:
    """The two hooks round one layer's forward."""

    def __init__(self, moments: _Moments) -> None:
        self.moments = moments
        # SyncBatchNorm leaves the moments of all processes behind, and 16-bit running statistics
        # are too coarse: both are computed from the input instead.
        layer = moments.layer
        assert layer.running_mean is not None
        coarse = torch.finfo(layer.running_mean.dtype).bits < 32
        self.directly = coarse or isinstance(layer, nn.SyncBatchNorm)

    def before(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        # One value per channel has no variance to normalize by, and torch refuses it: such a
        # batch is normalized by the statistics of the one before.
        if _values_per_channel(args[0]) == 1:
            layer.training = False

    def after(self, layer: nn.Module, args: tuple[Tensor, ...], _: object) -> None:
        assert isinstance(layer, _BatchNorm)
        x = args[0]
        n = _values_per_channel(x)
        if self.directly or n == 1:
            values = x.double().transpose(0, 1).flatten(1) if x.dim() > 1 else x.double()[:, None]
            var, mean = torch.var_mean(values, dim=1, correction=0)
            self.moments.add(n, mean, var)
        else:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            biased = layer.running_var * ((n - 1) / n)
            self.moments.add(n, layer.running_mean.clone(), biased)
        layer.training = True


def _values_per_channel(x: Tensor) -> int:
    return x.numel() // x.shape[1]


def _write(m: _Moments, batches: int) -> None:
    layer = m.layer
    if m.mean is None or m.deviation is None:
        return
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(m.mean)
    layer.running_var.copy_(m.deviation / m.n)
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.fill_(batches)


def _forward_first(model: nn.Module, batch: Any) -> object:
    if isinstance(batch, Tensor):
        return model(batch)
    if isinstance(batch, list | tuple) and batch and isinstance(batch[0], Tensor):
        return model(batch[0])
    raise TypeError(
        f"A batch is a {type(batch).__name__}, and only tensors, or tuples that begin with the "
        "input tensor, are understood without help: give forward_fn, for example "
        'forward_fn=lambda model, batch: model(batch["x"], batch["mask"]).'
    )


def _to_device(batch: Any, device: torch.device | str) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: _to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_to_device(value, device) for value in batch)
    return batch


def _batch_size(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    values = batch.values() if isinstance(batch, dict) else batch
    if isinstance(values, list | tuple) or isinstance(batch, dict):
        return next((size for size in map(_batch_size, values) if size), 0)
    return 0
