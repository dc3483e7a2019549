"""A model's tensors by name and by place, looked up again whenever one of them has been replaced."""

import sys
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

Table = Any  # what a module keeps its parameters or buffers in: a dict, or what stands for one in a ScriptModule
Place = tuple[Table, str, Tensor]  # where a tensor was found: the table, the key in it, and the tensor


class Walk:
    """A model's modules, without a walk through the model where none has been added, removed or replaced.

    A walk at every step would take a small model some percent of it.

    Example:
        >>> model = nn.Sequential(nn.ReLU())
        >>> walk = Walk(model)
        >>> model.append(walk.modules()[1])
        Sequential(
          (0): ReLU()
          (1): ReLU()
        )
        >>> model[0] = nn.Tanh()
        >>> walk.modules()[1:]
        [Tanh(), ReLU()]
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._modules: list[nn.Module] = []
        self._tables: list[Table] = []  # of their children
        self._buffers: list[Table] = []
        self._inside: list[object] = []

    def buffers(self) -> list[Place]:
        """Return where the modules keep their buffers."""
        self.modules()
        return places_in(self._buffers)

    def modules(self) -> list[nn.Module]:
        """Return all modules, the same list for as long as they are the same."""
        inside = [child for table in self._tables for child in table.values()]
        if not inside or len(inside) != len(self._inside) or not all(map(is_, inside, self._inside)):
            self._modules = list(self.model.modules())
            self._tables = [module._modules for module in self._modules]
            self._buffers = [module._buffers for module in self._modules]
            self._inside = [child for table in self._tables for child in table.values()]
        return self._modules

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was found: a copy has a model of its own."""
        return Walk(self.model).__dict__


def same_objects(some: list[Any], others: list[Any]) -> bool:
    """Tell whether both hold the same objects, not only equal ones, in the same order."""
    return len(some) == len(others) and all(map(is_, some, others))


def parameter_places(modules: Iterable[nn.Module]) -> list[Place]:
    """Return where modules keep their parameters, one that is shared several times."""
    return places_in([module._parameters for module in modules])


def buffer_places(modules: Iterable[nn.Module]) -> list[Place]:
    """Return where modules keep their buffers.

    Example:
        >>> [key for _, key, _ in buffer_places([nn.BatchNorm1d(1)])]
        ['running_mean', 'running_var', 'num_batches_tracked']
    """
    return places_in([module._buffers for module in modules])


def places_in(tables: Iterable[Any]) -> list[Place]:
    """Return the places of the tensors in such tables."""
    return [(table, key, t) for table in tables for key, t in table.items() if t is not None]


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
    """Find what is averaged of a model, by name.

    A list of tensors is right until somebody replaces one: `load_state_dict(assign=True)`, a new head, a conversion, a
    parametrization. What was found by name is kept for as long as the modules hold the same tensors.

    Args:
        model: the model.
        buffers: find floating-point buffers beside the parameters.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> lookup = Lookup(model)
        >>> before = lookup.tensors()["weight"]
        >>> model.weight = nn.Parameter(before.detach().clone())
        >>> lookup.tensors()["weight"] is before
        False
    """

    def __init__(self, model: nn.Module, *, buffers: bool = False) -> None:
        self._walk = Walk(model)
        self._buffers = buffers
        self._modules: list[nn.Module] = []
        self._tables: list[Table] = []
        self._held: list[Tensor | None] = []
        self._tensors: dict[str, Tensor] = {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, the same dict for as long as they are the same; integer ones are left out."""
        modules = self._walk.modules()
        if modules is not self._modules:
            self._modules = modules
            self._tables = [table for module in modules for table in (module._parameters, module._buffers)]
        held = [t for table in self._tables for t in table.values()]
        if not same_objects(held, self._held):
            self._held = held
            model = self._walk.model
            named = model.named_parameters()
            self._tensors = {name: p for name, p in named if p.is_floating_point() or p.is_complex()}
            if self._buffers:
                self._tensors |= {name: b for name, b in model.named_buffers() if b.is_floating_point()}
        return self._tensors

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was found: a copy has a model of its own."""
        return Lookup(self._walk.model, buffers=self._buffers).__dict__


def is_split(tensor: Tensor) -> bool:
    """Tell whether each process holds a part of the tensor only: FSDP, tensor parallelism."""
    split = sys.modules.get("torch.distributed.tensor")
    return bool(getattr(tensor, "_fsdp_flattened", False) or (split and isinstance(tensor, split.DTensor)))


Form = tuple[str, torch.Size, torch.dtype]  # of a tensor with its name


def bare_name(name: str) -> str:
    """Return a parameter's name without what wrappers (torch.compile, DistributedDataParallel) put before it.

    Example:
        >>> bare_name("module._orig_mod.0.weight")
        '0.weight'
    """
    return name.replace("_orig_mod.", "").removeprefix("module.")


def forms_of(tensors: dict[str, Tensor]) -> list[Form]:
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
