"""What the processes of a DistributedDataParallel model settle among themselves, beside the gradients.

Inside `model.join()`, processes that have run out of batches answer the collective calls of the others' forward and
backward passes, and no further one: there, nothing of ours may be asked of them.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wasam_core.verdicts import Verdict


def agreed(finite: Verdict, model: DistributedDataParallel) -> Verdict:
    """Return whether all processes found their gradients finite, so that all skip a step if one of them must.

    Inside `join()` it is this process's own answer: gradients are averages over all processes there, and the same in
    each of them (see `refuse_local_ascent`).
    """
    if _joining(model):
        return finite
    far = isinstance(finite, Tensor)
    flag = torch.as_tensor(finite, dtype=torch.float32, device=next(model.parameters()).device)
    dist.all_reduce(flag, dist.ReduceOp.MIN, group=model.process_group)
    return flag > 0 if far else bool(flag)


def check_static_graph(model: nn.Module | None, local_ascent: bool) -> None:
    """Refuse what torch answers with an internal assertion: a static graph whose first pass is not synchronized."""
    if local_ascent and isinstance(model, DistributedDataParallel) and model.static_graph:
        raise ValueError(
            "local_ascent=True takes the clean pass without synchronization (no_sync), which a DistributedDataParallel "
            "with static_graph=True does not allow: build it without static_graph, or leave local_ascent out."
        )


def refuse_local_ascent(model: DistributedDataParallel) -> None:
    """Inside `join()`, refuse an ascent along this process's own gradient: whether to skip could not be agreed on."""
    if _joining(model) and not model.require_forward_param_sync:
        raise RuntimeError(
            "The clean pass ran without synchronization (local_ascent=True, or no_sync) inside model.join(), where "
            "processes cannot agree to skip a step: leave it synchronized, or give every process the same number of "
            "batches (DistributedSampler does) and leave join() out."
        )


def refuse_joining(model: DistributedDataParallel, call: str) -> None:
    """Refuse `call`, which asks something of all processes, inside `join()`."""
    if _joining(model):
        raise RuntimeError(f"{call}() inside model.join(), where not all processes answer: call it after the block.")


def _joining(model: DistributedDataParallel) -> bool:
    return bool(cast(Any, model)._join_config.enable)
