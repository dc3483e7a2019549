"""The laws that a sharpness-aware optimizer and its averages keep, one after the other."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wasam_core import WASAM, WeightAverages, perturbed, recalibrate_batchnorm

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
SEEDS = st.integers(0, 2**32 - 1)


# 1. rho = 0 is the base optimizer, bit for bit.


@pytest.mark.parametrize("flow", ["closure", "two steps", "gradients present", "perturbed"])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_law_1_rho_zero_is_the_base_optimizer(toys, flow, base):
    options = SGD if base is torch.optim.SGD else {"lr": 0.01}
    reference, model = toys.net(), toys.net()
    plain = base(reference.parameters(), **options)
    inner = base(model.parameters(), **options)
    optimizer = WASAM(model.parameters(), inner, rho=0.0, model=model)
    states = []
    for net in (reference, model):
        torch.manual_seed(7)
        for batch in toys.batches():
            if net is reference:
                toys.loss(net, batch).backward()
                plain.step()
                plain.zero_grad()
            elif flow == "closure":
                optimizer.step(toys.closure(net, batch))
            elif flow == "two steps":
                toys.loss(net, batch).backward()
                optimizer.first_step(zero_grad=True)
                toys.loss(net, batch).backward()
                optimizer.second_step(zero_grad=True)
            elif flow == "gradients present":
                toys.loss(net, batch).backward()
                optimizer.step(toys.closure(net, batch))
            else:
                before = {"cpu": torch.get_rng_state()}
                toys.loss(net, batch).backward()
                with perturbed(net, rho=0.0, rng=before):
                    toys.loss(net, batch).backward()
                inner.step()
                inner.zero_grad()
            torch.rand(3)  # other consumers of the generator must see the same stream
        states.append(torch.get_rng_state())
    toys.assert_same_bits(reference, model)
    assert torch.equal(*states)


class RecordedDropout(nn.Module):
    """Dropout that remembers its random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.drawn.append(torch.rand_like(x))
        return x * (self.drawn[-1] > 0.5)


@pytest.mark.parametrize("flow", ["closure", "closure, no model", "two steps", "gradients present", "perturbed"])
def test_law_1_both_passes_see_the_same_random_numbers_and_only_the_clean_one_moves_batchnorm(toys, flow):
    model, dropout = toys.net(), RecordedDropout()
    model[3] = dropout
    told = {} if flow == "closure, no model" else {"model": model}
    inner = torch.optim.SGD(model.parameters(), **SGD)
    optimizer = WASAM(model.parameters(), inner, rho=0.5, **told)
    for count, batch in enumerate(toys.batches(3), 1):
        expected = copy.deepcopy(model)
        expected(batch[0])
        if flow.startswith("closure"):
            optimizer.step(toys.closure(model, batch))
        else:
            rng = {"cpu": torch.get_rng_state()}
            toys.loss(model, batch).backward()
            torch.rand(2)  # something else between the passes, such as a data loader
            if flow == "two steps":
                optimizer.first_step(zero_grad=True)
                toys.loss(model, batch).backward()
                optimizer.second_step(zero_grad=True)
            elif flow == "gradients present":
                optimizer.step(toys.closure(model, batch))
            else:
                with perturbed(model, rho=0.5, rng=rng):
                    toys.loss(model, batch).backward()
                inner.step()
                inner.zero_grad()
        assert len(dropout.drawn) == 2 * count
        assert torch.equal(dropout.drawn[-2], dropout.drawn[-1])
        assert model[1].num_batches_tracked == count
        for name, buffer in model[1].named_buffers():
            assert torch.equal(buffer, expected[1].get_buffer(name)), name
    assert not torch.equal(dropout.drawn[0], dropout.drawn[2])


def test_law_1_each_micro_batch_sees_its_own_random_numbers_again(toys):
    model, dropout = toys.net(), RecordedDropout()
    model[3] = dropout
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.5, model=model, **SGD)
    batches = toys.batches(3)
    for _ in range(2):
        for batch in batches:
            torch.rand(5)
            toys.loss(model, batch).backward()
        optimizer.first_step(zero_grad=True)
        for batch in batches:
            torch.rand(11)
            toys.loss(model, batch).backward()
        optimizer.second_step(zero_grad=True)
    for i in (0, 1, 2, 6, 7, 8):
        assert torch.equal(dropout.drawn[i], dropout.drawn[i + 3])
    assert not torch.equal(dropout.drawn[0], dropout.drawn[1])


# 2. One step is the closed form on a quadratic.


def quadratic(seed: int, size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=g, dtype=torch.float64)
    return root @ root.T / size + torch.eye(size, dtype=torch.float64), torch.randn(
        size, generator=g, dtype=torch.float64
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rho=st.floats(0.0, 2.0), variant=st.sampled_from(["sam", "asam", "asam-common"]))
def test_law_2_one_step_equals_the_closed_form(seed, rho, variant):
    curvature, start = quadratic(seed)
    w = nn.Parameter(start.clone())
    bias = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    optimizer = WASAM(
        [("layer.weight", w), ("layer.bias", bias)], torch.optim.SGD, rho=rho, variant=variant, lr=0.05
    )  # fmt: skip

    def closure():
        loss = 0.5 * w @ curvature @ w + 1.5 * bias.square().sum() + 0.3 * (w.sum() * bias).sum()
        loss.backward()
        return loss

    loss = optimizer.step(closure)

    full = torch.zeros(6, 6, dtype=torch.float64)
    full[:5, :5], full[5, 5] = curvature, 3.0
    full[:5, 5] = full[5, :5] = 0.3
    x = torch.cat([start, torch.tensor([0.7], dtype=torch.float64)])
    scale = {
        "sam": torch.ones(6, dtype=torch.float64),
        "asam": torch.cat([start.abs() + 0.01, torch.ones(1, dtype=torch.float64)]),
        "asam-common": x.abs(),
    }[variant]
    g = full @ x
    e = rho * scale**2 * g / (scale * g).norm()
    expected = x - 0.05 * full @ (x + e)
    torch.testing.assert_close(loss, 0.5 * x @ full @ x)
    torch.testing.assert_close(torch.cat([w, bias]).detach(), expected, rtol=1e-9, atol=1e-9)


# 3. After a perturbation the weights are the same bits at the same address.


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    rho=st.floats(0, 1e6, width=32),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    first=st.lists(st.booleans(), min_size=3, max_size=3),
    second=st.lists(st.booleans(), min_size=3, max_size=3),
    raises=st.booleans(),
    variant=st.sampled_from(["sam", "asam-common"]),
)
def test_law_3_weights_return_bit_for_bit_to_the_same_address(seed, rho, dtype, first, second, raises, variant):
    torch.manual_seed(seed)
    params = [nn.Parameter(torch.randn(size).to(dtype)) for size in (3, 4, 1)]
    before = [(p.data_ptr(), p.detach().clone()) for p in params]

    def give_gradients(which):
        for p, wanted in zip(params, which, strict=True):
            p.grad = torch.randn_like(p) if wanted else None

    give_gradients(first)

    def block():
        with perturbed(params, rho=rho, variant=variant):
            give_gradients(second)
            if raises:
                raise ZeroDivisionError

    if raises:
        with pytest.raises(ZeroDivisionError):
            block()
    else:
        block()
    for p, (address, value) in zip(params, before, strict=True):
        assert p.data_ptr() == address
        assert torch.equal(p, value)
        assert p.is_leaf
        assert p.requires_grad


@pytest.mark.parametrize("flow", ["closure", "two steps"])
def test_law_3_a_second_pass_that_raises_leaves_no_trace(toys, flow):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    passes = []

    def closure():
        loss = toys.closure(model, batch)()
        passes.append(toys.snapshot(model))
        if len(passes) == 2:
            raise ZeroDivisionError
        return loss

    if flow == "closure":
        before = toys.snapshot(model)
        with pytest.raises(ZeroDivisionError):
            optimizer.step(closure)
    else:
        closure()
        before = toys.snapshot(model)
        optimizer.first_step(zero_grad=True)
        with pytest.raises(ZeroDivisionError):
            closure()
        with pytest.raises(RuntimeError, match=r"restore\(\)"):
            optimizer.first_step()
        optimizer.restore()
        optimizer.zero_grad()
    # What the clean pass did to BatchNorm stays, as in any training loop.
    expected = passes[0] if flow == "closure" else before
    toys.assert_untouched(model, expected)
    assert all(p.grad is None for p in model.parameters())
    assert isinstance(optimizer.step(toys.closure(model, batch)), torch.Tensor)


# 4. A gradient that is not finite leaves everything as it was.


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("flow", ["closure", "two steps", "m"])
def test_law_4_a_non_finite_gradient_skips_the_step(toys, bad, failing, flow):
    model, (good, *_) = toys.net(), toys.batches()
    optimizer = WASAM(
        model.parameters(), torch.optim.SGD, model=model, m=4 if flow == "m" else None, **SGD
    )  # fmt: skip

    def spoiled(pass_number, *parts):
        loss = toys.closure(model, parts or good)()
        if pass_number == failing:
            model[4].bias.grad[1] = bad
        return loss

    optimizer.step(lambda *parts: spoiled(0, *parts), batch=good)
    optimizer.update_swa()
    weights = [p.detach().clone() for p in model.parameters()]
    moments = copy.deepcopy(optimizer.base_optimizer.state_dict())
    average = copy.deepcopy(optimizer._average.read())

    if flow == "two steps":
        spoiled(1)
        assert optimizer.first_step(zero_grad=True) is (failing == 2)
        spoiled(2)
        assert not optimizer.second_step(zero_grad=True)
    else:
        passes = iter(range(1, 9))
        loss = optimizer.step(lambda *parts: spoiled(next(passes), *parts), batch=good)
        assert loss.isfinite()
    for p, before in zip(model.parameters(), weights, strict=True):
        assert torch.equal(p, before)
        assert p.grad is None
    after = optimizer.state_dict()
    assert optimizer.cost.skipped == 1
    assert optimizer.cost.steps == 1
    for index, state in moments["state"].items():
        assert torch.equal(after["state"][index]["momentum_buffer"], state["momentum_buffer"])
    for a, b in zip(average, optimizer._average.read(), strict=True):
        assert torch.equal(a, b)
    optimizer.step(lambda *parts: spoiled(0, *parts), batch=good)
    assert optimizer.cost.steps == 2


def test_law_4_large_finite_gradients_are_not_skipped():
    w = nn.Parameter(torch.zeros(3))
    optimizer = WASAM([w], torch.optim.SGD, lr=1e-30)
    optimizer.step(lambda: (w.sum() * 1e30).backward() or w.sum())
    assert optimizer.cost.skipped == 0
    assert torch.equal(w, torch.full((3,), -1.0))


# 5. Saving and going on in a new process gives the same bits.

RESUME = """
import sys, torch
from torch import nn
from wasam_core import WASAM, WeightAverages

def build(base):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    options = {"momentum": 0.9} if base is torch.optim.SGD else {}
    optimizer = WASAM(model.parameters(), base, rho=0.1, lr=0.01, interval=2, model=model, **options)
    averages = WeightAverages(
        model, swa_starts=(0.2, 0.5), max_epochs=10, ema_decays=(0.9,), ema_every=2, lawa_windows=(3,)
    )
    return model, optimizer, averages, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

def run(parts, epochs):
    model, optimizer, averages, scheduler = parts
    for epoch in epochs:
        x, y = torch.randn(8, 6), torch.randint(3, (8,))
        def closure():
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss
        optimizer.step(closure, examples=8)
        scheduler.step()
        averages.update_step()
        averages.update(epoch)
        if epoch >= 4:
            optimizer.update_swa()

def state(parts):
    return [part.state_dict() for part in parts]

def interrupted(folder, bases):
    for base in bases:
        parts = build(base)
        run(parts, range(1, 7))
        torch.save(state(parts), f"{folder}/{base.__name__} half.pt")
        run(parts, range(7, 11))
        torch.save(state(parts), f"{folder}/{base.__name__} whole.pt")

def resumed(folder, bases):
    torch.set_num_threads(1)
    for base in bases:
        parts = build(base)
        torch.manual_seed(12345)
        saved = torch.load(f"{folder}/{base.__name__} half.pt", weights_only=True)
        for part, its_state in zip(parts[::-1], saved[::-1]):
            part.load_state_dict(its_state)
        run(parts, range(7, 11))
        torch.save(state(parts), f"{folder}/{base.__name__} resumed.pt")

BASES = (torch.optim.SGD, torch.optim.Adam)
"""


def assert_equal_nested(a, b, path=""):
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal_nested(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_nested(x, y, f"{path}/{i}")
    else:
        assert a == b, path


@pytest.mark.slow
def test_law_5_a_new_process_goes_on_with_the_same_bits(tmp_path):
    here: dict = {}
    exec(RESUME, here)
    here["interrupted"](tmp_path, here["BASES"])
    subprocess.run([sys.executable, "-c", RESUME + "resumed(sys.argv[1], BASES)", str(tmp_path)], check=True)
    for base in here["BASES"]:
        whole, resumed = (torch.load(tmp_path / f"{base.__name__} {name}.pt") for name in ("whole", "resumed"))
        assert_equal_nested(whole, resumed)


def test_law_5_saving_while_perturbed_or_swapped_is_refused(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    averages = WeightAverages(model, ema_decays=(0.9,))
    averages.update_step()
    optimizer.update_swa()
    toys.loss(model, batch).backward()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="perturbed"):
        optimizer.state_dict()
    optimizer.restore()
    with optimizer.average_parameters(), pytest.raises(RuntimeError, match="swapped"):
        optimizer.state_dict()
    with averages.average_parameters("ema@0.9"), pytest.raises(RuntimeError, match="Leave the block"):
        averages.state_dict()
    optimizer.state_dict()
    averages.state_dict()


# 6. One set of groups.


def test_law_6_scheduler_and_groups_are_shared(toys):
    model, extra = toys.net(), nn.Parameter(torch.zeros(2))
    inner = torch.optim.SGD(model.parameters(), **SGD)
    optimizer = WASAM(model.parameters(), inner, rho=0.1)
    assert optimizer.param_groups is inner.param_groups
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    batch = toys.batches(1)[0]
    toys.loss(model, batch).backward()
    optimizer.first_step(zero_grad=True)
    toys.loss(model, batch).backward()
    optimizer.second_step(zero_grad=True)
    scheduler.step()
    assert inner.param_groups[0]["lr"] == 0.05
    optimizer.add_param_group({"params": [extra], "lr": 1.0})
    assert inner.param_groups[1]["params"][0] is extra
    assert inner.param_groups[1]["rho"] == 0.1
    extra.grad = torch.ones(2)
    optimizer.first_step()
    optimizer.second_step()
    assert extra.abs().min() > 0
    for loader in (optimizer, inner):
        loader.load_state_dict(loader.state_dict())
        assert optimizer.param_groups is inner.param_groups
        optimizer.param_groups[0]["lr"] = 0.123
        assert inner.param_groups[0]["lr"] == 0.123


# 7. Micro-batches.


@pytest.mark.parametrize("parts", [2, 4])
def test_law_7_accumulated_micro_batches_take_the_step_of_the_whole_batch(toys, parts):
    models = [nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [WASAM(m.parameters(), torch.optim.SGD, rho=0.2, model=m, **SGD) for m in models]
    for x, y in toys.batches(3, size=8):
        x = x.double()
        optimizers[0].step(toys.closure(models[0], (x, y)))

        def accumulate(x=x, y=y):
            for part in zip(x.chunk(parts), y.chunk(parts), strict=True):
                (toys.loss(models[1], part) / parts).backward()

        accumulate()
        optimizers[1].first_step(zero_grad=True)
        accumulate()
        optimizers[1].second_step(zero_grad=True)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_law_7_m_equal_to_the_batch_is_plain_sam(toys):
    plain, parted = toys.net(), toys.net()
    a = WASAM(plain.parameters(), torch.optim.SGD, model=plain, **SGD)
    b = WASAM(parted.parameters(), torch.optim.SGD, model=parted, m=8, **SGD)
    losses = []
    for optimizer, model in ((a, plain), (b, parted)):
        torch.manual_seed(3)
        for batch in toys.batches():
            loss = optimizer.step(lambda *part, model=model: toys.closure(model, part)(), batch=batch)
            losses.append(loss.item())
    toys.assert_same_bits(plain, parted)
    assert losses[:6] == losses[6:]
    assert a.cost == b.cost


@pytest.mark.parametrize("m", [1, 3, 5])
def test_law_7_m_averages_the_perturbed_gradients_of_its_parts(m):
    """Against a slow loop over the parts, in closed form for a quadratic per example."""
    torch.manual_seed(4)
    x, w0 = torch.randn(8, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    w = nn.Parameter(w0.clone())
    optimizer = WASAM([w], torch.optim.SGD, rho=0.3, lr=0.1, m=m)

    def closure(part):
        loss = (part @ w).square().mean()
        loss.backward()
        return loss

    loss = optimizer.step(closure, batch=(x,))
    total = torch.zeros(3, dtype=torch.float64)
    for part in x.split(m):
        hessian = 2 * part.T @ part / len(part)
        g = hessian @ w0
        total += hessian @ (w0 + 0.3 * g / g.norm()) * len(part) / 8
    torch.testing.assert_close(w.detach(), w0 - 0.1 * total)
    torch.testing.assert_close(loss, (x @ w0).square().mean())
    assert optimizer.cost.gradient_evaluations == 16


# 8 and 9. Averages (more in test_averaging.py).


@settings(max_examples=20, deadline=None)
@given(
    seed=SEEDS,
    epochs=st.integers(1, 40),
    starts=st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_law_8_averages_equal_their_float64_twins(seed, epochs, starts, dtype):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2).to(dtype)
    averages = WeightAverages(model, swa_starts=starts, max_epochs=epochs, ema_decays=(0.7, 0.99))
    history: list[torch.Tensor] = []
    emas = {0.7: torch.zeros(2, 3, dtype=torch.float64), 0.99: torch.zeros(2, 3, dtype=torch.float64)}
    for epoch in range(1, epochs + 1):
        model.weight.data.add_(torch.randn_like(model.weight))
        averages.update_step()
        averages.update(epoch)
        history.append(model.weight.detach().double().clone())
        for decay, ema in emas.items():
            ema.mul_(decay).add_(history[-1], alpha=1 - decay)
    for start in starts:
        want = torch.stack(history[max(1, int(start * epochs)) - 1 :]).mean(0)
        torch.testing.assert_close(averages.read(f"swa@{start!r}")[0].double(), want, rtol=2e-6, atol=2e-6)
    for decay, ema in emas.items():
        want = ema / (1 - decay**epochs)
        torch.testing.assert_close(averages.read(f"ema@{decay}")[0].double(), want, rtol=2e-5, atol=2e-6)


def test_law_8_bfloat16_weights_are_averaged_in_float32_at_any_decay():
    model = nn.Linear(1, 1, bias=False).bfloat16()
    averages = WeightAverages(model, ema_decays=(0.999,))
    for step in range(200):
        model.weight.data.fill_(1.0 + step % 2)
        averages.update_step()
    assert abs(averages.read("ema@0.999")[0].item() - 1.5) < 0.01


def test_law_9_many_averages_cost_one_pass_over_the_weights(monkeypatch):
    model = nn.Linear(50, 40)
    weights = sum(p.numel() for p in model.parameters()) * 4
    averages = WeightAverages(
        model, swa_starts=(0.5, 0.6, 0.75, 0.9), max_epochs=20, ema_decays=(0.99, 0.998, 0.9995), ema_every=4
    )  # fmt: skip
    written = []
    for name in ("_foreach_copy_", "_foreach_lerp_"):
        write = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda tensors, *a, w=write: written.append(sum(t.nbytes for t in tensors)) or w(tensors, *a)
        )
    for epoch in range(1, 21):
        written.clear()
        averages.update(epoch)
        assert sum(written) == (epoch >= 10) * weights
    written.clear()
    for _ in range(8):
        averages.update_step()
    assert sum(written) == 3 * 8 / 4 * weights
    assert averages.nbytes == (4 + 3) * weights
    shared = WeightAverages(model, swa_starts=(0.5, 0.52), max_epochs=10)
    assert shared.nbytes == 0
    shared.update(6)
    assert shared.nbytes == weights


# 10. BatchNorm (more in test_batchnorm.py).


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), limit=st.integers(1, 9))
def test_law_10_recalibration_gives_population_moments_whatever_the_batches(seed, sizes, limit):
    torch.manual_seed(seed)
    batches = [torch.randn(size, 3) * (1 + i) + 5 * i for i, size in enumerate(sizes)]
    layer = nn.BatchNorm1d(3)
    recalibrate_batchnorm(layer, batches, limit=limit)
    x = torch.cat(batches[:limit]).double()
    torch.testing.assert_close(layer.running_mean, x.mean(0).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.running_var, x.var(0, correction=0).float(), rtol=1e-4, atol=1e-5)


# 11. Evaluating the average leaves training as it was.


@pytest.mark.parametrize("spelling", ["swap_swa_sgd", "average_parameters", "WeightAverages"])
@pytest.mark.parametrize("told", [True, False])
def test_law_11_evaluating_the_average_leaves_the_iterate_alone(toys, spelling, told):
    model, batches = toys.net(), toys.batches()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model if told else None, **SGD)
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=6)
    for epoch, batch in enumerate(batches, 1):
        optimizer.step(toys.closure(model, batch))
        optimizer.update_swa()
        averages.update(epoch)
    before = toys.snapshot(model)
    inputs = [x for x, _ in batches]
    if spelling == "swap_swa_sgd":
        optimizer.swap_swa_sgd()
        optimizer.bn_update(inputs, model)
        inside = toys.snapshot(model)
        optimizer.swap_swa_sgd()
    elif spelling == "average_parameters":
        with optimizer.average_parameters():
            optimizer.bn_update(inputs, model)
            inside = toys.snapshot(model)
    else:
        with averages.average_parameters("swa@0.0"):
            recalibrate_batchnorm(model, inputs)
            inside = toys.snapshot(model)
    toys.assert_untouched(model, before)
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        assert not torch.equal(inside[name][1], before[name][1])
        assert inside[name][0] == before[name][0]


# 12. Cost.


def test_law_12_gradient_and_forward_evaluations_are_counted(toys):
    model, batches = toys.net(), toys.batches(5)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, interval=2, **SGD)
    for batch in batches:
        optimizer.step(toys.closure(model, batch), examples=8)
    optimizer.bn_update([x for x, _ in batches], model)
    optimizer.cost.bill_forwards(100)
    assert optimizer.cost.steps == 5
    assert optimizer.cost.gradient_passes == 3 * 2 + 2
    assert optimizer.cost.gradient_evaluations == 8 * 8
    assert optimizer.cost.forward_evaluations == 5 * 8 + 100
    assert optimizer.cost.in_gradients == pytest.approx(64 + 140 / 3)
