"""Training and evaluation mode, module by module: what a pass needs for a while, and back to the user's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Give each module its own mode back at the end of the block, whatever happens to it inside.

    `model.train()` would thaw what its owner keeps in eval mode: a frozen BatchNorm, a dropout that is off. A module
    whose `train` does more than setting a flag is told by it.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout())
        >>> _ = model[0].eval()
        >>> with modes_kept(model):
        ...     _ = model.eval()
        >>> [module.training for module in model]
        [False, True]
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        try:
            for module, mode in modes:
                if module.training != mode:
                    module.train(mode)
        finally:
            for module, mode in modes:
                module.training = mode


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode for the block; each module gets its own mode back."""
    with modes_kept(model):
        model.eval()
        yield
