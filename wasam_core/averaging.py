"""Averages of the weights along one run: SWA from many starts, EMA at many decays, LAWA windows.

One object serves all of them. Epochs between two neighbouring SWA starts belong to the same set of
averages, so their mean is kept once, as a segment: every epoch updates one segment, whatever the
number of starts, and an average is the weighted mean of its segments. Nothing is subtracted, so
nothing is lost to rounding.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter, is_not
from typing import Any

import torch
from torch import Tensor, nn

from wasam_core.average_state import FORMAT, check_model, check_state
from wasam_core.lookup import Form, Lookup, buffer_places, forms_of, parameter_places, written_by_passes
from wasam_core.memory import lasting_memory, snapshot
from wasam_core.moved import refuse_away
from wasam_core.options import whole
from wasam_core.running_means import RunningMeans, accumulator_dtype
from wasam_core.verdicts import Verdict
from wasam_core.weight_swap import WeightSwap

_place = attrgetter("shape", "dtype", "device")


class WeightAverages:
    """Keep many averages of one model's weights along one training run.

    Call `update_step()` after every optimizer step (it feeds the EMAs) and `update(epoch)` after every epoch (it feeds
    SWA and LAWA). Evaluate inside `average_parameters(name)`. Names are "swa@0.75" (start as a fraction of
    `max_epochs`), "ema@0.998" (decay per step) and "lawa@6" (window in epochs).

    Cost: memory is one float32 copy of the weights per *distinct* start epoch, one per decay, and one copy in the
    weights' own dtype per epoch of the longest window. Time is one pass over the weights per epoch for all of SWA
    together, and one per decay every `ema_every` steps.

    Parameters and buffers are looked up by name each time, so that they may be replaced (a state dict that is assigned,
    a conversion) or frozen and thawed. Their names and shapes may change until the first weights are taken in.

    Args:
        model: the model whose parameters are averaged; frozen ones too, as they may thaw. Those of integers stay.
        swa_starts: fractions in [0, 1]. Start s takes in epoch e (1-based) if e >= int(s * max_epochs), and the last
            epoch in any case.
        max_epochs: length of the run in epochs; needed for `swa_starts`.
        ema_decays: decays per optimizer step, in [0, 1).
        ema_every: take in the weights every so many steps, with decay^ema_every: the same horizon at less cost.
        lawa_windows: numbers of latest epochs (≥ 1) to average.
        average_buffers: average floating-point buffers (BatchNorm statistics) as well, instead of leaving them to
            `recalibrate_batchnorm`. Integer buffers are never averaged.
        device: keep the averages there (for example "cpu" to spare an accelerator's memory).

    Raises:
        ValueError: for a fraction, decay or window out of its range.

    Source: SWA: Izmailov et al. 2018 (arXiv 1803.05407), eq. 2. EMA with bias correction: Kingma and Ba 2015 (arXiv
        1412.6980), section 3, applied to weights. LAWA: Kaddour 2022 (arXiv 2209.14981).

    Differs from: `torch.optim.swa_utils.AveragedModel`: no copy of the module is made; 16-bit
        weights are averaged in float32 (there, decay .999 in bfloat16 never moves); EMA does not
        lean on the first weights; many averages share one object, one update and one checkpoint.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> averages = WeightAverages(model, swa_starts=(0.5, 0.75), max_epochs=4)
        >>> for epoch in range(1, 5):
        ...     _ = model.weight.data.fill_(float(epoch))
        ...     averages.update(epoch)
        >>> with averages.average_parameters("swa@0.75"):
        ...     model.weight.item()
        3.5
        >>> model.weight.item()
        4.0
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        swa_starts: Iterable[float] = (),
        max_epochs: int | None = None,
        ema_decays: Iterable[float] = (),
        ema_every: int = 1,
        lawa_windows: Iterable[int] = (),
        average_buffers: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        self.model = model
        self.average_buffers = average_buffers
        self.ema_every = whole("ema_every", ema_every, least=1)
        self.last_epoch = 0
        self.steps = 0
        self._device = device
        self._max_epochs = max_epochs or 0
        self._swap: WeightSwap | None = None
        self._lookup = Lookup(model, buffers=average_buffers)
        # The tensors that were last taken in, or compared with them.
        self._forms: list[Form] = []
        self._named: dict[str, Tensor] = {}
        self._tensors: list[Tensor] = []
        self._places: list[tuple[torch.Size, torch.dtype, torch.device]] = []
        self._starts = {f"swa@{start!r}": _start_epoch(start, max_epochs) for start in sorted(map(float, swa_starts))}
        self._segments = {epoch: RunningMeans(device=device) for epoch in sorted(set(self._starts.values()))}
        decays = sorted({float(decay) for decay in ema_decays})
        self._decays = [f"ema@{decay!r}" for decay in decays]
        self._emas = RunningMeans([_decay(decay) ** self.ema_every for decay in decays], device)
        self._windows = {f"lawa@{window}": whole("lawa_windows", window, least=1) for window in sorted(lawa_windows)}
        self._snapshots: deque[list[Tensor]] = deque(maxlen=max(self._windows.values(), default=0))

    @property
    def names(self) -> tuple[str, ...]:
        """Name all averages, SWA by start, then EMA by decay, then LAWA by window."""
        return (*self._starts, *self._decays, *self._windows)

    @property
    def ready(self) -> tuple[str, ...]:
        """Name the averages that have taken in at least one set of weights."""
        return tuple(name for name in self.names if self.count(name))

    @property
    def nbytes(self) -> int:
        """Return the memory that the averages hold now, in bytes."""
        means = (*self._segments.values(), self._emas)
        snapshots = sum(t.numel() * t.element_size() for tensors in self._snapshots for t in tensors)
        return snapshots + sum(mean.nbytes for mean in means)

    def count(self, name: str) -> int:
        """Return how many sets of weights the average `name` has taken in.

        Raises:
            KeyError: if there is no average of that name.
        """
        if name in self._starts:
            return sum(segment.count for segment in self._segments_of(name))
        if name in self._decays:
            return self._emas.count
        if name in self._windows:
            return min(len(self._snapshots), self._windows[name])
        raise KeyError(f"There is no average {name!r}. There are: {', '.join(self.names)}.")

    @property
    def layout(self) -> list[str]:
        """Name the tensors of which the averages are, in the order in which `read` returns them."""
        return [name for name, _, _ in self._forms] if self.ready else [*self._lookup.tensors()]

    def start_epoch(self, name: str) -> int:
        """Return the first epoch (1-based) that the SWA average `name` takes in."""
        return self._starts[name]

    def update(self, epoch: int) -> None:
        """Take in the weights at the end of epoch `epoch` (1-based): SWA and LAWA.

        Raises:
            ValueError: if epochs do not come in increasing order, or are more than max_epochs where starts are
                fractions of these.
            RuntimeError: where weights are perturbed or swapped, here or by another object, or if the model has other
                parameters than those taken in before. Nothing has changed then.
        """
        self._refuse_swapped("update")
        if epoch <= self.last_epoch:
            raise ValueError(
                f"update({epoch}) after update({self.last_epoch}): call it once at the end of "
                "each epoch, with 1, 2, 3 ..."
            )
        if self._starts and epoch > self._max_epochs:
            raise ValueError(
                f"update({epoch}) with max_epochs = {self._max_epochs}: starts are fractions of the run, which is "
                "longer than was said. Give its whole length in epochs as max_epochs."
            )
        tensors = self._present("update")
        snapshots = []
        if self._windows:
            with lasting_memory():
                snapshots.append([t.detach().to(self._device, copy=True) for t in tensors])
        begun = [start for start in self._segments if start <= epoch]
        if begun:
            self._segments[max(begun)].update(tensors)
        self._snapshots.extend(snapshots)
        self.last_epoch = epoch

    def update_step(self, updated: Verdict = True) -> None:
        """Take in the weights after an optimizer step: EMA, every `ema_every` calls.

        Args:
            updated: `optimizer.updated` of a `WASAM`: after a skipped step the averages do not move either. On an
                accelerator, where it is a tensor that nobody has read, skipped steps count in `ema_every` and `steps`.

        Or let the optimizer call it, which lets an accelerator wait in every step:
        `optimizer.register_step_post_hook(lambda *_: averages.update_step())`.

        Raises:
            RuntimeError: as `update`.
        """
        if not self._decays or updated is False:
            return
        self._refuse_swapped("update_step")
        if (self.steps + 1) % self.ema_every == 0:
            tensors = self._present("update_step")
            self._emas.update(tensors, updated, self._places)
        self.steps += 1

    @contextmanager
    def average_parameters(self, name: str) -> Iterator[None]:
        """Put the average `name` into the model for the length of the block.

        Parameters and buffers return bit for bit at the end, also if the block raises or converts
        the model. Inside, recalibrate BatchNorm and evaluate; do not train.

        Raises:
            KeyError: if there is no average of that name.
            RuntimeError: if the average is empty yet, if the model has other parameters than it, if the block is
                entered twice, or if the block changed the parameters (the change is undone).
        """
        self._refuse_swapped("average_parameters")
        values = self._read(name)
        tensors = self._present("average_parameters")
        names = [*self._lookup.tensors()]
        modules = list(self.model.modules())
        swap = WeightSwap(tensors, parameter_places(modules) + buffer_places(modules), written_by_passes(modules))
        changed = False
        self._swap = swap
        try:
            swap.put(values)
            yield
        finally:
            try:
                changed = swap.undo()
            finally:
                self._swap = None
        if changed:
            raise RuntimeError(
                f'The parameters were changed inside average_parameters("{name}"). The change is '
                "undone: train outside the block, on the run's own weights."
            )
        now = self._lookup.tensors()
        if [*now] != names or any(map(is_not, now.values(), tensors)):
            raise RuntimeError(
                f'The model was rebuilt inside average_parameters("{name}"): the parameters that left it have their '
                "weights again, and it holds others. Add, replace and wrap modules outside the block."
            )

    def read(self, name: str) -> list[Tensor]:
        """Return a copy of the average `name`, one tensor per averaged parameter, in float32 at least.

        Raises:
            KeyError: if there is no average of that name.
            RuntimeError: if it has not taken in any weights yet.
        """
        values: list[Tensor] = snapshot(self._read(name))
        return values

    def _read(self, name: str) -> list[Tensor]:
        if not self.count(name):
            when = f"epoch {self._starts[name]}" if name in self._starts else "the first update"
            raise RuntimeError(
                f"The average {name!r} is empty until {when}, and the last epoch seen is "
                f"{self.last_epoch}. Ask only for the names in `ready`."
            )
        if name in self._decays:
            return self._emas.read(self._decays.index(name))
        if name in self._windows:
            parts = [(1, w) for w in list(self._snapshots)[-self._windows[name] :]]
        else:
            parts = [(s.count, s.read()) for s in self._segments_of(name) if s.count]
            if len(parts) == 1:
                return parts[0][1]
        total = sum(count for count, _ in parts)
        with lasting_memory():
            result = [torch.zeros_like(t, dtype=accumulator_dtype(t)) for t in parts[-1][1]]
            for count, values in parts:
                torch._foreach_add_(result, values, alpha=count / total)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return all averages and counters as they are now; `torch.load(weights_only=True)` can read it back.

        Raises:
            RuntimeError: inside `average_parameters`.
        """
        self._refuse_swapped("state_dict")
        return {
            "format": FORMAT,
            "layout": self.layout,
            "ema_every": self.ema_every,
            "windows": list(self._windows),
            "last_epoch": self.last_epoch,
            "steps": self.steps,
            "segments": {str(epoch): segment.state_dicts()[0] for epoch, segment in self._segments.items()},
            "emas": dict(zip(self._decays, self._emas.state_dicts(), strict=True)),
            "snapshots": snapshot(list(self._snapshots)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned for a model of the same parameters and the same settings.

        Raises:
            ValueError: if the names, shapes or dtypes of the parameters, the starts, the decays or the windows are
                others; nothing has changed then.
        """
        self._refuse_swapped("load_state_dict")
        here = self._lookup.tensors()
        tensors, forms = list(here.values()), forms_of(here)
        settings = {
            "ema_every": self.ema_every,
            "windows": list(self._windows),
            "start epochs": [str(epoch) for epoch in self._segments],
            "decays": self._decays,
        }
        check_state(state, forms, settings)
        segments = {epoch: RunningMeans(device=self._device) for epoch in self._segments}
        for segment, saved in zip(segments.values(), state["segments"].values(), strict=True):
            segment.load_state_dicts([saved], tensors)
        emas = RunningMeans(self._emas.decays, self._device)
        emas.load_state_dicts(list(state["emas"].values()), tensors)
        with lasting_memory():
            snapshots = [
                [t.to(self._device or like.device, copy=True) for t, like in zip(weights, tensors, strict=True)]
                for weights in state["snapshots"]
            ]
        counters = int(state["last_epoch"]), int(state["steps"])
        self._segments, self._emas = segments, emas
        self._snapshots = deque(snapshots, maxlen=self._snapshots.maxlen)
        self._forms, self._named = forms, {}
        self.last_epoch, self.steps = counters

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies are made of.

        Raises:
            RuntimeError: inside `average_parameters`, which a copy would never leave.
        """
        self._refuse_swapped("copy")
        return self.__dict__

    def _segments_of(self, name: str) -> list[RunningMeans]:
        return [s for epoch, s in self._segments.items() if epoch >= self._starts[name]]

    def _present(self, call: str) -> list[Tensor]:
        """Return the model's tensors as they are now, or refuse if they are others than those that were taken in."""
        named = self._lookup.tensors()
        tensors = self._tensors if named is self._named else list(named.values())
        places = list(map(_place, tensors))
        if named is not self._named or places != self._places:
            forms = forms_of(named)
            if forms != self._forms:
                check_model(call, named, self._forms if self.ready else ())
            self._named, self._tensors, self._places, self._forms = named, tensors, places, forms
        refuse_away(call, tensors)
        return tensors

    def _refuse_swapped(self, call: str) -> None:
        if self._swap is not None:
            raise RuntimeError(
                f"{call}() inside average_parameters(): the model holds an average, not the run's "
                "weights. Leave the block first."
            )


def _start_epoch(start: float, max_epochs: int | None) -> int:
    if not 0.0 <= start <= 1.0:
        raise ValueError(
            f"swa_starts holds {start!r}: a start is a fraction of the run, between 0 and 1 "
            "(0.75 averages the last quarter)."
        )
    if max_epochs is None:
        raise ValueError("swa_starts are fractions of the run: give max_epochs as well.")
    return max(1, int(start * whole("max_epochs", max_epochs, least=1)))


def _decay(decay: float) -> float:
    if not 0.0 <= decay < 1.0:
        raise ValueError(
            f"ema_decays holds {decay!r}: a decay lies in [0, 1); 0.998 looks back about 1 / (1 - 0.998) = 500 steps."
        )
    return decay
