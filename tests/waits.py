"""Count the calls that let the host wait for an accelerator, also where none is there."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "item", "masked_select"}


class Waits(TorchDispatchMode):
    """Keep the names of the calls in the block that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING or (name in ("_to_copy", "copy_") and _comes_to_the_host(name, args, kwargs or {})):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def _comes_to_the_host(name: str, args: Any, kwargs: Any) -> bool:
    source, target = (args[1], args[0].device) if name == "copy_" else (args[0], kwargs.get("device"))
    return source.device.type != "cpu" and target is not None and torch.device(target).type == "cpu"
