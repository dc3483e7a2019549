"""Tools that keep `state` and `param_groups` alone, and step an optimizer to learn its state, lose nothing."""

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from matrices import crossed
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

from wasam_core import WASAM

BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {}),
    "SGD with momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "AdamW": (torch.optim.AdamW, {}),
    "Adam, tensor rate": (torch.optim.Adam, {"lr": torch.tensor(0.1), "foreach": False}),
    "NAdam": (torch.optim.NAdam, {}),
    "Adagrad": (torch.optim.Adagrad, {}),
    "RMSprop": (torch.optim.RMSprop, {"centered": True, "momentum": 0.5}),
    "Adafactor": (torch.optim.Adafactor, {}),
}


def build(base: str, order: int = 1, frozen: bool = False, named: bool = True) -> tuple[nn.Module, WASAM]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[0].requires_grad_(not frozen)
    kind, options = BASES[base]
    layers = [model[0], model[2], model[3]][::order]
    names = {p: name for name, p in model.named_parameters()}
    groups = [
        {"params": [(names[p], p) if named else p for p in list(layer.parameters())[::order]]} for layer in layers
    ]
    optimizer = WASAM(groups, kind, rho=0.3, variant="asam", model=model, interval=2, **({"lr": 0.1} | options))
    return model, optimizer


def train(model: nn.Module, optimizer: WASAM, steps: int) -> None:
    for _ in range(steps):

        def closure() -> Tensor:
            loss = model(torch.ones(4, 3)).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure, examples=4)
        optimizer.update_swa()


def results(model: nn.Module, optimizer: WASAM) -> list[Any]:
    with optimizer.average_parameters():
        average = [p.detach().clone() for p in model.parameters()]
    last = [p.detach().clone() for p in model.parameters()]
    return [last, average, optimizer.cost.state_dict(), torch.get_rng_state(), optimizer.will_perturb]


def assert_same(a: list[Any], b: list[Any]) -> None:
    for one, other in zip(a, b, strict=True):
        if isinstance(one, list):
            assert all(map(torch.equal, one, other))
        else:
            assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


@crossed(
    base=BASES,
    stepped=(0, 1),
    options=({}, {"full_state_dict": True}, {"full_state_dict": True, "cpu_offload": True}),
    order=(1, -1),
    frozen=(False, True),
    named=(True, False),
)
def test_a_run_goes_on_with_the_same_bits(base, stepped, options, order, frozen, named):
    model, optimizer = build(base, frozen=frozen, named=named)
    train(model, optimizer, 3)
    weights = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=StateDictOptions(**options)))
    train(model, optimizer, 3)
    expected = results(model, optimizer)

    other_model, other = build(base, order, frozen, named)
    train(other_model, other, stepped)
    other_model.load_state_dict(weights)
    set_optimizer_state_dict(other_model, other, state, options=StateDictOptions(**options))
    assert other.cost.steps == 3
    train(other_model, other, 3)
    assert_same(results(other_model, other), expected)


@pytest.mark.parametrize("base", BASES)
def test_asking_a_fresh_optimizer_is_no_step(base):
    model, optimizer = build(base)
    before = [p.detach().clone() for p in model.parameters()]
    state = get_optimizer_state_dict(model, optimizer)
    assert list(state) == ["state", "param_groups"]
    assert optimizer.cost.state_dict() == dict.fromkeys(optimizer.cost.state_dict(), 0)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1] * 3
    assert optimizer.will_perturb
    for p, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None
    twin_model, _ = build(base)
    kind, options = BASES[base]
    twin = kind(twin_model.parameters(), **({"lr": 0.1} | options))
    get_optimizer_state_dict(twin_model, twin)
    for p, q in zip(model.parameters(), twin_model.parameters(), strict=True):
        assert optimizer.state[p].keys() == twin.state[q].keys()


def test_a_checkpoint_on_disk_is_read_into_a_place_that_is_large_enough(tmp_path):
    model, optimizer = build("AdamW")
    train(model, optimizer, 3)
    weights, state = get_state_dict(model, optimizer)
    with warnings.catch_warnings(action="ignore"):  # that there is one process
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path, no_dist=True)
    train(model, optimizer, 3)
    expected = results(model, optimizer)

    other_model, other = build("AdamW")
    other.update_swa()
    weights, state = get_state_dict(other_model, other)
    held = {"model": weights, "optimizer": state}
    with warnings.catch_warnings(action="ignore"):
        dcp.load(held, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(other_model, other, model_state_dict=held["model"], optim_state_dict=held["optimizer"])
    train(other_model, other, 3)
    assert_same(results(other_model, other), expected)

    other_model, other = build("AdamW")
    weights, state = get_state_dict(other_model, other)
    with warnings.catch_warnings(action="ignore"):
        dcp.load({"model": weights, "optimizer": state}, checkpoint_id=tmp_path, no_dist=True)
    with pytest.raises(ValueError, match=r"call update_swa\(\) once before"):
        set_optimizer_state_dict(other_model, other, state)
    assert other._average.count == 0


def test_what_is_lost_on_the_way_is_missed():
    model, optimizer = build("AdamW")
    train(model, optimizer, 2)
    flat = StateDictOptions(flatten_optimizer_state_dict=True)
    state = get_optimizer_state_dict(model, optimizer, options=flat)
    _, other = build("AdamW")
    with pytest.raises(ValueError, match="has lost its own part"):
        set_optimizer_state_dict(other.model, other, state, options=flat)
