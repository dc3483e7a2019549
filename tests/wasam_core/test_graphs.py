"""A step can be captured in a CUDA graph: shown on the CPU, where the host is told not to look, by a graph of our own.

What a CUDA graph keeps of a step is its operations and the memory that each reads and writes. So does this one: it
keeps every operation that torch dispatches, with the very tensors it was given, and a replay does all of them again,
where they were. Whatever a step decides on the host, by a number that it has read or by a counter of its own, is
decided once and for all then, as in a CUDA graph.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from matrices import crossed
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from waits import WAITING

from wasam_core import WASAM, WeightAverages


class Graph(TorchDispatchMode):
    """Keep the operations of the block; `replay` does them again, in the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in WAITING, f"{func} reads a value, which no graph can capture"
        found = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, _tensors(found)))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, outputs in self._calls:
            for memory, value in zip(outputs, _tensors(func(*args, **kwargs)), strict=True):
                if memory.data_ptr() != value.data_ptr():
                    memory.detach().copy_(value)


def _tensors(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    return [t for one in found for t in _tensors(one)] if isinstance(found, list | tuple) else []


@pytest.fixture(autouse=True)
def _not_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasam_core.verdicts.LOOKED_AT", frozenset())


BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD, momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "SGD, fused": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
    "AdamW, fused": (torch.optim.AdamW, {"fused": True}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"clip_norm": 0.5},
    "in parts": {"m": 4},
    "accumulated": {"gradient_accumulation_steps": 2},
    "rho = 0": {"rho": 0.0},
}


class Loop:
    """Steps on one batch that lies in the same memory all the time, with averages that are fed by each."""

    def __init__(self, toys: Any, variant: str, base: str, option: str, flow: str) -> None:
        kind, base_options = BASES[base]
        self.model = toys.net(dropout=0.0)
        self.batch = [t.clone() for t in toys.batches(1)[0]]
        options: dict[str, Any] = {"rho": 0.1, "variant": variant} | base_options | OPTIONS[option]
        self.optimizer = WASAM(self.model.named_parameters(), kind, model=self.model, **options)
        self.averages = WeightAverages(self.model, ema_decays=(0.5, 0.9))
        self._flow, self._toys, self._parts = flow, toys, option == "in parts"

    def closure(self, *parts: Tensor) -> Tensor:
        loss: Tensor = self._toys.closure(self.model, parts or self.batch)()
        return loss

    def step(self) -> None:
        if self.optimizer.gradient_accumulation_steps > 1 and self._flow == "closure":
            self.closure()
        if self._flow == "closure":
            self.optimizer.step(self.closure, batch=self.batch if self._parts else ())
        else:
            self.closure()
            self.optimizer.first_step(zero_grad=True)
            self.closure()
            self.optimizer.second_step(zero_grad=True)
        self.averages.update_step(self.optimizer.updated)

    def feed(self, batch: tuple[Tensor, Tensor]) -> None:
        for memory, values in zip(self.batch, batch, strict=True):
            memory.copy_(values)


@crossed(variant=("sam", "asam", "asam-common"), base=BASES, option=OPTIONS, flow=("closure", "two steps"))
def test_replays_are_steps(toys: Any, variant: str, base: str, option: str, flow: str) -> None:
    eager, captured = (Loop(toys, variant, base, option, flow) for _ in range(2))
    batches = toys.batches(8)
    batches[5] = (torch.full_like(batches[5][0], torch.nan), batches[5][1])
    for loop in (eager, captured):
        for batch in batches[:3]:
            loop.feed(batch)
            loop.step()
    graph = Graph()
    captured.feed(batches[3])
    with graph:
        captured.step()
    eager.feed(batches[3])
    eager.step()
    for batch in batches[4:]:
        for loop, step in ((eager, eager.step), (captured, graph.replay)):
            loop.feed(batch)
            step()
    for (name, theirs), ours in zip(eager.model.named_parameters(), captured.model.parameters(), strict=True):
        assert torch.equal(theirs, ours), name
        assert theirs.isfinite().all(), name
    for key, value in eager.optimizer.base_optimizer.state_dict()["state"].items():
        for name, tensor in value.items():
            assert torch.equal(tensor, captured.optimizer.base_optimizer.state_dict()["state"][key][name])
    assert (captured.optimizer.cost.steps, captured.optimizer.cost.skipped) == (7, 1)
    assert (eager.optimizer.cost.steps, eager.optimizer.cost.skipped) == (7, 1)
    assert 2 * captured.optimizer.cost.gradient_passes == eager.optimizer.cost.gradient_passes  # which the host counts
    for name in ("ema@0.5", "ema@0.9"):
        assert eager.averages.count(name) == captured.averages.count(name) == 7
        assert all(map(torch.equal, eager.averages.read(name), captured.averages.read(name)))


def test_the_graph_refuses_what_reads_a_value_and_keeps_what_the_host_decides() -> None:
    model = nn.Linear(2, 1)
    adam = torch.optim.Adam(model.parameters(), lr=0.1)  # counts its steps on the host

    def step() -> None:
        model(torch.ones(1, 2)).sum().backward()
        adam.step()
        adam.zero_grad()

    step()
    with pytest.raises(AssertionError, match="no graph can capture"), Graph():
        step()
    rates, x = iter((1.0, 100.0)), torch.ones(1)
    with Graph() as graph:
        x.mul_(2.0 * next(rates))
    graph.replay()
    assert x.item() == 4.0  # the host's second number is not asked for
