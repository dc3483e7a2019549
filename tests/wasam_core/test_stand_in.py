"""The two ways in which moved weights stand in for a model's own: both are exact, and one cannot tell them apart."""

import copy
import math

import pytest
import torch
from torch import nn

from wasam_core import WASAM, perturbed, stand_in
from wasam_core.norms import LARGE, FiniteCheck
from wasam_core.stand_in import StandIn

SGD = {"lr": 0.1, "momentum": 0.9}


@pytest.fixture(autouse=True)
def _small_weights_count_as_large(monkeypatch):
    monkeypatch.setattr(stand_in, "LARGE_BYTES", 0)


def is_aside(params: list[torch.Tensor]) -> bool:
    moves, homes = StandIn(), [p.data_ptr() for p in params]
    with torch.no_grad():
        moves.begin(params)
        moves.add(params, [torch.ones_like(p) for p in params], 1.0)
        moved = [p.data_ptr() != home for p, home in zip(params, homes, strict=True)]
        moves.end()
    assert homes == [p.data_ptr() for p in params]
    assert all(moved) or not any(moved)
    return all(moved)


def test_weights_with_a_second_user_are_moved_where_they_are():
    lonely = list(nn.Linear(2, 3).parameters())
    assert is_aside(lonely)
    shared = nn.Parameter(torch.ones(3))
    view = shared.detach()
    assert not is_aside([*lonely, shared])
    assert view.tolist() == [1.0, 1.0, 1.0]
    array = nn.Parameter(torch.ones(3))
    _numbers = array.detach().numpy()
    assert not is_aside([array])
    halves = [nn.Parameter(part) for part in torch.ones(6).split(3)]
    assert not is_aside(halves)


def test_small_weights_are_moved_where_they_are(monkeypatch):
    monkeypatch.setattr(stand_in, "LARGE_BYTES", 37)
    assert not is_aside(list(nn.Linear(2, 3).parameters()))
    assert is_aside(list(nn.Linear(3, 3).parameters()))


def test_weights_return_if_the_second_pass_raises(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.3, model=model, **SGD)
    for calls in (1, 2):
        passes = 0

        def closure(calls=calls):
            nonlocal passes
            passes += 1
            loss = toys.loss(model, batch)
            loss.backward()
            if passes == calls:
                raise KeyboardInterrupt
            return loss

        before = [(p.data_ptr(), p.detach().clone()) for p in model.parameters()]
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
        for p, (home, value) in zip(model.parameters(), before, strict=True):
            assert p.data_ptr() == home
            assert torch.equal(p, value)


def test_what_computes_with_a_view_of_the_weights_sees_them_move():
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = WASAM([w], torch.optim.SGD, rho=0.5, lr=0.0)
    views = []
    for _ in range(3):
        w.grad = torch.tensor([0.6, 0.8])
        optimizer.first_step()
        for seen in (w, *views):
            torch.testing.assert_close(seen.detach(), torch.tensor([3.3, 4.4]))
        optimizer.second_step()
        views.append(w.detach())  # the first one is made after a step without it
    assert [view.tolist() for view in views] == [[3.0, 4.0]] * 3


@pytest.mark.parametrize("variant", ["sam", "asam", "asam-common"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_both_ways_train_to_the_same_bits(toys, variant, dtype):
    ends = []
    for seen in (False, True):
        model = toys.net(dropout=0.0).to(dtype)
        views = [p.detach() for p in model.parameters()] if seen else []
        optimizer = WASAM(model.named_parameters(), torch.optim.SGD, rho=0.3, variant=variant, model=model, **SGD)
        for x, y in toys.batches(4):
            optimizer.step(toys.closure(model, (x.to(dtype), y)))
        ends.append(copy.deepcopy(model))
        assert len(views) in (0, len(list(model.parameters())))
    toys.assert_same_bits(*ends)


@pytest.mark.parametrize("seen", [False, True])
def test_backward_through_the_clean_graph_is_refused_at_the_moved_weights_and_after(seen):
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    views = [w.detach()] if seen else []
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    with perturbed([w], rho=0.1), pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert w.tolist() == [1.0, 2.0]
    assert len(views) == seen


def test_a_parameter_that_is_named_twice_returns():
    w = nn.Parameter(torch.tensor([3.0]))
    w.grad = torch.tensor([1.0])
    home = w.data_ptr()
    with perturbed([w, w], rho=math.sqrt(0.5)):
        torch.testing.assert_close(w.detach(), torch.tensor([4.0]))
    assert (w.item(), w.data_ptr()) == (3.0, home)


def test_weights_may_change_type_layout_and_shape_between_steps():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    optimizer = WASAM(layer.parameters(), torch.optim.SGD, rho=0.3, lr=0.1)
    for change in (
        lambda: layer.double(),
        lambda: layer.float().to(memory_format=torch.channels_last),
        lambda: setattr(layer.weight, "data", layer.weight.data[:, :2].clone()),
    ):
        change()
        shape, home = layer.weight.shape, layer.weight.data_ptr()
        x = torch.ones(2, shape[1], 5, 5, dtype=layer.weight.dtype)
        layer.in_channels = shape[1]
        optimizer.zero_grad()
        optimizer.step(lambda x=x: layer(x).square().mean().backward() or torch.ones(()))
        assert (layer.weight.shape, layer.weight.data_ptr()) == (shape, home)
    assert optimizer.cost.steps == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [7, LARGE])
def test_the_finite_check_finds_every_bad_entry_and_no_other(dtype, size):
    all_finite = FiniteCheck()
    most = torch.finfo(dtype).max
    assert all_finite([torch.full((size,), most, dtype=dtype), torch.zeros(3, dtype=dtype)])
    for bad in ([math.inf], [-math.inf], [math.nan], [math.inf, -math.inf]):
        broken = torch.zeros(size, dtype=dtype)
        broken[: len(bad)] = torch.tensor(bad, dtype=dtype)
        assert not all_finite([torch.zeros(3, dtype=dtype), broken])
        assert all_finite([torch.zeros(size, dtype=dtype)])


def test_memory_that_was_short_once_is_asked_for_again(monkeypatch):
    def fail(_: torch.Tensor) -> None:
        raise MemoryError

    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = WASAM([w], torch.optim.SGD, rho=0.5, lr=0.0)
    for shape in (2, 3):
        w.data = torch.ones(shape)
        w.grad = torch.ones(shape)
        with monkeypatch.context() as short:
            short.setattr(torch, "empty_like", fail)
            with pytest.raises(MemoryError):
                optimizer.first_step()
        optimizer.first_step()
        torch.testing.assert_close((w.detach() - 1).norm(), torch.tensor(0.5))
        optimizer.second_step()
        assert w.tolist() == [1.0] * shape
