"""Mean and variance of what goes into normalization layers, over a whole pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wasam_core.bare_torch import AnyBatchNorm, AnyInstanceNorm, dims_of_one
from wasam_core.modes import modes_kept

NormLayer = AnyBatchNorm | AnyInstanceNorm

# Batch statistics are kept as they come and merged this many at a time: few small operations per batch, and little
# memory however long the pass is.
MERGE_EVERY = 64


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of one layer's inputs, merged from batches.

    What counts are values per channel; of an InstanceNorm, which normalizes each instance by itself, it is instances,
    and the variance that it keeps is the mean of theirs: what lies between them is no part of it.
    """

    layer: NormLayer
    n: float = 0.0
    mean: Tensor | None = None
    deviation: Tensor | None = None
    pending: list[tuple[float, Tensor, Tensor]] = field(default_factory=list)

    def add(self, n: float, mean: Tensor, biased_var: Tensor) -> None:
        """Take in one batch: values per channel, their mean and their variance."""
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
        between = (means - self.mean).square() if isinstance(self.layer, AnyBatchNorm) else 0.0
        self.deviation = (deviations + counts * between).sum(0)

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
        if isinstance(self.layer, AnyBatchNorm):
            deviation = deviation + self.n * (mean - common).square()
        dist.all_reduce(deviation, group=group)
        self.n, self.mean, self.deviation = n, common, deviation

    def found(self, batches: int) -> list[tuple[Tensor, Tensor]]:
        """Return the layer's buffers and what is to be written into them; a layer that never ran keeps its own."""
        layer = self.layer
        if self.mean is None or self.deviation is None:
            return []
        assert layer.running_mean is not None
        assert layer.running_var is not None
        pairs = [(layer.running_mean, self.mean), (layer.running_var, self.deviation / self.n)]
        if layer.num_batches_tracked is not None:
            pairs.append((layer.num_batches_tracked, torch.full_like(layer.num_batches_tracked, batches)))
        return pairs


@contextmanager
def measuring(model: nn.Module, moments: list[Moments]) -> Iterator[None]:
    """Run the layers so that each forward hands its batch's moments over."""
    momenta = [(m.layer, m.layer.momentum) for m in moments]
    handles: list[RemovableHandle] = []
    with modes_kept(model):
        try:
            model.eval()
            for m in moments:
                m.layer.train()
                measure = _Measure(m)
                if measure.known:
                    # With momentum 1 the layer itself leaves the batch's own moments behind.
                    m.layer.momentum = 1.0
                    if m.layer.running_mean is not None and m.layer.running_var is not None:
                        # momentum 1 multiplies the old values by 0, which nan and inf would survive.
                        m.layer.running_mean.zero_()
                        m.layer.running_var.fill_(1.0)
                handles.append(m.layer.register_forward_pre_hook(measure.before))
                handles.append(m.layer.register_forward_hook(measure.after))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for layer, momentum in momenta:
                layer.momentum = momentum


class _Measure:
    """The two hooks round one layer's forward."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        # SyncBatchNorm leaves the moments of all processes behind, 16-bit running statistics are too coarse, and what
        # a forward of somebody else's does with them is not known: these are computed from the input instead.
        layer = moments.layer
        assert layer.running_mean is not None
        coarse = torch.finfo(layer.running_mean.dtype).bits < 32
        self.known = type(layer).forward in (AnyBatchNorm.forward, nn.SyncBatchNorm.forward)
        self.directly = coarse or not self.known or isinstance(layer, nn.SyncBatchNorm)

    def before(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        # One value per channel has no variance to normalize by, and torch refuses it: such a
        # batch is normalized by the statistics of the one before.
        if isinstance(layer, AnyBatchNorm) and _values_per_channel(args[0]) == 1:
            layer.training = False

    def after(self, layer: nn.Module, args: tuple[Tensor, ...], _: object) -> None:
        x = args[0]
        if isinstance(layer, AnyInstanceNorm):
            batched = x if x.dim() > dims_of_one(layer) else x[None]
            # Unbiased, as torch's layer collects it.
            var, mean = torch.var_mean(batched.double().flatten(2), dim=2)
            self.moments.add(len(batched), mean.mean(0), var.mean(0))
            return
        assert isinstance(layer, AnyBatchNorm)
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
