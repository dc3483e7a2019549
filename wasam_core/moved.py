"""Say that weights have moved: to those who keep something that was computed of them, and to those who read them."""

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from wasam_core.bare_torch import forget_parametrized

_away: WeakKeyDictionary[object, Sequence[Tensor]] = WeakKeyDictionary()  # what somebody will put back, by who will


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


def note_away(holder: object, tensors: Sequence[Tensor]) -> None:
    """Note that `tensors` hold other values than the trained ones until `holder` says that they are back."""
    _away[holder] = tensors


def note_back(holder: object) -> None:
    """Note that what `holder` has moved is back."""
    _away.pop(holder, None)


def refuse_away(call: str, tensors: Iterable[Tensor]) -> None:
    """Refuse `call`, which reads trained weights, where one of `tensors` is perturbed or swapped, by whomever."""
    if _away:
        asked = {*tensors}
        if not all(asked.isdisjoint(held) for held in [*_away.values()]):
            raise RuntimeError(
                f"{call}() while the weights are perturbed, or hold an average: they return at the end of that step or "
                "block. Call it before or after."
            )
