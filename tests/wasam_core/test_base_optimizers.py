"""What holds round every optimizer of torch, with each option: the base's own steps, copies, saving, failing."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import crossed
from torch import Tensor, nn
from torch.optim import Optimizer

from wasam_core import RULES, WASAM, perturbed

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.1, "fused": True},
    "Adam": {"amsgrad": True, "weight_decay": 0.1, "fused": True, "decoupled_weight_decay": True},
    "AdamW": {"amsgrad": True, "fused": True},
    "NAdam": {"momentum_decay": 0.1, "decoupled_weight_decay": True},
    "RAdam": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "Adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "fused": True},
    "RMSprop": {"centered": True, "momentum": 0.9},
    "Adamax": {"weight_decay": 0.1},
    "ASGD": {"t0": 1.0, "alpha": 0.5},
    "Rprop": {"etas": (0.4, 1.3)},
    "Adafactor": {"weight_decay": 0.1},
    "Muon": {"nesterov": False, "weight_decay": 0.2},
}
COMMON = {"maximize": True, "foreach": True, "foreach, off": False, "lr": torch.tensor(0.02)}
CASES = [
    (name, key.partition(",")[0], value)
    for name, options in OPTIMIZERS.items()
    for key, value in ({"lr": 0.02} | options | ({} if name == "Muon" else COMMON)).items()
] + [("SGD", "all", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True, "lr": 0.02})]


def options_of(case: tuple[str, str, Any]) -> dict[str, Any]:
    _, key, value = case
    found = {"lr": 0.02, "foreach": False} if key == "lr" and isinstance(value, Tensor) else {"lr": 0.02}
    return found | (value if key == "all" else {key: value})


def class_of(case: tuple[str, str, Any]) -> type[Optimizer]:
    found: type[Optimizer] = getattr(torch.optim, case[0])
    return found


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a net of matrices, which are all that Muon takes, with dropout."""
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Dropout(0.2), nn.Tanh(), nn.Linear(4, 2, bias=False))
    return layers.to(dtype)


def batches(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    g = torch.Generator().manual_seed(2)
    return [torch.randn(5, 3, generator=g).to(dtype) for _ in range(count)]


def closure_of(model: nn.Module, x: Tensor, sign: float = 1.0) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        loss = sign * (model(x) - 1).square().mean()
        loss.backward()
        return loss

    return closure


def train(optimizer: WASAM, model: nn.Module, inputs: list[Tensor], flow: str = "closure", sign: float = 1.0) -> None:
    for x in inputs:
        closure = closure_of(model, x, sign)
        if flow == "closure":
            optimizer.step(closure)
        elif flow == "gradients present":
            closure()
            optimizer.step(closure)
        elif flow == "two steps":
            closure()
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)
        else:
            closure()
            optimizer.step()
            optimizer.zero_grad()


def contents(optimizer: Optimizer) -> dict[str, Any]:
    """Return a copy of the state of each parameter and the groups' options."""
    state = optimizer.state_dict()
    groups = [{k: v for k, v in group.items() if k not in ("rho", "wasam")} for group in state["param_groups"]]
    return copy.deepcopy({"state": state["state"], "groups": groups})


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}/{number}")
    else:
        assert a == b, where


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@crossed(
    case=CASES,
    flow=("closure", "two steps", "gradients present", "no closure"),
    dtype=(torch.float32, torch.float64, torch.bfloat16),
)
def test_without_a_radius_every_optimizer_is_itself(case, flow, dtype):
    reference, model = net(dtype), net(dtype)
    base = class_of(case)(reference.parameters(), **options_of(case))
    torch.manual_seed(3)
    for x in batches(3, dtype):
        closure_of(reference, x)()
        base.step()
        base.zero_grad()
    optimizer = WASAM(model.parameters(), class_of(case), rho=0.0, model=model, **options_of(case))
    torch.manual_seed(3)
    train(optimizer, model, batches(3, dtype), flow)
    assert_equal(weights(model), weights(reference))
    assert_equal(contents(optimizer.base_optimizer), contents(base))


@crossed(
    case=[one for one in CASES if one[0] != "Muon"],  # which has no such option
    variant=RULES,
    flow=("closure", "two steps", "gradients present"),
)
def test_going_uphill_is_going_downhill_on_the_negative(case, variant, flow):
    ends = []
    for maximize in (False, True):
        options = options_of(case) | {"maximize": maximize}
        model = net(torch.float64)
        optimizer = WASAM(model.named_parameters(), class_of(case), rho=0.3, variant=variant, model=model, **options)
        torch.manual_seed(3)
        train(optimizer, model, batches(3, torch.float64), flow, -1.0 if maximize else 1.0)
        ends.append(weights(model))
    for a, b in zip(ends[0], ends[-1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_worse_points_lie_where_each_group_does_not_go():
    up, down = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    optimizer = WASAM([{"params": [up], "maximize": True}, {"params": [down]}], torch.optim.SGD, rho=0.5, lr=0.1)
    up.grad, down.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.first_step()
    assert (up.item(), down.item()) == pytest.approx((1 - 0.3, 1 + 0.4))
    optimizer.restore()
    up.grad = torch.tensor([3.0])
    with perturbed([up], rho=0.5, maximize=True):
        assert up.item() == pytest.approx(0.5)
    assert (up.item(), down.item()) == (1.0, 1.0)


# What can't be honoured is refused.


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        (torch.optim.SGD, {"differentiable": True}, "differentiable=True"),
        (torch.optim.Adam, {"differentiable": True, "foreach": False}, "differentiable=True"),
        (torch.optim.LBFGS, {}, "LBFGS evaluates the loss more than once"),
        (torch.optim.Adadelta, {}, "Adadelta has an option rho"),
        (lambda groups, lr: WASAM(groups, torch.optim.SGD, lr=lr), {}, "WASAM evaluates the loss more than once"),
        (lambda groups, lr: torch.optim.SGD([p for g in groups for p in g["params"]], lr), {}, "without rho"),
    ],
)
def test_what_cannot_be_honoured_is_refused(base, options, message):
    with pytest.raises(ValueError, match=message):
        WASAM(net().parameters(), base, lr=0.1, **options)
    if isinstance(base, type):
        built = base(net().parameters(), **options)
        with pytest.raises(ValueError, match=message):
            WASAM([p for g in built.param_groups for p in g["params"]], built)


def test_options_of_added_groups_are_refused_too_and_leave_no_trace():
    model = net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    new = nn.Parameter(torch.ones(1))
    for wrong in ({"differentiable": True}, {"rho": -1.0}, {"lr": -1.0, "params": list(model.parameters())}):
        group = {"params": [new]} | wrong
        given = dict(group)
        with pytest.raises(ValueError, match=r"differentiable|rho = -1|more than one"):
            optimizer.add_param_group(group)
        assert group == given
        assert len(optimizer.param_groups) == 1
    with pytest.raises(TypeError, match="must be a dict"):
        optimizer.add_param_group([new])
    with pytest.raises(TypeError, match="ordered"):
        optimizer.add_param_group({"params": {new}})


def test_groups_that_bypass_the_wrapper_are_missed():
    model = net()
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    for bypass in ("add_param_group", "load_state_dict"):
        optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
        given = {"params": [nn.Parameter(torch.ones(1))]} if bypass == "add_param_group" else plain.state_dict()
        getattr(optimizer.base_optimizer, bypass)(given)
        with pytest.raises(RuntimeError, match="has no rho"):
            optimizer.step(closure_of(model, batches(1)[0]))


# A copy trains like the original.


def through_pickle(parts: Any) -> Any:
    return pickle.loads(pickle.dumps(parts))


def through_torch(parts: Any) -> Any:
    file = io.BytesIO()
    torch.save(parts, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIERS = {"deepcopy": copy.deepcopy, "pickle": through_pickle, "torch.save": through_torch}


@crossed(copier=COPIERS, case=CASES)
def test_a_copy_trains_like_the_original(case, copier):
    check_copies(case, copier, "asam", "model", 2)


@crossed(
    variant=RULES, copier=COPIERS, given=("model", "names", "model and names"), after=(0, 2), case=(CASES[0], CASES[-1])
)
def test_a_copy_of_any_variant_trains_like_the_original(case, copier, variant, given, after):
    check_copies(case, copier, variant, given, after)


def check_copies(case: Any, copier: str, variant: str, given: str, after: int) -> None:
    model = net()
    params = model.named_parameters() if "names" in given else model.parameters()
    told = {"model": model} if "model" in given else {}
    optimizer = WASAM(params, class_of(case), rho=0.3, variant=variant, interval=2, **told, **options_of(case))
    inputs = batches(after + 3)
    train(optimizer, model, inputs[:after])
    if after:
        optimizer.update_swa()
    other_model, other = COPIERS[copier](COPIERS[copier]((model, optimizer)))
    ends = []
    for one, its_model in ((optimizer, model), (other, other_model)):
        torch.manual_seed(3)
        train(one, its_model, inputs[after:])
        one.update_swa()
        ends.append((weights(its_model), contents(one), one.cost, one._average.state_dicts()))
    assert_equal(*ends)


@crossed(variant=RULES, given=("named", "model"), change=("group", "copy and group"))
def test_added_parameters_are_perturbed_as_if_they_had_been_there(variant, given, change):
    moved = []
    for late in (False, True):
        model, head = net(), nn.Linear(2, 2)
        with torch.no_grad():
            for p in head.parameters():
                p.fill_(0.7)
        if not late:
            model.append(head)
        named = list(model.named_parameters())
        optimizer = WASAM(
            named if given == "named" else [p for _, p in named], torch.optim.SGD, rho=0.5, variant=variant, lr=0.1,
            model=model,
        )  # fmt: skip
        if late:
            if change.startswith("copy"):
                optimizer = copy.deepcopy(optimizer)
                model = optimizer.model
            model.append(head)
            new = [("4." + name, p) for name, p in model[4].named_parameters()]
            optimizer.add_param_group({"params": new if given == "named" else [p for _, p in new]})
        before = weights(model)
        torch.manual_seed(3)
        closure_of(model, batches(1)[0])()
        optimizer.first_step()
        moved.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
    assert_equal(*moved)


def test_a_built_optimizer_learns_the_names_that_are_given_beside_it():
    ends = []
    for built in (False, True):
        model = net()
        base = torch.optim.SGD(model.parameters(), lr=0.1) if built else torch.optim.SGD
        options = {} if built else {"lr": 0.1}
        optimizer = WASAM(model.named_parameters(), base, rho=0.5, variant="asam", **options)
        torch.manual_seed(3)
        train(optimizer, model, batches(2))
        ends.append(weights(model))
    assert_equal(*ends)


def test_an_unknown_name_is_not_taken_for_a_name():
    model, outside = net(), nn.Parameter(torch.ones(3))
    optimizer = WASAM([*model.parameters(), outside], torch.optim.SGD, variant="asam", lr=0.1, model=model)
    before = weights(model)
    with pytest.raises(ValueError, match=r"shape \(3,\) is none of the 2"):
        optimizer.step(closure_of(model, batches(1)[0]))
    assert_equal(weights(model), before)
    assert optimizer.cost.gradient_passes == 0


def assigned(model: nn.Module) -> None:
    model.load_state_dict({name: t.clone() for name, t in model.state_dict().items()}, assign=True)


def converted(model: nn.Module) -> None:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model.double().float()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def with_a_new_layer(model: nn.Module) -> None:
    model[3] = nn.Linear(4, 2, bias=False)


def emptied(model: nn.Module) -> None:
    model.to("meta").to_empty(device="cpu")
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.1)


@crossed(
    replace=(assigned, converted, with_a_new_layer, emptied),
    flow=("closure", "two steps", "gradients present", "no closure"),
    variant=RULES,
    rho=(0.3, 0.0),
)
def test_replaced_parameters_are_refused(replace, flow, variant, rho):
    model = net()
    optimizer = WASAM(model.named_parameters(), torch.optim.SGD, rho=rho, variant=variant, lr=0.1, model=model)
    replace(model)
    if flow == "no closure" and rho:
        flow = "closure"
    with pytest.raises(RuntimeError, match=r"were replaced|parameters have been replaced"):
        train(optimizer, model, batches(1), flow)
    assert optimizer.cost.gradient_passes == 0
    fresh = WASAM(model.named_parameters(), torch.optim.SGD, rho=rho, variant=variant, lr=0.1, model=model)
    train(fresh, model, batches(1), flow)


def test_a_new_layer_that_the_optimizer_is_told_of_is_trained():
    model = net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.3, lr=0.1, model=model)
    with_a_new_layer(model)
    optimizer.add_param_group({"params": model[3].parameters()})
    before = weights(model)
    train(optimizer, model, batches(1))
    assert not any(torch.equal(a, b) for a, b in zip(weights(model), before, strict=True))


# A state dict is a snapshot, and a whole one.


def resumed(case: Any, variant: str, state: Any) -> tuple[nn.Module, WASAM]:
    model = net()
    optimizer = WASAM(
        model.named_parameters(), class_of(case), rho=0.3, variant=variant, model=model, interval=2, **options_of(case)
    )
    optimizer.load_state_dict(state)
    return model, optimizer


@crossed(case=CASES, variant=RULES, averaged=(True, False))
def test_a_state_dict_is_a_snapshot_that_starts_any_number_of_runs(case, variant, averaged):
    model = net()
    optimizer = WASAM(
        model.named_parameters(), class_of(case), rho=0.3, variant=variant, model=model, interval=2, **options_of(case)
    )
    inputs = batches(6)
    train(optimizer, model, inputs[:3])
    if averaged:
        optimizer.update_swa()
    held, state = copy.deepcopy(model.state_dict()), optimizer.state_dict()
    kept = copy.deepcopy(state)
    train(optimizer, model, inputs[3:])
    optimizer.update_swa()
    assert_equal(state, kept)
    end = optimizer.state_dict()
    for _ in range(2):
        other_model, other = resumed(case, variant, state)
        other_model.load_state_dict(held)
        train(other, other_model, inputs[3:])
        other.update_swa()
        assert_equal(weights(other_model), weights(model))
        assert_equal(other.state_dict(), end)
        assert_equal(state, kept)
    with torch.inference_mode():
        other.load_state_dict(optimizer.state_dict())
    train(other, other_model, inputs[:2])
    other.update_swa()
    assert other.cost.steps == 8
    if not averaged:
        other_model, other = resumed(case, variant, state)
        other_model.double()
        with torch.inference_mode():
            other.load_state_dict(state)
        train(other, other_model, [x.double() for x in inputs[:2]])


def spoilt(change: str, state: dict[str, Any]) -> dict[str, Any]:
    groups = state["param_groups"]
    counters = groups[0]["wasam"]
    if change == "shape":
        counters["shapes"][0] = "(9, 9)"
    elif change == "name":
        groups[0]["param_names"][1] = "other"
    elif change == "a group less":
        groups.pop()
    elif change == "own part":
        del groups[0]["wasam"]
    elif change == "average":
        for entry in state["state"].values():
            entry.pop("wasam_average", None)
    elif change == "half of the average":
        del state["state"][1]["wasam_average"]
    elif change == "counter":
        del counters["cost"]["steps"]
    elif change == "generator":
        counters["rng"]["cpu"] = counters["rng"]["cpu"][:7]
    elif change == "option":
        groups[0]["differentiable"] = True
    else:
        groups[0]["rho"] = -1.0
    return state


CHANGES = ("shape", "name", "a group less", "own part", "average", "half of the average", "counter", "generator",
           "option", "rho")  # fmt: skip


@crossed(case=CASES, change=CHANGES)
def test_a_load_that_fails_changes_nothing(case, change):
    model = net()
    optimizer = WASAM(model.named_parameters(), class_of(case), rho=0.3, model=model, **options_of(case))
    train(optimizer, model, batches(2))
    optimizer.update_swa()
    state = spoilt(change, optimizer.state_dict())
    train(optimizer, model, batches(3))
    optimizer.update_swa()
    before, groups = optimizer.state_dict(), copy.deepcopy(optimizer.param_groups)
    with pytest.raises((ValueError, KeyError, RuntimeError, TypeError)):
        optimizer.load_state_dict(state)
    assert_equal(optimizer.state_dict(), before)
    assert_equal([{**g, "params": 0} for g in optimizer.param_groups], [{**g, "params": 0} for g in groups])
    train(optimizer, model, batches(2))


def test_the_state_of_a_plain_optimizer_leaves_radii_and_counters(toys):
    model = net()
    plain = torch.optim.SGD(model.parameters(), lr=0.25, momentum=0.9)
    closure_of(model, batches(1)[0])()
    plain.step()
    plain.zero_grad()
    first, second = model.parameters()
    optimizer = WASAM([{"params": [first], "rho": 0.0}, {"params": [second], "rho": 0.7}], torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match=r"\[2\] parameters"):
        optimizer.load_state_dict(plain.state_dict())
    optimizer = WASAM([first, second], torch.optim.SGD, rho=0.7, lr=0.1)
    train(optimizer, model, batches(2))
    optimizer.param_groups[0]["rho"] = 0.3
    optimizer.load_state_dict(plain.state_dict())
    assert [(g["lr"], g["rho"]) for g in optimizer.param_groups] == [(0.25, 0.3)]
    assert optimizer.cost.steps == 2
    with pytest.raises(ValueError, match="has lost its own part"):
        optimizer.load_state_dict(optimizer.base_optimizer.state_dict())


# A step that fails counts as none.


class Broken(RuntimeError):
    pass


@settings(max_examples=40, deadline=None)
@given(
    case=st.sampled_from(CASES),
    variant=st.sampled_from(sorted(RULES)),
    flow=st.sampled_from(["closure", "gradients present", "two steps", "m", "accumulation"]),
    failing=st.sampled_from(["first pass", "second pass", "hook", "examples"]),
    rho=st.sampled_from([0.0, 0.3]),
    interval=st.integers(1, 3),
    done=st.integers(0, 2),
)
def test_a_step_that_fails_changes_nothing(case, variant, flow, failing, rho, interval, done):
    model = net()
    options: dict[str, Any] = {"m": 2} if flow == "m" else {}
    if flow == "accumulation":
        options = {"gradient_accumulation_steps": 2}
    optimizer = WASAM(
        model.named_parameters(), class_of(case), rho=rho, variant=variant, model=model, interval=interval,
        **options, **options_of(case),
    )  # fmt: skip
    x = batches(1)[0]
    for _ in range(done):
        optimizer.step(lambda *parts: closure_of(model, parts[0])(), batch=(x,))
    optimizer.update_swa()
    passes = 0

    def broken(part: Tensor = x) -> Tensor:
        nonlocal passes
        passes += 1
        if failing == ("first pass", "second pass")[min(passes, 2) - 1]:
            raise Broken
        return closure_of(model, part)()

    def hook(*_: Any) -> None:
        raise Broken

    twin_model, twin = copy.deepcopy((model, optimizer))
    before, held = optimizer.state_dict(), weights(model)
    handle = optimizer.register_step_pre_hook(hook) if failing == "hook" else None
    examples = -3 if failing == "examples" else None
    try:
        if flow == "gradients present":
            broken()
        if flow == "accumulation":
            closure_of(model, x)()
        if flow == "two steps":
            broken()
            optimizer.first_step(zero_grad=True, examples=examples)
            broken()
            optimizer.second_step(zero_grad=True)
        else:
            optimizer.step(broken, batch=(x,), examples=examples)
    except (Broken, ValueError):
        optimizer.restore()
        optimizer.zero_grad()
    else:  # there was no second pass, or m counts for itself
        assert failing == "second pass" or (failing == "examples" and flow == "m")
        return
    finally:
        if handle:
            handle.remove()
    torch.set_rng_state(before["param_groups"][0]["wasam"]["rng"]["cpu"])  # passes draw what they draw
    assert_equal(optimizer.state_dict(), before)
    assert_equal(weights(model), held)
    assert all(p.grad is None for p in model.parameters())
    for one, its_model in ((optimizer, model), (twin, twin_model)):
        torch.manual_seed(3)
        one.step(lambda *parts, its_model=its_model: closure_of(its_model, parts[0])(), batch=(x,))
    assert_equal(optimizer.state_dict(), twin.state_dict())
