"""Say that weights have moved, to those who keep something that was computed of them."""

import torch

from wasam_core.bare_torch import forget_parametrized


def weights_moved() -> None:
    """Let whatever reads a model's tensors next see the values that they have now.

    Call it after every write to them in place, and after every exchange of their storage. An autocast block keeps the
    low-precision copies of the weights that it has made until the outermost block ends, also a disabled one, and
    `torch.nn.utils.parametrize.cached` keeps what it has computed of them: both would answer with the old weights.

    Example:
        >>> layer, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     before = layer(x)
        ...     with torch.no_grad():
        ...         _ = layer.weight.fill_(3.0)
        ...     weights_moved()
        ...     layer(x).item()
        3.0
    """
    torch.clear_autocast_cache()
    forget_parametrized()
