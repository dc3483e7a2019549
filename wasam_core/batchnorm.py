"""BatchNorm recalibration: exact running statistics for weights that were never trained with."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import islice
from typing import Any, TypeGuard, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from wasam_core.agreement import refuse_joining
from wasam_core.bare_torch import AnyBatchNorm, AnyInstanceNorm, nothing_compiles
from wasam_core.buffers import frozen_batchnorm_statistics
from wasam_core.memory import tensors_in
from wasam_core.modes import modes_kept
from wasam_core.moments import Moments, NormLayer, measuring
from wasam_core.moved import weights_moved
from wasam_core.options import whole

# How the classes of layers that keep statistics end in a scripted model, which has none of the layers themselves.
_SCRIPTED = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")

ForwardFn = Callable[[nn.Module, Any], object]


@torch.no_grad()
def recalibrate_batchnorm(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward_fn: ForwardFn | None = None,
    limit: int | None = None,
    device: torch.device | str | None = None,
) -> int:
    """Set the running statistics of BatchNorm to the population's, in one forward pass.

    Averaged weights have other activations than the weights they were made of, so they need statistics of their own.
    With n_b values per channel, mean m_b and biased variance v_b in batch b, N = sum n_b:
        mean = sum n_b m_b / N,   var = sum n_b (v_b + (m_b - mean)²) / N.
    Batches count by their size, and the variance between batches is part of the variance. Layers
    normalize by the batch during the pass, as in training; all other modules run in eval mode, so
    that dropout is off, as it will be when the statistics are used, and draws no random numbers.
    InstanceNorm layers that keep statistics get the means over all instances of what torch's layer
    collects of each. Layers that only resemble these (no subclasses of torch's) keep what they have.

    Args:
        model: the model; also compiled (it runs uncompiled here), or in DistributedDataParallel, whose processes get
            the statistics of all of them together.
            Layers in eval mode inside a model in training mode, layers with momentum 0 and layers
            without running statistics are left alone. If the whole model is in eval mode, those
            are frozen that its `train()` leaves there. Each module's mode is what it was, afterwards.
        batches: an iterable, such as a DataLoader: tensors, or tuples whose first entry is the
            model's input, or anything that `forward_fn` understands.
        forward_fn: called as `forward_fn(model, batch)`; for dicts and for models of several inputs.
        limit: use at most this many batches (≥ 1); None uses all.
        device: move the tensors of each batch there first.

    Returns:
        The number of examples (length of the first tensor of each batch, summed), for `Cost`.

    Raises:
        RuntimeError: inside `join()` of a DistributedDataParallel, where not all processes answer.
        ValueError: if there is no batch, limit < 1, a lazy layer has not seen an input yet, or the model is scripted.
        TypeError: if a batch is neither tensor nor tuple and there is no `forward_fn`.
        Whatever the loader or the model raises: the model is then as it was before.

    Source: Izmailov et al. 2018 (arXiv 1803.05407), section 3.2; Chan et al. 1979 for merging.

    Differs from: `torch.optim.swa_utils.update_bn`, which weights batches equally, leaves the variance between batches
        out, overwrites frozen layers, runs dropout, and leaves momentum = None behind if the loader raises.

    Example:
        >>> layer = nn.BatchNorm1d(1)
        >>> recalibrate_batchnorm(layer, [torch.tensor([[0.0], [2.0]]), torch.tensor([[7.0]])])
        3
        >>> layer.running_mean, layer.running_var
        (tensor([3.]), tensor([8.6667]))
    """
    if limit is not None:
        whole("limit", limit, least=1)
    process_group: dist.ProcessGroup | None = None
    if isinstance(model, DistributedDataParallel):
        refuse_joining(model, "recalibrate_batchnorm")
        process_group, model = model.process_group, model.module
    forward_fn = forward_fn or _forward_first
    moments = [Moments(layer) for layer in _layers_to_recalibrate(model)]
    if not moments:
        return 0
    examples = count = 0
    with ExitStack() as stack:
        stack.enter_context(frozen_batchnorm_statistics(model))
        stack.enter_context(_uncompiled())
        stack.enter_context(measuring(model, moments))
        for batch in islice(batches, limit):
            moved = batch if device is None else _to_device(batch, device)
            forward_fn(model, moved)
            examples += next((len(t) if t.dim() else 1 for t in tensors_in(moved) if t.numel()), 0)
            count += 1
        if _sum_over_processes(count, moments[0], process_group) == 0:
            raise ValueError("There is no batch to recalibrate BatchNorm with: batches is empty.")
        for m in moments:
            m.merge()
            if process_group is not None:
                m.reduce(process_group)
    found = [pair for m in moments for pair in m.found(count)]
    if found:
        # In one call, so that an interrupt finds all of it done or nothing.
        torch._foreach_copy_([buffer for buffer, _ in found], [value for _, value in found])
    weights_moved()
    return examples


def _uncompiled() -> AbstractContextManager[object]:
    # A compiled graph would not run hooks that came after it.
    if nothing_compiles():
        return nullcontext()
    return cast(AbstractContextManager[object], torch.compiler.set_stance("force_eager"))


def _sum_over_processes(count: int, m: Moments, group: dist.ProcessGroup | None) -> int:
    if group is None:
        return count
    total = torch.tensor(count, device=next(b.device for b in m.layer.buffers()))
    dist.all_reduce(total, group=group)
    return int(total)


def _layers_to_recalibrate(model: nn.Module) -> list[NormLayer]:
    with modes_kept(model):
        if not model.training:
            model.train()  # shows which layers are frozen by a `train` of their owner's
        return [layer for layer in model.modules() if _keeps_statistics(layer) and layer.training]


def _keeps_statistics(layer: nn.Module) -> TypeGuard[NormLayer]:
    if isinstance(layer, ScriptModule) and layer.original_name.endswith(_SCRIPTED):
        raise ValueError(
            f"A {layer.original_name} is part of a scripted model, in which nobody can look at its inputs: set the "
            "statistics of the model before torch.jit.script, or of the one that it was made of."
        )
    if (
        not isinstance(layer, AnyBatchNorm | AnyInstanceNorm)
        or not layer.track_running_stats
        or layer.running_mean is None
    ):
        return False
    if is_lazy(layer.running_mean):
        raise ValueError(
            f"A {type(layer).__name__} has not seen an input yet, and so has no statistics: run the model once, on any "
            "batch, before its weights are averaged or its statistics set."
        )
    # torch's InstanceNorm takes no momentum for one of 0.
    return layer.momentum != 0.0 and not (isinstance(layer, AnyInstanceNorm) and layer.momentum is None)


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
