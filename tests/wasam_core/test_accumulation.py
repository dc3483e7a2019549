"""Gradients that are present when a step begins: of the whole clean pass, or of earlier micro-batches."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import crossed
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from wasam_core import WASAM

SGD = {"lr": 0.1, "momentum": 0.9}


def linear(slope: float, w: nn.Parameter) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        loss = (w * slope).sum()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("rho", [0.0, 0.05, 2.0])
@pytest.mark.parametrize("interval", [1, 2])
def test_gradients_of_earlier_micro_batches_count(rho, interval):
    w, v = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = WASAM([w], torch.optim.SGD, rho=rho, lr=1.0, interval=interval, gradient_accumulation_steps=2)
    base = torch.optim.SGD([v], lr=1.0)
    for _ in range(3):
        for p, one in ((w, optimizer), (v, base)):
            linear(1.0, p)()
            one.step(linear(10.0, p))
            one.zero_grad()
    assert w.item() == v.item() == -33.0


def test_accumulation_without_a_radius_is_the_base_optimizer(toys):
    ends = []
    for wrapped in (True, False):
        torch.manual_seed(3)
        model = toys.net()
        base = torch.optim.SGD(model.parameters(), **SGD)
        one = WASAM(model.parameters(), base, rho=0.0, model=model, gradient_accumulation_steps=3) if wrapped else base
        batches = toys.batches(9)
        for first in range(0, 9, 3):
            for batch in batches[first : first + 2]:
                toys.loss(model, batch).backward()
            one.step(toys.closure(model, batches[first + 2]))
            one.zero_grad()
        ends.append((model, torch.get_rng_state()))
    toys.assert_same_bits(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_the_last_micro_batch_sees_its_random_numbers_again(toys):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.5, model=model, gradient_accumulation_steps=3, **SGD)
    masks: list[Tensor] = []
    model[3].register_forward_hook(lambda _, x, y: masks.append(y == 0))
    model[2].register_forward_hook(lambda _, x, y: torch.ones_like(y))
    for batch in toys.batches(2):
        toys.loss(model, batch).backward()
    optimizer.step(toys.closure(model, toys.batches(3)[2]))
    assert len(masks) == 4
    assert torch.equal(masks[2], masks[3])
    assert not torch.equal(masks[1], masks[2])
    assert model[1].num_batches_tracked == 3


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 4),
    rho=st.floats(0.0, 1.0),
    variant=st.sampled_from(["sam", "asam", "asam-common"]),
    present=st.integers(0, 3),
)
def test_accumulation_has_a_closed_form(seed, count, rho, variant, present):
    """Of quadratics with curvatures H_i: G = sum of all, e along G, then G + k (g_k(w + e) - g_k(w))."""
    present = min(present, count - 1)
    torch.manual_seed(seed)
    start = torch.randn(3, dtype=torch.float64)
    curvatures = [(m := torch.randn(3, 3, dtype=torch.float64)) @ m.T for _ in range(present + 1)]
    w = nn.Parameter(start.clone())
    optimizer = WASAM(
        [("weight", w)], torch.optim.SGD, rho=rho, variant=variant, lr=0.1, gradient_accumulation_steps=count
    )

    def closure(curvature: Tensor) -> Tensor:
        loss = 0.5 * w @ curvature @ w
        loss.backward()
        return loss

    for curvature in curvatures[:-1]:
        closure(curvature)
    loss = optimizer.step(partial(closure, curvatures[-1]))
    torch.testing.assert_close(loss, 0.5 * start @ curvatures[-1] @ start)
    scale = {"sam": torch.ones(3, dtype=torch.float64), "asam": start.abs() + 0.01, "asam-common": start.abs()}[variant]
    total = sum(curvature @ start for curvature in curvatures)
    e = rho * scale**2 * total / (scale * total).norm()
    stands_for = count if present else 1
    torch.testing.assert_close(
        w.detach(), start - 0.1 * (total + stands_for * curvatures[-1] @ e), rtol=1e-9, atol=1e-9
    )
    assert optimizer.cost.gradient_passes == (1 if rho == 0 else 2) + (count - 1 if present else 0)


@pytest.mark.parametrize("count", [2, 4])
def test_equal_micro_batches_take_the_step_of_one(toys, count):
    whole, parts = toys.net(0.0).double(), toys.net(0.0).double()
    a = WASAM(whole.parameters(), torch.optim.SGD, rho=0.3, model=whole, **SGD)
    b = WASAM(parts.parameters(), torch.optim.SGD, rho=0.3, model=parts, gradient_accumulation_steps=count, **SGD)
    for x, y in toys.batches(3):
        batch = (x.double(), y)
        a.step(toys.closure(whole, batch))

        def closure(batch=batch):
            loss = toys.loss(parts, batch) / count
            loss.backward()
            return loss

        for _ in range(count - 1):
            closure()
        b.step(closure)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_a_scaler_scales_accumulated_gradients(toys):
    ends = []
    for scale in (1.0, 1024.0):
        model = toys.net(0.0)
        optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.3, gradient_accumulation_steps=2, **SGD)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)

        def closure(batch, model=model, scaler=scaler):
            loss = toys.loss(model, batch) / 2
            scaler.scale(loss).backward()
            return loss

        batches = toys.batches(4)
        for one, other in zip(batches[::2], batches[1::2], strict=True):
            closure(one)
            optimizer.step(partial(closure, other), scaler=scaler)
            scaler.update(scale)
        ends.append(list(model.parameters()))
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("failing", [1, 2])
def test_an_overflow_skips_accumulated_steps_too(toys, failing):
    model, batch = toys.net(0.0), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.3, gradient_accumulation_steps=2, **SGD)
    before = [p.detach().clone() for p in model.parameters()]
    toys.loss(model, batch).backward()
    passes = 0

    def closure():
        nonlocal passes
        passes += 1
        loss = toys.closure(model, batch)()
        if passes == failing:
            model[4].bias.grad[0] = torch.inf
        return loss

    optimizer.step(closure)
    assert optimizer.cost.skipped == 1
    for p, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps = 0"),
        ({"gradient_accumulation_steps": 2, "m": 4}, "contradicts m"),
        ({"gradient_accumulation_steps": 2, "local_ascent": True}, "contradicts m"),
    ],
)
def test_accumulation_is_checked_at_birth(toys, options, message):
    with pytest.raises(ValueError, match=message):
        WASAM(toys.net().parameters(), torch.optim.SGD, lr=0.1, **options)


class Closure:
    """As Lightning's loop hands them to an optimizer, wrapped once more by its precision plugin."""

    __module__ = "lightning.pytorch.loops.optimization.automatic"

    def __init__(self, closure: Callable[[], Tensor]) -> None:
        self.closure = closure

    def __call__(self) -> Tensor:
        return self.closure()


def lightning(closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return partial(lambda model, optimizer, inner: inner(), None, None, Closure(closure))


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_a_trainer_that_accumulates_in_silence_is_refused(toys, rho):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=rho, **SGD)
    one, other = toys.batches(2)
    optimizer.step(lightning(toys.closure(model, one)))
    before = [p.detach().clone() for p in model.parameters()]
    toys.loss(model, one).backward()
    with pytest.raises(RuntimeError, match=r"gradient_accumulation_steps=k.*accumulate_grad_batches"):
        optimizer.step(lightning(toys.closure(model, other)))
    for p, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value)
    assert optimizer.cost.steps == 1


class Fed(nn.Module):
    """A net that takes its inputs in many ways."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Any = None, *, inputs: Any = None) -> Tensor:
        x = inputs if x is None else x
        x = x["x"] if isinstance(x, dict) else x[0] if isinstance(x, tuple) else x
        return self.layer(x)


WAYS: dict[str, Callable[[Fed, Tensor], Tensor]] = {
    "tensor": lambda model, x: model(x),
    "new tensor": lambda model, x: model(x.clone()),
    "keyword": lambda model, x: model(inputs=x.clone()),
    "dict": lambda model, x: model({"x": x.clone(), "name": "x"}),
    "tuple": lambda model, x: model((x.clone(), [x])),
}


@crossed(way=WAYS, earlier=(1, 2, 3), bad=(0.0, torch.nan), rho=(0.3, 0.0))
def test_gradients_of_another_batch_are_seen_if_the_model_is_known(way, earlier, bad, rho):
    model = Fed()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=rho, lr=0.1, model=model)
    batches = torch.randn(earlier + 1, 4, 3)
    batches[:, 0, 0] = bad

    def closure(x: Tensor) -> Tensor:
        loss = WAYS[way](model, x).nan_to_num().square().mean()
        loss.backward()
        for p in model.parameters():
            p.grad.nan_to_num_()
        return loss

    before = [p.detach().clone() for p in model.parameters()]
    for x in batches[:-1]:
        closure(x)
    with pytest.raises(RuntimeError, match="another batch"):
        optimizer.step(partial(closure, batches[-1]))
    for p, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None
    assert optimizer.cost.gradient_passes == 0

    for x in batches:
        closure(x)
    optimizer.step(lambda: sum(closure(x) for x in batches))  # all of them again
    closure(batches[0])
    optimizer.step(partial(closure, batches[0]))
    closure(batches[0])
    optimizer.zero_grad()
    closure(batches[1])
    optimizer.step(partial(closure, batches[1]))
    assert optimizer.cost.steps == 3


def test_the_comparison_of_batches_has_no_effect(toys):
    ends = []
    for wrapped in (True, False):
        model = toys.net()
        base = torch.optim.SGD(model.parameters(), **SGD)
        one = WASAM(model.parameters(), base, rho=0.0, model=model) if wrapped else base
        torch.manual_seed(3)
        forwards: list[int] = []
        model.register_forward_hook(lambda *_, forwards=forwards: forwards.append(1))
        for batch in toys.batches(3):
            toys.loss(model, batch).backward()
            one.step(toys.closure(model, batch) if wrapped else None)
            one.zero_grad()
            torch.rand(2)
        assert len(forwards) == 3 + wrapped  # the first time
        ends.append((model, torch.get_rng_state()))
    toys.assert_same_bits(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_gradients_before_micro_batches_are_not_lost_in_silence(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, m=4, **SGD)
    toys.loss(model, batch).backward()
    with pytest.raises(RuntimeError, match="would be lost"):
        optimizer.step(lambda *part: toys.closure(model, part)(), batch=batch)


@pytest.mark.parametrize("told", [True, False])
def test_a_closure_that_clears_gradients_itself_sees_the_same_random_numbers(toys, told):
    """As torch's own optimizers expect it, and trainers."""
    ends = []
    for clears in (False, True):
        model = toys.net()
        optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.5, model=model if told else None, **SGD)
        torch.manual_seed(3)
        masks = []
        model[3].register_forward_hook(lambda _, x, y, masks=masks: masks.append((y == 0) & (x[0] != 0)))
        for batch in toys.batches(3):

            def closure(batch=batch, model=model, optimizer=optimizer, clears=clears):
                loss = toys.loss(model, batch)
                if clears:
                    optimizer.zero_grad()
                loss.backward()
                return loss

            optimizer.step(closure)
        ends.append((model, torch.get_rng_state()))
        assert len(masks) == 6
    toys.assert_same_bits(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


# Gradients that are sparse.


@pytest.mark.parametrize("variant", ["sam", "asam", "asam-common"])
@pytest.mark.parametrize("flow", ["closure", "gradients present", "accumulation", "clip"])
def test_sparse_gradients_take_the_step_of_dense_ones(variant, flow):
    ends = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=sparse).double()
        options: dict[str, Any] = {"clip_norm": 0.1} if flow == "clip" else {}
        if flow == "accumulation":
            options = {"gradient_accumulation_steps": 2}
        optimizer = WASAM(table.named_parameters(), torch.optim.SGD, rho=0.5, variant=variant, lr=0.1, **options)

        def closure(rows: list[int], table: nn.Module = table) -> Tensor:
            loss = table(torch.tensor(rows)).square().sum()
            loss.backward()
            return loss

        for rows in ([1, 3, 1], [0, 5, 2]):
            if flow == "gradients present":
                closure(rows)
            if flow == "accumulation":
                closure([4, 3])
            optimizer.step(partial(closure, rows))
        assert optimizer.cost.steps == 2
        ends.append(table.weight.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_sparse_adam_steps(rho, maximize):
    table = nn.Embedding(6, 3, sparse=True)
    twin = copy.deepcopy(table)
    optimizer = WASAM(table.parameters(), torch.optim.SparseAdam, rho=rho, lr=0.1, maximize=maximize)
    base = torch.optim.SparseAdam(list(twin.parameters()), lr=0.1, maximize=maximize)
    for _ in range(3):
        for net, one in ((table, optimizer), (twin, base)):

            def closure(net: nn.Module = net) -> Tensor:
                loss = net(torch.tensor([1, 2, 1])).square().sum()
                loss.backward()
                return loss

            one.step(closure)
            one.zero_grad()
    assert torch.equal(table.weight, twin.weight) is (rho == 0.0)


# Gradients that lie in the buckets of DistributedDataParallel, where the next pass writes its own.


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("rho", [0.0, 0.3])
@pytest.mark.parametrize("flow", ["accumulation", "gradients present", "two steps", "m"])
def test_gradients_in_buckets_are_not_written_over(toys, flow, rho):
    ends = []
    options: dict[str, Any] = {"m": 3} if flow == "m" else {}
    if flow == "accumulation":
        options = {"gradient_accumulation_steps": 2}
    for parallel in (False, True):
        net = toys.net(0.0)
        model = DistributedDataParallel(net, gradient_as_bucket_view=True) if parallel else net
        optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=rho, model=model, **options, **SGD)
        batches = toys.batches(6)
        for one, other in zip(batches[::2], batches[1::2], strict=True):
            if flow == "accumulation":
                with model.no_sync() if parallel else nullcontext():
                    toys.loss(model, one).backward()
                optimizer.step(toys.closure(model, other))
            elif flow == "gradients present":
                toys.loss(model, one).backward()
                optimizer.step(toys.closure(model, one))
            elif flow == "m":
                optimizer.step(lambda *part, model=model: toys.closure(model, part)(), batch=one)
            else:
                toys.loss(model, one).backward()
                optimizer.first_step(zero_grad=True)
                toys.loss(model, one).backward()
                optimizer.second_step(zero_grad=True)
        ends.append(net)
    for p, q in zip(*(end.parameters() for end in ends), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.usefixtures("one_process")
def test_an_overflow_in_buckets_lowers_the_scale(toys):
    model, batch = DistributedDataParallel(toys.net(0.0), gradient_as_bucket_view=True), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    passes = 0

    def closure() -> Tensor:
        nonlocal passes
        passes += 1
        loss = toys.loss(model, batch)
        scaler.scale(loss).backward()
        if passes == 5:  # the buckets are rebuilt in the beginning
            model.module[0].weight.grad[0, 0] = torch.inf
        return loss

    for _ in range(3):
        optimizer.step(closure, scaler=scaler)
        scaler.update()
    assert (optimizer.cost.steps, optimizer.cost.skipped, scaler.get_scale()) == (2, 1, 512.0)
