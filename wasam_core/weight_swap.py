"""The exchange of a model's weights for others, and back."""

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

from wasam_core.lookup import Place, put_back
from wasam_core.memory import lasting_memory, snapshot
from wasam_core.moved import note_away, note_back, weights_moved
from wasam_core.running_means import check_shapes


class WeightSwap:
    """Exchange weights in place and put the old ones back, buffers included, bit for bit.

    Values return to the same tensors at the same addresses, and the tensors to their modules, whatever is converted or
    loaded in between. A buffer that has changed its shape meanwhile, as a cache does, stays.

    Args:
        parameters: the tensors to exchange.
        places: where modules keep these and their buffers; all tensors found there are kept and return.
        written: those that a pass through the model may write to, which is no training.
    """

    def __init__(
        self, parameters: Sequence[Tensor], places: Iterable[Place] = (), written: Collection[Tensor] = ()
    ) -> None:
        self._parameters = list(parameters)
        self._watched = [p for p in parameters if p not in written]
        self._places: list[Place] = []
        self._kept: dict[Tensor, tuple[Tensor, Tensor]] = {}  # by tensor: its storage, and a copy of its values
        self._versions: list[int | None] = []
        self._keep(self._parameters)
        self.keep_places(places)

    def keep_places(self, places: Iterable[Place]) -> None:
        """Let further tensors return as they are now, and to where they are now; those kept already do."""
        found = list(places)
        self._places += found
        self._keep(tensor for _, _, tensor in found)

    def _keep(self, tensors: Iterable[Tensor]) -> None:
        new = [t for t in tensors if t not in self._kept]
        self._kept |= {t: (t.detach(), copy) for t, copy in zip(new, snapshot(new), strict=True)}

    def put(self, values: Sequence[Tensor]) -> None:
        """Write `values` into the parameters, in the parameters' dtype and storage.

        Raises:
            ValueError: if they are not as many or not of the same shapes; nothing has changed then.
        """
        check_shapes(self._parameters, values)
        note_away(self, self._parameters)
        try:
            _write(self._parameters, values)
            self._versions = _versions(self._watched)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> bool:
        """Put everything back; return whether the parameters were changed or replaced since `put`."""
        changed = self._versions != _versions(self._watched)
        try:
            return self._undo() or changed
        except BaseException:
            self._undo()  # all is still kept: what an interrupt has left half done is done again
            raise
        finally:
            note_back(self)

    def _undo(self) -> bool:
        replaced = [place[2] for place in self._places if put_back(place)]
        for tensor, (home, _) in self._kept.items():
            if _at(tensor) != _at(home):
                tensor.data = home
        same = {t: copy for t, (_, copy) in self._kept.items() if t.shape == copy.shape}
        _write(list(same), list(same.values()))
        return any(one is p for one in replaced for p in self._watched)


def _write(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    # A tensor that was made in inference mode can be written to there alone.
    stuck = any(t.is_inference() for t in tensors)
    with torch.inference_mode() if stuck else lasting_memory():
        if tensors:
            torch._foreach_copy_(list(tensors), list(values))
    weights_moved()


def _versions(tensors: Iterable[Tensor]) -> list[int | None]:
    return [None if t.is_inference() else t._version for t in tensors]


def _at(tensor: Tensor) -> tuple[torch.dtype, torch.device, int]:
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return tensor.dtype, tensor.device, tensor.untyped_storage().data_ptr() if plain else 0
