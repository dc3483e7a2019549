"""A state of averages is a snapshot, and what fails (a load, an update, a swap) changes nothing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from averaged import MODES, SETTINGS, move, net, on_disk, plain, taken_in
from matrices import crossed
from torch import Tensor, nn

from wasam_core import (
    WASAM,
    Cost,
    MultipleSWAModels,
    WeightAverages,
    capture_rng,
    restore_rng,
)

# A state dict is a snapshot.


def averages_of(model: nn.Module) -> WeightAverages:
    return WeightAverages(model, **SETTINGS, average_buffers=True)


class WithSwa(WASAM):
    """An optimizer that is told of epochs as averages are."""

    def update(self, epoch: int) -> None:
        self.update_swa()
        self.cost.bill_gradients(epoch)

    def update_step(self) -> None:
        torch.rand(1)


class Copies(MultipleSWAModels):
    """Copies that are told of epochs as averages are."""

    def update(self, epoch: int) -> None:
        self.update_parameters(self.averages.model, epoch)

    def update_step(self) -> None:
        pass


KEEPERS: dict[str, Callable[[nn.Module], Any]] = {
    "WeightAverages": averages_of,
    "WASAM": lambda model: WithSwa(model.parameters(), torch.optim.SGD, lr=0.1, model=model),
    "MultipleSWAModels": lambda model: Copies(model, "cpu", 8, [0.0, 0.5]),
}


def advance(keeper: Any, model: nn.Module, epochs: range) -> None:
    for epoch in epochs:
        move(model, epoch)
        model[1].running_mean.fill_(float(epoch))
        keeper.update(epoch)
        keeper.update_step()


@crossed(what=KEEPERS, mode=MODES, stored=(lambda state: state, on_disk, copy.deepcopy))
def test_a_state_dict_is_a_snapshot_that_nobody_writes_to(what, mode, stored):
    model = net()
    keeper = KEEPERS[what](model)
    with MODES[mode]():
        advance(keeper, model, range(1, 4))
        state = keeper.state_dict()
    kept = stored(state)
    shown = plain(state)
    at_snapshot = plain(keeper.state_dict())
    advance(keeper, model, range(4, 7))
    assert plain(state) == shown

    again = KEEPERS[what](model)
    with MODES[mode]():
        again.load_state_dict(kept)
    assert plain(again.state_dict()) == at_snapshot
    advance(again, model, range(4, 7))
    assert plain(kept) == shown
    assert plain(again.state_dict()) == plain(keeper.state_dict())


def test_what_was_read_of_an_average_stays():
    averages = taken_in(WeightAverages(net(), **SETTINGS), range(1, 4))
    read = {name: averages.read(name) for name in averages.ready}
    shown = plain(read)
    taken_in(averages, range(4, 8))
    assert plain(read) == shown
    for values in read.values():
        for value in values:
            value.zero_()
    assert plain(averages.state_dict()) == plain(taken_in(WeightAverages(net(), **SETTINGS), range(1, 8)).state_dict())


# What fails changes nothing.


def lose(state: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != key}


def changed_values(state: Any, change: Callable[[list[Tensor]], list[Tensor]]) -> Any:
    """Return a state in which the lists of tensors are others."""
    if isinstance(state, dict):
        return {key: changed_values(value, change) for key, value in state.items()}
    if not isinstance(state, list) or not state:
        return state
    return change(state) if isinstance(state[0], Tensor) else [changed_values(one, change) for one in state]


BROKEN: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
    "a tensor less": lambda values: values[:-1],
    "a tensor more": lambda values: [*values, torch.zeros(1)],
    "another shape": lambda values: [*values[:-1], torch.zeros(17)],
    "one that would broadcast": lambda values: [*values[:-1], torch.zeros(1)],
    "half precision": lambda values: [value.half() for value in values],
    "double precision": lambda values: [value.double() for value in values],
    "integers": lambda values: [value.long() for value in values],
    "complex numbers": lambda values: [value.to(torch.complex64) for value in values],
}


@crossed(broken=BROKEN, what=("WeightAverages", "MultipleSWAModels", "mean"))
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(broken, what):
    model, other = net(), net()
    make = KEEPERS.get(what, lambda model: WithSwa(model.parameters(), torch.optim.SGD, lr=0.1))
    keeper, saved = make(model), make(other)
    advance(keeper, model, range(1, 4))
    advance(saved, other, range(1, 6))
    before = plain(keeper.state_dict())
    if what == "mean":
        state, average, parameters = saved._average.state_dicts(), keeper._average, keeper.parameters()
        with pytest.raises(ValueError, match=r"average|needed"):
            average.load_state_dicts(changed_values(state, BROKEN[broken]), parameters)
    else:
        with pytest.raises(ValueError, match=r"average|copies|needed"):
            keeper.load_state_dict(changed_values(saved.state_dict(), BROKEN[broken]))
    assert plain(keeper.state_dict()) == before


@pytest.mark.parametrize("key", ["format", "layout", "segments", "emas", "snapshots", "last_epoch", "steps"])
def test_a_state_that_lacks_something_changes_nothing(key):
    averages = taken_in(WeightAverages(net(), **SETTINGS), range(1, 4))
    state, before = lose(averages.state_dict(), key), plain(averages.state_dict())
    taken_in(averages, range(4, 5))
    before = plain(averages.state_dict())
    with pytest.raises((KeyError, ValueError)):
        averages.load_state_dict(state)
    assert plain(averages.state_dict()) == before


@pytest.mark.parametrize("broken", [name for name in BROKEN if not name.endswith("precision")])
def test_snapshots_that_do_not_fit_are_refused(broken):
    averages = taken_in(WeightAverages(net(), lawa_windows=(2,)), range(1, 4))
    state, before = averages.state_dict(), plain(averages.state_dict())
    with pytest.raises(ValueError, match="The saved averages"):
        averages.load_state_dict(changed_values(state, BROKEN[broken]))
    assert plain(averages.state_dict()) == before


@pytest.mark.parametrize("wrap", [torch.compile, lambda model: nn.ModuleDict({"module": model}), lambda model: model])
def test_averages_are_loaded_for_the_same_model_in_another_wrapper(wrap):
    averages = taken_in(WeightAverages(wrap(net()), **SETTINGS), range(1, 4))
    for other in (net(), wrap(net())):
        resumed = WeightAverages(other, **SETTINGS)
        resumed.load_state_dict(averages.state_dict())
        assert plain(taken_in(resumed, range(4, 6)).read("swa@0.5")) == plain(
            taken_in(copy.deepcopy(averages), range(4, 6)).read("swa@0.5")
        )


def test_copies_from_other_starts_are_refused():
    model = net()
    saved, mine = (MultipleSWAModels(model, "cpu", 8, starts) for starts in ([0.0, 0.5], [0.0]))
    saved.update_parameters(model, 1)
    with pytest.raises(ValueError, match="with the starts of the saved run"):
        mine.load_state_dict(saved.state_dict())
    other = MultipleSWAModels(model, "cpu", 8, [0.0, 0.75])
    with pytest.raises(ValueError, match="other start epochs"):
        other.load_state_dict(saved.state_dict())


def test_other_windows_are_refused():
    saved = taken_in(WeightAverages(net(), lawa_windows=(2,)), range(1, 6)).state_dict()
    with pytest.raises(ValueError, match="other windows"):
        WeightAverages(net(), lawa_windows=(4,)).load_state_dict(saved)


@pytest.mark.parametrize("outputs", [1, 5, 10])
def test_the_averages_of_another_head_are_refused(outputs):
    saved = taken_in(WeightAverages(net(outputs), **SETTINGS), range(1, 3))
    mine = WeightAverages(net(), **SETTINGS)
    with pytest.raises(ValueError, match=rf"2\.weight has shape \(3, 5\) instead of \({outputs}, 5\)"):
        mine.load_state_dict(saved.state_dict())
    assert mine.ready == ()
    optimizers = [WASAM(net(size).parameters(), torch.optim.SGD, lr=0.1) for size in (outputs, 3)]
    optimizers[0].update_swa()
    with pytest.raises(ValueError, match="an average belongs to weights of one shape"):
        optimizers[1]._average.load_state_dicts(optimizers[0]._average.state_dicts(), optimizers[1].parameters())
    assert optimizers[1]._average.count == 0


@pytest.mark.parametrize("state", [{}, {"steps": 1}, dict.fromkeys(Cost().state_dict(), -1)])
def test_a_count_or_a_generator_that_fails_to_load_changes_nothing(state):
    cost = Cost(steps=3, forward_evaluations=7)
    with pytest.raises(ValueError, match=r"The saved counts lack|give an int >= 0"):
        cost.load_state_dict(Cost(steps=9).state_dict() | state if len(state) > 1 else state)
    assert cost == Cost(steps=3, forward_evaluations=7)
    before = torch.get_rng_state()
    torch.rand(1)
    after = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="leave its entry out"):
        restore_rng(capture_rng() | {"cpu": before, "cuda:99": before})
    assert torch.equal(torch.get_rng_state(), after)


class Interrupt:
    """A `_foreach` function that writes some of its tensors and then is interrupted, at one of its calls."""

    def __init__(self, function: Callable[..., Any], at: int) -> None:
        self.function, self.at, self.calls = function, at, 0

    def __call__(self, tensors: list[Tensor], *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            self.function(tensors[:2], *(a[:2] if isinstance(a, list | tuple) else a for a in arguments))
            raise KeyboardInterrupt
        return self.function(tensors, *arguments)


@crossed(at=(1, 2), spelling=("WeightAverages", "WASAM block", "swap_swa_sgd"))
def test_a_swap_that_is_interrupted_leaves_the_model_as_it_was(monkeypatch, at, spelling):
    model = net()
    averages = WeightAverages(model, **SETTINGS)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
    for epoch in (1, 2):
        move(model, epoch)
        averages.update(epoch)
        optimizer.update_swa()
    before = [(t.data_ptr(), t.clone()) for t in model.state_dict().values()]
    monkeypatch.setattr(torch, "_foreach_copy_", Interrupt(torch._foreach_copy_, at))

    def swap_and_back():
        if spelling == "swap_swa_sgd":
            optimizer.swap_swa_sgd()
            optimizer.swap_swa_sgd()
        else:
            block = averages.average_parameters("swa@0.0") if spelling == "WeightAverages" else None
            with block or optimizer.average_parameters():
                pass

    with pytest.raises(KeyboardInterrupt):
        swap_and_back()
    for t, (address, value) in zip(model.state_dict().values(), before, strict=True):
        assert t.data_ptr() == address
        assert torch.equal(t, value)
    swap_and_back()
    averages.update(3)
    optimizer.update_swa()


def test_an_update_that_finds_no_memory_changes_nothing(monkeypatch):
    model = net()
    averages = WeightAverages(model, **SETTINGS)
    before = plain(averages.state_dict())
    calls = iter(range(10**6))
    empty_like = torch.empty_like

    def no_memory(*arguments: Any, **options: Any) -> Tensor:
        if next(calls) == 8:  # in the second of two decays
            raise torch.OutOfMemoryError
        return empty_like(*arguments, **options)

    monkeypatch.setattr(torch, "empty_like", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        averages.update_step()
    assert plain(averages.state_dict()) == before
    averages.update_step()
    assert (averages.count("ema@0.7"), averages.count("ema@0.9"), averages.steps) == (1, 1, 1)


@pytest.mark.parametrize("function", ["_foreach_copy_", "_foreach_lerp_"])
def test_an_update_that_fails_changes_no_count(monkeypatch, function):
    model = net()
    averages = WeightAverages(model, **SETTINGS)
    if function == "_foreach_lerp_":
        taken_in(averages, range(1, 2))
    before = plain(averages.state_dict())

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, function, fail)
        for call in (lambda: averages.update(2), averages.update_step):
            with pytest.raises(KeyboardInterrupt):
                call()
    assert plain(averages.state_dict()) == before
    taken_in(averages, range(2, 3))
