"""A model's tensors by name and by place, looked up again whenever one of them has been replaced."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

Table = Any  # what a module keeps its parameters or buffers in: a dict, or what stands for one in a ScriptModule
Place = tuple[Table, str, Tensor]  # where a tensor was found: the table, the key in it, and the tensor


def parameter_places(modules: Iterable[nn.Module]) -> list[Place]:
    """Return where modules keep their parameters, one that is shared several times."""
    return places_in([module._parameters for module in modules])


def buffer_places(modules: Iterable[nn.Module]) -> list[Place]:
    """Return where modules keep their buffers."""
    return places_in([module._buffers for module in modules])


def written_by_passes(modules: Iterable[nn.Module]) -> set[Tensor]:
    """Return what a pass through modules may write to: their buffers, and embeddings that are kept within a norm."""
    found = list(modules)
    kept = [m.weight for m in found if isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.max_norm is not None]
    return {*kept, *(tensor for _, _, tensor in buffer_places(found))}


def places_in(tables: Iterable[Any]) -> list[Place]:
    """Return the places of the tensors in such tables."""
    return [(table, key, t) for table in filter(None, tables) for key, t in table.items() if t is not None]


def put_back(place: Place) -> bool:
    """Let the module hold the tensor again that was found there; return whether it held another one.

    One of another shape stays: it is a cache that has grown, and other attributes of its module know its size.
    """
    table, key, tensor = place
    now = table[key] if key in table else tensor  # noqa: SIM401  # a ScriptModule's table has no get
    if now is tensor or (now is not None and now.shape != tensor.shape):
        return False
    table[key] = tensor
    return True


class Lookup:
    """Find a model's tensors, without a walk through it where no module and no tensor has been added or replaced.

    A list of tensors is right until somebody replaces one: `load_state_dict(assign=True)`, a new head, a conversion, a
    parametrization. A walk at every step would take a small model some percent of it.

    Args:
        model: the model.
        buffers: let `tensors` return floating-point buffers beside the parameters.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> lookup = Lookup(model)
        >>> before = lookup.tensors()["weight"]
        >>> model.weight = nn.Parameter(before.detach().clone())
        >>> lookup.tensors()["weight"] is before
        False
    """

    def __init__(self, model: nn.Module, *, buffers: bool = False) -> None:
        self._model = model
        self._with_buffers = buffers
        # The modules' tables of their children, of their buffers, and all, and what was last found in them.
        self._parents: list[Table] = []
        self._buffers: list[Table] = []
        self._tables: list[Table] = []
        self._children: list[object] = []
        self._held: list[object] = []
        self._tensors: dict[str, Tensor] = {}

    def buffer_places(self) -> list[Place]:
        """Return where the modules keep their buffers."""
        children = [child for table in filter(None, self._parents) for child in table.values()]
        if not children or len(children) != len(self._children) or not all(map(is_, children, self._children)):
            self._walk()
            self._children = _contents(self._parents)
        return places_in(self._buffers)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, the same dict for as long as they are the same; integer ones are left out."""
        held = _contents(self._tables)
        if not held or len(held) != len(self._held) or not all(map(is_, held, self._held)):
            self._walk()
            self._held = _contents(self._tables)
            named = self._model.named_parameters()
            self._tensors = {name: p for name, p in named if p.is_floating_point() or p.is_complex()}
            if self._with_buffers:
                self._tensors |= {name: b for name, b in self._model.named_buffers() if b.is_floating_point()}
        return self._tensors

    def _walk(self) -> None:
        modules = list(self._model.modules())
        self._parents, self._buffers = [m._modules for m in modules], [m._buffers for m in modules]
        self._tables = [*self._parents, *(m._parameters for m in modules), *self._buffers]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was found: a copy has a model of its own."""
        return Lookup(self._model, buffers=self._with_buffers).__dict__


def _contents(tables: list[Table]) -> list[object]:
    return [one for table in filter(None, tables) for one in table.values()]


def is_split(tensor: Tensor) -> bool:
    """Tell whether each process holds a part of the tensor only: FSDP, tensor parallelism."""
    split = sys.modules.get("torch.distributed.tensor")
    return bool(getattr(tensor, "_fsdp_flattened", False) or (split and isinstance(tensor, split.DTensor)))


Form = tuple[str, torch.Size, torch.dtype]  # of a tensor with its name


def bare_name(name: str) -> str:
    """Return a parameter's name without what wrappers (torch.compile, DistributedDataParallel) put before it."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def forms_of(tensors: Mapping[str, Tensor]) -> list[Form]:
    """Return the form of each tensor."""
    return [(name, t.shape, t.dtype) for name, t in tensors.items()]


def differences(held: Sequence[Form], here: Sequence[Form]) -> str:
    """Say in what the forms differ: in names, shapes, order, and whether they are complex; "" if in none of these.

    Example:
        >>> a, b = torch.ones(2), torch.ones(3)
        >>> differences(forms_of({"a": a, "b": a}), forms_of({"a": b, "c": a}))
        'a has shape (3,) instead of (2,); b is missing; c is new'
    """
    now = {name: (shape, dtype) for name, shape, dtype in here}
    known = {name: (shape, dtype) for name, shape, dtype in held}
    found = []
    for name, (shape, dtype) in known.items():
        if name not in now:
            found.append(f"{name} is missing")
        elif now[name][0] != shape:
            found.append(f"{name} has shape {tuple(now[name][0])} instead of {tuple(shape)}")
        elif now[name][1].is_complex != dtype.is_complex:
            found.append(f"{name} has dtype {now[name][1]} instead of {dtype}")
    found += [f"{name} is new" for name in now if name not in known]
    if not found and [*known] != [*now]:
        found = [f"the order is {', '.join(now)} instead of {', '.join(known)}"]
    return "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")
