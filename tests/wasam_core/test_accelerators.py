"""A step on an accelerator waits for it not once, and skips what must be skipped all the same.

Without one, two stand-ins: FakeTensorMode has tensors that say they are on a GPU and have no values, so that whatever
looks at one fails; and on the CPU the host is told not to look, so that what an accelerator would do has values.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from matrices import crossed
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from waits import Waits

from wasam_core import WASAM, Cost, WeightAverages, capture_rng, perturbed
from wasam_core.verdicts import is_far


@contextmanager
def fake_gpu() -> Iterator[Waits]:
    with FakeTensorMode(), Waits() as waits:
        yield waits


def gradients_by_hand(params: list[Tensor]) -> Callable[..., Tensor]:
    """Return a closure; autograd itself needs a device that is there."""

    def closure(*_: Tensor) -> Tensor:
        for p in params:
            p.grad = torch.ones_like(p)
        return torch.ones((), device=params[0].device)

    return closure


def fake_parameters(dtype: torch.dtype = torch.float32) -> list[tuple[str, nn.Parameter]]:
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "1.weight": (2, 3)}
    return [(name, nn.Parameter(torch.ones(shape, device="cuda", dtype=dtype))) for name, shape in shapes.items()]


BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD, momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "Adam, capturable": (torch.optim.Adam, {"capturable": True, "amsgrad": True}),
    "AdamW, fused": (torch.optim.AdamW, {"fused": True}),
    "AdamW, tensor rate": (torch.optim.AdamW, {"capturable": True}),
    "RMSprop, capturable": (torch.optim.RMSprop, {"capturable": True, "momentum": 0.9, "centered": True}),
    "Adamax, capturable": (torch.optim.Adamax, {"capturable": True}),
    "RAdam, capturable": (torch.optim.RAdam, {"capturable": True}),
}
REAL: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD, momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "SGD, dampening": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    "SGD, fused": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
    "Adam": (torch.optim.Adam, {}),
    "AdamW, fused": (torch.optim.AdamW, {"fused": True, "amsgrad": True}),
    "NAdam": (torch.optim.NAdam, {}),
    "Rprop": (torch.optim.Rprop, {}),
    "Adagrad": (torch.optim.Adagrad, {}),
    "RMSprop": (torch.optim.RMSprop, {"momentum": 0.9}),
    "of one's own": (type("Own", (torch.optim.SGD,), {"step": lambda self, closure=None: torch.optim.SGD.step(self)}),
                     {"lr": 0.1, "momentum": 0.9}),
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"clip_norm": 1.0},
    "every second": {"interval": 2},
    "late": {"start_step": 1},
    "scheduled": {"rho_schedule": lambda step: 1.0 / (1 + step)},
    "in parts": {"m": 2},
    "accumulated": {"gradient_accumulation_steps": 2},
    "uphill": {"maximize": True},
    "rho = 0": {"rho": 0.0},
}
FLOWS = ("closure", "gradients present", "two steps", "two steps, kept gradients")


def rotated(bases: dict[str, Any]) -> Callable[[Any], Any]:
    """Parametrize with all pairs of option and flow, and with variants and bases in turn; each value every day."""
    columns = [[*of] for of in (("sam", "asam", "asam-common"), OPTIONS, bases, FLOWS)]
    cases = [
        pytest.param(
            *(of[number % len(of)] for of in columns), marks=() if number < len(REAL) else pytest.mark.exhaustive
        )
        for number in range(len(OPTIONS) * len(FLOWS))
    ]
    return pytest.mark.parametrize(("variant", "option", "base", "flow"), cases)


def take_step(optimizer: WASAM, closure: Callable[..., Tensor], flow: str, batch: Any) -> None:
    if flow == "closure":
        optimizer.step(closure, batch=batch)
    elif flow == "gradients present":
        closure()
        optimizer.step(closure, batch=batch)
    else:
        closure()
        optimizer.first_step(zero_grad=flow == "two steps")
        closure()
        optimizer.second_step(zero_grad=True)


@pytest.mark.parametrize("base", ["SGD", "SGD, momentum"])
def test_the_control_waits_not_once(base: str) -> None:
    kind, options = BASES[base]
    with fake_gpu() as waits:
        params = fake_parameters()
        optimizer = kind(params, **options)
        for _ in range(3):
            gradients_by_hand([p for _, p in params])()
            optimizer.step()
    assert waits.seen == []


def test_the_count_sees_who_waits() -> None:
    with Waits() as waits:
        x = torch.ones(2)
        float(x.sum())
        bool(x.any())
        torch.equal(x, x)
    assert len(waits.seen) == 3
    with fake_gpu() as waits:
        torch.ones(2, device="cuda").cpu()
        cost = Cost()
        cost.bill_step(torch.ones((), dtype=torch.bool, device="cuda"))
        assert waits.seen == ["_to_copy"]
        with pytest.raises(DataDependentOutputException):
            cost.steps  # noqa: B018
    assert waits.seen == ["_to_copy", "_local_scalar_dense"]


@rotated(BASES)
def test_a_step_waits_not_once(variant: str, option: str, base: str, flow: str) -> None:
    kind, base_options = BASES[base]
    options = OPTIONS[option]
    if flow == "gradients present" and option == "in parts":
        flow = "closure"  # which takes both passes itself
    with fake_gpu() as waits:
        named = fake_parameters()
        params = [p for _, p in named]
        optimizer = WASAM(named, kind, variant=variant, **base_options, **options)
        if base == "AdamW, tensor rate":
            optimizer.param_groups[0]["lr"] = torch.full((), 0.1, device="cuda")
        batch = (torch.ones(4, 2, device="cuda"),)
        closure = gradients_by_hand(params)
        averages = WeightAverages(
            nn.ParameterList(params), ema_decays=(0.9, 0.99), swa_starts=(0.0, 0.5), max_epochs=4, lawa_windows=(2,)
        )
        for epoch in range(1, 5):
            if option == "accumulated" and flow == "closure":
                closure()
            take_step(optimizer, closure, flow, batch)
            averages.update_step(optimizer.updated)
            averages.update(epoch)
            optimizer.update_swa()
        with averages.average_parameters("swa@0.5"):
            pass
        with optimizer.average_parameters():
            pass
    assert waits.seen == []


@crossed(variant=("sam", "asam", "asam-common"), flow=FLOWS, option=("plain", "clipped", "in parts", "rho = 0"))
def test_a_scaled_step_waits_not_once(variant: str, flow: str, option: str) -> None:
    with fake_gpu() as waits:
        named = fake_parameters()
        optimizer = WASAM(named, torch.optim.SGD, variant=variant, lr=0.1, momentum=0.9, **OPTIONS[option])
        scaler = torch.amp.GradScaler("cpu")  # "cuda" is switched off where there is none; its work is the same
        batch = (torch.ones(4, 2, device="cuda"),)
        by_hand = gradients_by_hand([p for _, p in named])

        def closure(*_: Tensor) -> Tensor:
            scaler.scale(torch.ones((), device="cuda"))
            return by_hand()

        for _ in range(3):
            if flow in ("closure", "gradients present") or option == "in parts":
                if flow == "gradients present" and option != "in parts":
                    closure()
                optimizer.step(closure, scaler=scaler, batch=batch)
            else:
                closure()
                optimizer.first_step(zero_grad=flow == "two steps")
                closure()
                if flow == "two steps, kept gradients":
                    scaler.unscale_(optimizer)
                optimizer.second_step(zero_grad=True, scaler=scaler)
            scaler.update()
    assert waits.seen == []


def test_groups_that_differ_frozen_parameters_and_missing_gradients_wait_not_once() -> None:
    with fake_gpu() as waits:
        (_, w), (_, b), (_, v) = fake_parameters()
        v.requires_grad_(False)
        groups = [{"params": [w], "rho": 0.5, "lr": 0.2}, {"params": [b], "rho": 0.0}, {"params": [v]}]
        optimizer = WASAM(groups, torch.optim.SGD, lr=0.1, momentum=0.9, rho_schedule=lambda step: step % 2)
        for some in ([w, b], [w], [b], [w, b]):
            optimizer.step(gradients_by_hand(some))
    assert waits.seen == []


@pytest.mark.parametrize("options", [{"rho": 0.0}, {"interval": 2, "start_step": 1}])
def test_a_step_without_a_closure_waits_not_once(options: dict[str, Any]) -> None:
    with fake_gpu() as waits:
        named = fake_parameters()
        optimizer = WASAM(named, torch.optim.SGD, lr=0.1, momentum=0.9, clip_norm=1.0, **options)
        closure = gradients_by_hand([p for _, p in named])
        for _ in range(4):
            closure()
            if optimizer.will_perturb:
                optimizer.first_step(zero_grad=True)
                optimizer.restore()
                optimizer.step(closure)
            else:
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
    assert waits.seen == []


# Who waits, and how often: the host reads one number in each of these steps, and none in the others.
WHO_WAITS: dict[str, tuple[Any, dict[str, Any], list[int]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, [0, 0, 0]),
    "Adam, capturable": (torch.optim.Adam, {"capturable": True}, [0, 0, 0]),
    "Adam, whose count of steps is on the host": (torch.optim.Adam, {}, [1, 1, 1]),
    "one's own": (REAL["of one's own"][0], {"lr": 0.1}, [1, 1, 1]),
    "SGD, dampening": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, [1, 0, 0]),
    "NAdam, capturable": (torch.optim.NAdam, {"capturable": True}, [1, 0, 0]),
    "Rprop, capturable": (torch.optim.Rprop, {"capturable": True}, [1, 0, 0]),
    "ASGD, capturable": (torch.optim.ASGD, {"capturable": True}, [1, 0, 0]),
}


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("base", WHO_WAITS)
def test_only_those_wait_that_are_said_to(monkeypatch: pytest.MonkeyPatch, base: str, hooked: bool) -> None:
    kind, options, expected = WHO_WAITS[base]
    read: list[Tensor] = []

    def reading(verdict: Tensor) -> bool:
        read.append(verdict)  # FakeTensorMode has nothing to read
        return True

    monkeypatch.setattr(torch.Tensor, "__bool__", reading)
    found = []
    with fake_gpu() as waits:
        named = fake_parameters()
        optimizer = WASAM(named, kind, **options)
        if hooked:
            optimizer.register_step_post_hook(lambda *_: None)
        for _ in expected:
            before = len(read)
            optimizer.step(gradients_by_hand([p for _, p in named]))
            found.append(len(read) - before)
    assert found == ([1, 1, 1] if hooked else expected)
    if "on the host" not in base:  # whose numbers are read there, and nobody waits for them
        assert waits.seen == []


def test_what_the_host_looks_at_and_what_it_does_not() -> None:
    with fake_gpu():
        here, there = torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1")
        assert is_far([here, here])
        assert not is_far([here, there])
    assert not is_far([torch.ones(2)])
    assert not is_far([])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_weights_of_any_dtype_wait_not_once(dtype: torch.dtype) -> None:
    with fake_gpu() as waits:
        named = fake_parameters(dtype)
        optimizer = WASAM(named, torch.optim.SGD, lr=0.1, momentum=0.9, clip_norm=1.0)
        for _ in range(3):
            optimizer.step(gradients_by_hand([p for _, p in named]))
    assert waits.seen == []


def test_a_perturbed_block_waits_not_once() -> None:
    with fake_gpu() as waits:
        named = fake_parameters()
        closure = gradients_by_hand([p for _, p in named])
        optimizer = torch.optim.SGD(named, lr=0.1)
        for _ in range(2):
            closure()
            with perturbed(named, rho=0.1, variant="asam"):
                closure()
            optimizer.step()
    assert waits.seen == []


def test_a_model_is_led_through_both_passes_without_waiting() -> None:
    with fake_gpu() as waits:
        model = nn.Sequential(nn.Linear(2, 3, device="cuda"), nn.BatchNorm1d(3, device="cuda"))
        x = torch.ones(4, 2, device="cuda")
        optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
        by_hand = gradients_by_hand(list(model.parameters()))

        def closure() -> Tensor:
            with torch.no_grad():
                model(x)
            return by_hand()

        for flow in FLOWS:
            take_step(optimizer, closure, flow, ())
    assert waits.seen == []


# The same on tensors that have values.


@pytest.fixture
def not_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasam_core.verdicts.LOOKED_AT", frozenset())


FREE = ("SGD", "SGD, momentum", "SGD, fused", "AdamW, fused")  # whose steps, here, wait for nothing


def built(toys: Any, base: str, **options: Any) -> tuple[nn.Module, WASAM, WeightAverages]:
    kind, base_options = REAL[base]
    model = toys.net()
    optimizer = WASAM(model.named_parameters(), kind, model=model, **{"rho": 0.1} | base_options | options)
    return model, optimizer, WeightAverages(model, ema_decays=(0.5, 0.9))


@rotated(REAL)
def test_steps_are_those_of_a_host_that_looks(
    toys: Any, monkeypatch: pytest.MonkeyPatch, variant: str, option: str, base: str, flow: str
) -> None:
    ends = []
    if flow == "gradients present" and option == "in parts":
        flow = "closure"
    for looked_at in ({"cpu"}, frozenset()):
        monkeypatch.setattr("wasam_core.verdicts.LOOKED_AT", looked_at)
        torch.manual_seed(0)
        model, optimizer, averages = built(toys, base, variant=variant, **OPTIONS[option])
        for batch in toys.batches(4):

            def closure(*parts: Tensor, model: nn.Module = model, batch: Any = batch) -> Tensor:
                return toys.closure(model, parts or batch)()

            take_step(optimizer, closure, flow, batch if option == "in parts" else ())
            averages.update_step(optimizer.updated)
        ends.append((model.state_dict(), averages.read("ema@0.9"), optimizer.cost, averages.count("ema@0.5")))
    (weights, mean, cost, count), (others, other_mean, other_cost, other_count) = ends
    assert (cost, count) == (other_cost, other_count)
    # BatchNorm takes the bias before it back: its gradient is nothing but rounding, of which Adam makes whole steps.
    del weights["0.bias"], weights["1.running_mean"], mean[1], other_mean[1]
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=2e-4, atol=2e-6, msg=name)
    torch.testing.assert_close(other_mean, mean, rtol=2e-4, atol=2e-6)


def contents(model: nn.Module, optimizer: WASAM, averages: WeightAverages) -> Any:
    state = optimizer.base_optimizer.state_dict()["state"]
    return copy.deepcopy((model.state_dict(), state, averages.state_dict() | {"steps": 0}, optimizer._average))


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)


@pytest.mark.usefixtures("not_looking")
@crossed(base=REAL, failing=(1, 2), before=(0, 0, 2), flow=("closure", "two steps", "m"), bad=(torch.nan, torch.inf))
def test_a_failed_gradient_changes_nothing(
    toys: Any, bad: float, base: str, failing: int, before: int, flow: str
) -> None:
    model, optimizer, averages = built(toys, base, m=4 if flow == "m" else None, clip_norm=1.0)
    batch, passes = toys.batches(1)[0], iter(range(10**6))

    def step(failing: int) -> None:
        begun = next(passes)

        def closure(*parts: Tensor) -> Tensor:
            loss = toys.closure(model, parts or batch)()
            if next(passes) - begun == failing:
                model[4].bias.grad[1] = bad
            return loss

        take_step(optimizer, closure, "two steps" if flow == "two steps" else "closure", batch if flow == "m" else ())
        averages.update_step(optimizer.updated)

    for _ in range(before):
        step(-1)
    optimizer.update_swa()
    kept = contents(model, optimizer, averages)
    step(failing)
    now = contents(model, optimizer, averages)
    assert (optimizer.cost.steps, optimizer.cost.skipped) == (before, 1)
    assert not optimizer.updated
    weights, state, means, _ = now
    for name in weights:  # the clean pass may move statistics
        if "running" not in name and "num_batches" not in name:
            assert_same(weights[name], kept[0][name])
    assert_same(means, kept[2])
    if before:
        assert_same(state, kept[1])
    twin_model, twin, _ = built(toys, base, m=4 if flow == "m" else None, clip_norm=1.0)
    twin_model.load_state_dict(model.state_dict())
    if before:
        twin.load_state_dict(optimizer.state_dict())
    rng = torch.get_rng_state()
    step(-1)
    torch.set_rng_state(rng)
    closure = lambda *parts: toys.closure(twin_model, parts or batch)()  # noqa: E731
    take_step(twin, closure, "two steps" if flow == "two steps" else "closure", batch if flow == "m" else ())
    toys.assert_same_bits(model, twin_model)  # what comes after is as if there had been no failed step


@pytest.mark.usefixtures("not_looking")
@pytest.mark.parametrize("base", FREE)
@pytest.mark.parametrize("scaled", [False, True])
def test_no_step_is_read_back(toys: Any, base: str, scaled: bool) -> None:
    model, optimizer, averages = built(toys, base, clip_norm=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    batches = toys.batches(5)
    with Waits() as waits:
        for batch in batches:

            def closure(batch: Any = batch) -> Tensor:
                loss = toys.loss(model, batch)
                (scaler.scale(loss) if scaler else loss).backward()
                return loss

            optimizer.step(closure, scaler=scaler, examples=8)
            if scaler:
                scaler.update()
            averages.update_step(optimizer.updated)
        assert waits.seen == []
    assert optimizer.cost.steps == len(batches)


@pytest.mark.usefixtures("not_looking")
def test_a_scaler_skips_and_shrinks_without_being_asked(toys: Any) -> None:
    model, optimizer, _ = built(toys, "SGD, momentum")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    batch = toys.batches(1)[0]
    for failing in (1, 2):
        passes = iter((1, 2))
        before = copy.deepcopy([*model.parameters()])

        def closure(failing: int = failing, passes: Iterator[int] = passes) -> Tensor:
            loss = toys.loss(model, batch)
            scaler.scale(loss).backward()
            if next(passes) == failing:
                model[0].weight.grad[0, 0] = torch.inf
            return loss

        optimizer.step(closure, scaler=scaler)
        scaler.update()
        assert_same([*model.parameters()], before)
        assert scaler.get_scale() == 1024.0 / 2**failing
    assert (optimizer.cost.steps, optimizer.cost.skipped) == (0, 2)


@pytest.mark.usefixtures("not_looking")
def test_gradients_that_were_zeroed_are_not_taken_for_a_clean_pass(toys: Any) -> None:
    model, optimizer, _ = built(toys, "SGD")
    twin_model, twin, _ = built(toys, "SGD")
    for batch in toys.batches(3):
        toys.closure(model, batch)()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step(toys.closure(model, batch))
        torch.manual_seed(0)
    assert optimizer.cost.gradient_passes == 6
    # Zeros by somebody else's hand are not seen: no step is better than one that is not sharpness-aware.
    toys.closure(twin_model, batch)()
    twin_model.zero_grad(set_to_none=False)
    twin.step(toys.closure(twin_model, batch))
    assert (twin.cost.steps, twin.cost.skipped) == (0, 1)


@pytest.mark.usefixtures("not_looking")
def test_a_first_step_asks_for_a_second_pass_whatever_the_gradient(toys: Any) -> None:
    model, optimizer, _ = built(toys, "SGD, momentum")
    toys.closure(model, toys.batches(1)[0])()
    model[0].weight.grad[0] = torch.nan
    before = copy.deepcopy([*model.parameters()])
    assert optimizer.first_step(zero_grad=True) is True
    assert_same([*model.parameters()], before)
    toys.closure(model, toys.batches(1)[0])()
    updated = optimizer.second_step(zero_grad=True)
    assert isinstance(updated, Tensor)
    assert not updated
    assert_same([*model.parameters()], before)


@pytest.mark.usefixtures("not_looking")
@pytest.mark.parametrize("base", FREE)
def test_undoing_takes_a_copy_and_a_fused_optimizer_none(toys: Any, base: str) -> None:
    model, optimizer, _ = built(toys, base)
    for batch in toys.batches(3):
        optimizer.step(toys.closure(model, batch))
    state = [t for entry in optimizer.state.values() for t in entry.values() if isinstance(t, Tensor)]
    copied = 0 if "fused" in base else len([*model.parameters(), *state])
    assert len(optimizer._rollback._copies) == copied


@pytest.mark.usefixtures("not_looking")
def test_counters_that_nobody_has_read_are_those_of_every_copy(toys: Any) -> None:
    model, optimizer, averages = built(toys, "SGD")
    batch = toys.batches(1)[0]
    for _ in range(3):
        optimizer.step(toys.closure(model, batch))
        averages.update_step(optimizer.updated)
    twins = copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))
    other = built(toys, "SGD")[1]
    other.load_state_dict(optimizer.state_dict())
    copied = copy.deepcopy(averages)
    optimizer.step(toys.closure(model, batch))
    averages.update_step(optimizer.updated)
    assert optimizer.cost.steps == averages.count("ema@0.5") == 4
    assert [one.cost.steps for one in (*twins, other)] == [3, 3, 3]
    assert copied.count("ema@0.5") == 3


@pytest.fixture
def alone(not_looking: None) -> Iterator[dist.ProcessGroup]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("local", [False, True])
def test_processes_agree_without_reading_a_value(toys: Any, local: bool) -> None:
    net = toys.net()
    model = DistributedDataParallel(net)
    kind, options = REAL["SGD, momentum"]
    optimizer = WASAM(model.parameters(), kind, model=model, clip_norm=1.0, local_ascent=local, **options)
    batches = [*toys.batches(3), (torch.full((8, 6), torch.nan), torch.zeros(8, dtype=torch.long))]
    with Waits() as waits:
        for batch in batches:
            before = copy.deepcopy([*net.parameters()])
            optimizer.step(toys.closure(model, batch))
        assert waits.seen == []
    assert (optimizer.cost.steps, optimizer.cost.skipped) == (3, 1)
    assert_same([*net.parameters()], before)


def test_the_generator_of_a_gpu_is_left_alone_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    captured, state = [False], torch.zeros(16, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: captured[0])
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    assert capture_rng([torch.device("cuda:0")]).keys() == {"cpu", "cuda:0"}
    captured[0] = True
    assert capture_rng([torch.device("cuda:0")]).keys() == {"cpu"}
