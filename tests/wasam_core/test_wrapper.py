"""What an optimizer is asked beside steps: hooks, steps without a closure, gradients that were there before."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from wasam_core import WASAM
from wasam_core.buffers import BufferGuard
from wasam_core.stand_in import StandIn

SGD = {"lr": 0.1, "momentum": 0.9}


# Hooks.


def test_hooks_of_state_dicts_get_the_wrapper_and_the_whole_state(toys):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    optimizer.step(toys.closure(model, toys.batches(1)[0]))
    seen: list[Any] = []
    handles = [
        optimizer.register_state_dict_pre_hook(lambda o: seen.append(("saving", o))),
        optimizer.register_state_dict_post_hook(lambda o, state: state | {"note": "kept"}),
        optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append(("loading", o, state.pop("note")))),
        optimizer.register_load_state_dict_post_hook(lambda o: seen.append(("loaded", o, o.cost.steps))),
    ]
    state = optimizer.state_dict()
    assert state["note"] == "kept"
    assert state["param_groups"][0]["wasam"]["cost"]["steps"] == 1
    optimizer.step(toys.closure(model, toys.batches(1)[0]))
    optimizer.load_state_dict(state)
    assert state["note"] == "kept"
    assert seen == [("saving", optimizer), ("loading", optimizer, "kept"), ("loaded", optimizer, 1)]
    for handle in handles:
        handle.remove()
    assert "note" not in optimizer.state_dict()
    first = optimizer.register_state_dict_post_hook(lambda o, state: state | {"order": [*state.get("order", []), 2]})
    optimizer.register_state_dict_post_hook(lambda o, state: state | {"order": [1]}, prepend=True)
    assert optimizer.state_dict()["order"] == [1, 2]
    first.remove()


def test_a_hook_that_fails_changes_nothing(toys):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    state = optimizer.state_dict()
    optimizer.step(toys.closure(model, toys.batches(1)[0]))
    optimizer.register_load_state_dict_pre_hook(lambda *_: {}["missing"])
    with pytest.raises(KeyError):
        optimizer.load_state_dict(state)
    assert optimizer.cost.steps == 1


def test_every_hook_runs_once_a_step(toys):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    seen: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("all, before")),
        register_optimizer_step_post_hook(lambda *_: seen.append("all, after")),
        optimizer.register_step_pre_hook(lambda *_: seen.append("before")),
        optimizer.register_step_post_hook(lambda *_: seen.append("after")),
    ]
    try:
        optimizer.step(toys.closure(model, toys.batches(1)[0]))
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["all, before", "before", "after", "all, after"]
    optimizer.step(toys.closure(model, toys.batches(1)[0]))
    assert len(seen) == 4


def test_what_torch_offers_on_an_optimizer_is_spoken_for():
    """Whatever a new version of torch adds has to be the base optimizer's, or the wrapper's, or refused."""
    ours = {name for kind in WASAM.__mro__[: WASAM.__mro__.index(torch.optim.Optimizer)] for name in vars(kind)}
    registered_in_the_wrapper = {
        "register_state_dict_pre_hook", "register_state_dict_post_hook", "register_load_state_dict_pre_hook",
        "register_load_state_dict_post_hook",
    }  # fmt: skip
    offered = {name for name, value in vars(torch.optim.Optimizer).items() if callable(value) and name[0] != "_"}
    types = {name for name in offered if isinstance(vars(torch.optim.Optimizer)[name], type) or name.endswith("Hook")}
    assert offered - types - ours - registered_in_the_wrapper - {"profile_hook_step"} == set()


def test_a_copy_has_hooks_of_its_own(toys):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    seen: list[int] = []
    optimizer.register_state_dict_pre_hook(lambda _: seen.append(1))
    other = copy.deepcopy(optimizer)
    other.state_dict()
    assert not seen  # as torch's optimizers, copies leave hooks behind
    other.register_state_dict_pre_hook(lambda _: seen.append(2))
    other.state_dict()
    assert seen == [2]


# Steps without a closure.


def unperturbed(**options: Any) -> dict[str, Any]:
    return {"rho": 0.3, **SGD, **options}


@pytest.mark.parametrize(
    "options",
    [{"rho": 0.0}, {"start_step": 9}, {"rho_schedule": lambda step: 0.0}],
    ids=["no radius", "not yet", "schedule"],
)
def test_a_step_that_perturbs_nothing_needs_no_closure(toys, options):
    reference, model = toys.net(0.0), toys.net(0.0)
    base = torch.optim.SGD(reference.parameters(), **SGD)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **unperturbed(**options))
    for batch in toys.batches(3):
        for net in (reference, model):
            toys.loss(net, batch).backward()
        base.step()
        base.zero_grad()
        optimizer.step(None)
        optimizer.zero_grad()
    toys.assert_same_bits(reference, model)
    assert (optimizer.cost.steps, optimizer.cost.gradient_passes) == (3, 3)


@pytest.mark.parametrize("caller", ["scaler", "optimizer"])
def test_a_scaler_may_step_alone_where_nothing_is_perturbed(toys, caller):
    reference, model = toys.net(0.0), toys.net(0.0)
    base = torch.optim.SGD(reference.parameters(), **SGD)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **unperturbed(rho=0.0))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for batch in toys.batches(3):
        toys.loss(reference, batch).backward()
        base.step()
        base.zero_grad()
        scaler.scale(toys.loss(model, batch)).backward()
        if caller == "scaler":
            scaler.step(optimizer)
        else:
            optimizer.step(scaler=scaler, examples=8)
        scaler.update()
        optimizer.zero_grad()
    toys.assert_same_bits(reference, model)
    assert optimizer.cost.gradient_evaluations == (24 if caller == "optimizer" else 0)


def test_a_scaler_is_not_forgotten_between_two_steps(toys):
    ends = []
    for scale in (1.0, 1024.0):
        model = toys.net(0.0)
        optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.3, **SGD)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for batch in toys.batches(2):
            scaler.scale(toys.loss(model, batch)).backward()
            optimizer.first_step(zero_grad=True)
            scaler.scale(toys.loss(model, batch)).backward()
            optimizer.step(scaler=scaler)
            optimizer.zero_grad()
            scaler.update(scale)
        ends.append(list(model.parameters()))
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_examples_that_are_no_number_leave_the_step_where_it_was(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, **SGD)
    toys.loss(model, batch).backward()
    with pytest.raises(ValueError, match="examples = -1"):
        optimizer.first_step(examples=-1)
    assert optimizer.first_step(zero_grad=True, examples=8)
    toys.loss(model, batch).backward()
    with pytest.raises(ValueError, match=r"examples = 2\.5"):
        optimizer.second_step(examples=2.5)
    optimizer.second_step()
    assert optimizer.cost.gradient_evaluations == 16


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_along_zeros_is_the_base_step(momentum):
    w, v = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    options = {"lr": 0.1, "momentum": momentum, "weight_decay": 0.5}
    optimizer, base = WASAM([w], torch.optim.SGD, rho=0.3, **options), torch.optim.SGD([v], **options)
    for _ in range(2):
        w.grad, v.grad = torch.zeros(2), torch.zeros(2)
        optimizer.step()
        base.step()
    assert torch.equal(w, v)
    assert optimizer.cost.steps == 2
    w.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="needs a closure"):
        optimizer.step()
    assert torch.equal(w, v)
    assert optimizer.cost.steps == 2


# Parameters that are split over processes.


def test_split_parameters_are_refused(tmp_path):
    from torch import distributed as dist  # noqa: PLC0415  # heavy
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Linear(2, 2))
        whole = list(nn.Linear(2, 2).parameters())
        optimizer = WASAM(whole, torch.optim.SGD, lr=0.1)
        fully_shard(model, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (1,)))
        for refused in (
            lambda: WASAM(model.parameters(), torch.optim.SGD, lr=0.1),
            lambda: WASAM(model.parameters(), torch.optim.SGD(model.parameters(), lr=0.1)),
            lambda: WASAM(model.named_parameters(), torch.optim.AdamW, rho=0.0),
            lambda: optimizer.add_param_group({"params": model.parameters()}),
        ):
            with pytest.raises(ValueError, match="split over processes"):
                refused()
        assert len(optimizer.param_groups) == 1
        flattened = nn.Parameter(torch.ones(2))
        flattened._fsdp_flattened = True  # as FullyShardedDataParallel marks what it has put together and split
        with pytest.raises(ValueError, match="split over processes"):
            WASAM([flattened], torch.optim.SGD, lr=0.1)
    finally:
        dist.destroy_process_group()


# Copies.


@pytest.mark.parametrize("told", [True, False])
def test_copies_of_moved_weights_are_refused(toys, told):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model if told else None, **SGD)
    toys.loss(model, toys.batches(1)[0]).backward()
    optimizer.update_swa()
    optimizer.first_step()
    for copier in (copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match=r"copy\(\) between first_step\(\) and second_step\(\)"):
            copier(optimizer)
    optimizer.restore()
    with optimizer.average_parameters(), pytest.raises(RuntimeError, match=r"copy\(\) while the average is swapped"):
        copy.deepcopy(optimizer)
    copy.deepcopy(optimizer)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("failing", ["hold", "begin", "add"])
def test_a_first_step_that_fails_moves_nothing(toys, told, failing, monkeypatch):
    """Memory that is short, say."""
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model if told else None, **SGD)
    toys.loss(model, toys.batches(1)[0]).backward()
    before, gradients = toys.snapshot(model), [p.grad.clone() for p in model.parameters()]

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(BufferGuard if failing == "hold" else StandIn, failing, fail)
    with pytest.raises(MemoryError):
        optimizer.first_step(zero_grad=True)
    monkeypatch.undo()
    toys.assert_untouched(model, before)
    assert all(map(torch.equal, gradients, [p.grad for p in model.parameters()]))
    optimizer.first_step()
    optimizer.second_step()
    assert (optimizer.cost.steps, optimizer.cost.gradient_passes) == (1, 2)
