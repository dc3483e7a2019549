"""The options of a step: when it perturbs, what it perturbs, clipping, precision, memory formats, compilation."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from wasam_core import RULES, WASAM, norm_layer_groups, perturbed

SGD = {"lr": 0.1, "momentum": 0.9}


# When.


def test_interval_and_late_start_leave_base_steps_bit_for_bit(toys):
    model, reference = toys.net(), toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, interval=2, start_step=3, **SGD)
    plain = torch.optim.SGD(reference.parameters(), **SGD)
    perturbing = []
    for step, batch in enumerate(toys.batches(8)):
        perturbing.append(optimizer.will_perturb)
        passes = optimizer.cost.gradient_passes
        torch.manual_seed(step)
        optimizer.step(toys.closure(model, batch))
        assert optimizer.cost.gradient_passes - passes == 1 + perturbing[-1]
        if step < 3:
            torch.manual_seed(step)
            toys.loss(reference, batch).backward()
            plain.step()
            plain.zero_grad()
            toys.assert_same_bits(model, reference)
    assert perturbing == [False, False, False, True, False, True, False, True]


def test_first_step_says_whether_a_second_pass_is_needed(toys):
    model, reference = toys.net(), toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, start_step=2, **SGD)
    always = WASAM(reference.parameters(), torch.optim.SGD, model=reference, start_step=2, **SGD)
    needed = []
    for step, batch in enumerate(toys.batches(4)):
        torch.manual_seed(step)
        toys.loss(model, batch).backward()
        needed.append(optimizer.first_step(zero_grad=True))
        if needed[-1]:
            toys.loss(model, batch).backward()
        assert optimizer.second_step(zero_grad=True)
        torch.manual_seed(step)
        toys.loss(reference, batch).backward()
        always.first_step(zero_grad=True)
        toys.loss(reference, batch).backward()
        always.second_step(zero_grad=True)
    assert needed == [False, False, True, True]
    assert optimizer.cost.gradient_passes == 6
    assert always.cost.gradient_passes == 8
    toys.assert_same_bits(model, reference)


def test_rho_schedule_multiplies_every_group_and_may_reach_zero(toys):
    model, batch = toys.net(dropout=0.0), toys.batches(1)[0]
    factors = [1.0, 0.5, 0.0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.2, rho_schedule=factors.__getitem__, **SGD)
    radii = []
    for _ in range(2):
        before = [p.detach().clone() for p in model.parameters()]
        toys.loss(model, batch).backward()
        optimizer.first_step(zero_grad=True)
        moved = sum((p - b).square().sum().item() for p, b in zip(model.parameters(), before, strict=True))
        radii.append(moved**0.5)
        toys.loss(model, batch).backward()
        optimizer.second_step(zero_grad=True)
    assert radii == pytest.approx([0.2, 0.1], rel=1e-4)
    assert not optimizer.will_perturb


# What.


def test_groups_with_rho_zero_stay_and_do_not_enter_the_norm():
    a, b = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))
    optimizer = WASAM([{"params": [a], "rho": 0.5}, {"params": [b], "rho": 0.0}], torch.optim.SGD, lr=1.0)
    a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([1e6])
    optimizer.first_step()
    torch.testing.assert_close(a.detach(), torch.tensor([1.0 + 0.5 * 0.6, 2.0 + 0.5 * 0.8]))
    assert b.item() == 3.0


def test_groups_share_one_norm_and_keep_their_own_rho():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = WASAM([{"params": [a]}, {"params": [b], "rho": 1.0}], torch.optim.SGD, rho=0.5, lr=1.0)
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.first_step()
    assert (a.item(), b.item()) == pytest.approx((0.3, 0.8))


def test_group_options_reach_a_built_optimizer():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 5.0}], lr=1.0)
    optimizer = WASAM([{"params": [a], "rho": 0.0}, {"params": [b]}], sgd, rho=0.3)
    assert [(g["rho"], g["lr"]) for g in sgd.param_groups] == [(0.0, 1.0), (0.3, 5.0)]
    with pytest.raises(ValueError, match="split both"):
        WASAM([{"params": [a, b], "rho": 0.0}], sgd)
    assert optimizer.base_optimizer is sgd


def test_norm_layers_only(toys):
    model = toys.net()
    optimizer = WASAM(norm_layer_groups(model, rho=0.5), torch.optim.SGD, model=model, **SGD)
    before = toys.snapshot(model)
    toys.loss(model, toys.batches(1)[0]).backward()
    optimizer.first_step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name][1])}
    assert moved == {"1.weight", "1.bias"}
    radius = sum((model.get_parameter(n) - before[n][1]).square().sum().item() for n in moved) ** 0.5
    assert radius == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(ValueError, match="no normalization layer"):
        norm_layer_groups(nn.Linear(2, 2))


@pytest.mark.parametrize("variant", RULES)
def test_every_rule_moves_by_rho_in_its_own_metric(toys, variant):
    model = toys.net()
    names = dict(model.named_parameters())
    before = {n: p.detach().clone() for n, p in names.items()}
    toys.loss(model, toys.batches(1)[0]).backward()
    with perturbed(model, rho=0.3, variant=variant):
        size = 0.0
        for name, p in names.items():
            scale = torch.ones_like(p)
            if variant == "asam" and "weight" in name:
                scale = before[name].abs() + 0.01
            if variant == "asam-common":
                scale = before[name].abs()
            moved = p.detach() - before[name]
            size += torch.where(scale > 0, moved / scale, 0.0).square().sum().item()
    assert size**0.5 == pytest.approx(0.3, rel=1e-4)


def test_asam_of_the_authors_needs_names_and_says_so(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    toys.loss(model, batch).backward()
    nameless = WASAM(model.parameters(), torch.optim.SGD, variant="asam", **SGD)
    with pytest.raises(ValueError, match="named_parameters"):
        nameless.first_step()
    for named in (
        WASAM(model.named_parameters(), torch.optim.SGD, variant="asam", **SGD),
        WASAM(model.parameters(), torch.optim.SGD, variant="asam", model=model, **SGD),
    ):
        named.first_step()
        named.restore()


def test_adaptive_is_the_common_port(toys):
    models = [toys.net(0.0), toys.net(0.0)]
    options = [{"adaptive": True}, {"variant": "asam-common"}]
    for model, option in zip(models, options, strict=True):
        WASAM(model.parameters(), torch.optim.SGD, rho=1.0, **option, **SGD).step(
            toys.closure(model, toys.batches(1)[0])
        )
    toys.assert_same_bits(*models)
    with pytest.raises(ValueError, match="contradicts"):
        WASAM(models[0].parameters(), torch.optim.SGD, adaptive=True, variant="asam", **SGD)


def test_frozen_and_unused_parameters_are_left_alone(toys):
    model = nn.ModuleDict({"used": nn.Linear(6, 3), "unused": nn.Linear(2, 2), "frozen": nn.Linear(3, 3)})
    model["frozen"].requires_grad_(False)
    before = toys.snapshot(model)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, **SGD)
    x, y = toys.batches(1)[0]

    def closure():
        loss = functional.cross_entropy(model["frozen"](model["used"](x)), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name][1]) is not name.startswith("used"), name


def test_sparse_gradients_are_perturbed_too():
    table, dense = nn.Embedding(5, 3, sparse=True), nn.Embedding(5, 3)
    dense.load_state_dict(table.state_dict())
    for layer in (table, dense):
        optimizer = WASAM(layer.parameters(), torch.optim.SGD, rho=0.5, lr=0.1)

        def closure(layer=layer):
            loss = layer(torch.tensor([1, 3, 1])).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert optimizer.cost.steps == 1
    torch.testing.assert_close(table.weight, dense.weight)


# The final gradient.


def test_clip_norm_clips_the_final_gradient_only(toys):
    model, reference = toys.net(0.0), toys.net(0.0)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, clip_norm=0.05, model=model, **SGD)
    unclipped = WASAM(reference.parameters(), torch.optim.SGD, model=reference, **SGD)
    for batch in toys.batches():
        optimizer.step(toys.closure(model, batch))
        toys.loss(reference, batch).backward()
        unclipped.first_step(zero_grad=True)
        toys.loss(reference, batch).backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
        unclipped.second_step(zero_grad=True)
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("flow", ["closure", "two steps"])
def test_step_hooks_run_once_with_the_final_gradient_and_the_restored_weights(toys, flow):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    before = [p.detach().clone() for p in model.parameters()]
    seen = []

    def pre(base, args, kwargs):
        seen.append("pre")
        for p, b in zip(model.parameters(), before, strict=True):
            assert torch.equal(p, b)
            p.grad.zero_()

    optimizer.register_step_pre_hook(pre)
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    if flow == "closure":
        optimizer.step(toys.closure(model, batch))
    else:
        toys.loss(model, batch).backward()
        optimizer.first_step(zero_grad=True)
        toys.loss(model, batch).backward()
        optimizer.second_step(zero_grad=True)
    assert seen == ["pre", "post"]
    for p, b in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, b)


def test_the_base_step_shows_in_a_profile(toys):
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, **SGD)
    with torch.autograd.profiler.profile() as profile:
        optimizer.step(toys.closure(model, toys.batches(1)[0]))
    assert [e.count for e in profile.key_averages() if e.key == "Optimizer.step#SGD.step"] == [1]


# Precision, memory, compilation.


def test_weights_of_16_bits_are_moved_by_rho_whatever_the_size_of_the_gradient():
    for dtype, size in ((torch.float16, 1e-6), (torch.bfloat16, 1e-10), (torch.bfloat16, 1e20)):
        w = nn.Parameter(torch.zeros(10_000, dtype=dtype))
        w.grad = torch.full_like(w, size)
        with perturbed([w], rho=0.5):
            assert w.detach().double().norm().item() == pytest.approx(0.5, rel=1e-2)
        assert not w.any()


def test_converting_the_model_after_a_step_keeps_bits(toys):
    model = toys.net(0.0)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
    optimizer.step(toys.closure(model, toys.batches(1)[0]))
    model.double()
    x, y = toys.batches(1)[0]
    before = toys.snapshot(model)
    toys.loss(model, (x.double(), y)).backward()
    after_clean = toys.snapshot(model)
    optimizer.first_step()
    optimizer.restore()
    toys.assert_untouched(model, after_clean)
    assert before.keys() == after_clean.keys()


def test_channels_last_weights_keep_their_layout_and_bits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(4, 3, 6, 6)
    model(x)
    twin = copy.deepcopy(model)
    model = model.to(memory_format=torch.channels_last)
    for net, inputs in ((model, x.to(memory_format=torch.channels_last)), (twin, x)):
        optimizer = WASAM(net.parameters(), torch.optim.SGD, rho=0.2, model=net, lr=0.1)
        pointers = [p.data_ptr() for p in net.parameters()]
        for _ in range(2):
            optimizer.step(lambda net=net, inputs=inputs: net(inputs).square().mean().backward() or torch.ones(()))
        optimizer.update_swa()
        assert pointers == [p.data_ptr() for p in net.parameters()]
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model[0].weight, twin[0].weight)


@pytest.mark.parametrize("given", ["compiled", "original"])
def test_compiled_models_train_as_uncompiled_ones(toys, given):
    model, twin = toys.net(0.0), toys.net(0.0)
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = WASAM(
        model.parameters(), torch.optim.SGD, rho=0.3, model=compiled if given == "compiled" else model, **SGD
    )  # fmt: skip
    plain = WASAM(twin.parameters(), torch.optim.SGD, rho=0.3, model=twin, **SGD)
    for batch in toys.batches(4):
        optimizer.step(toys.closure(compiled, batch))
        plain.step(toys.closure(twin, batch))
    for (name, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert model[1].num_batches_tracked == 4


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_autocast_trains(toys, autocast):
    model, batch = toys.net(0.0), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.05, model=model, **SGD)

    def closure():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = toys.loss(model, batch)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    for _ in range(20):
        last = optimizer.step(closure)
    assert last < first / 2


# Copies.


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copied_optimizer_works_on_its_own_model(toys, copier):
    model, batches = toys.net(), toys.batches(4)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    for batch in batches[:2]:
        optimizer.step(toys.closure(model, batch))
    clone = copier(optimizer)
    assert clone.model is not model
    for one in (optimizer, clone):
        torch.manual_seed(3)
        for batch in batches[2:]:
            toys.loss(one.model, batch).backward()
            one.first_step(zero_grad=True)
            toys.loss(one.model, batch).backward()
            one.second_step(zero_grad=True)
    toys.assert_same_bits(model, clone.model)


def test_passes_through_a_copy_of_the_model_are_not_taken_for_passes_of_a_step(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.0, model=model, **SGD)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    twin(batch[0])  # draws a mask, before the model does
    clean = toys.loss(model, batch)
    clean.backward()
    optimizer.first_step(zero_grad=True)
    assert torch.equal(toys.loss(model, batch), clean)


# Guards.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": -0.1}, "rho = -0.1"),
        ({"rho": float("nan")}, "rho = nan"),
        ({"interval": 0}, "interval = 0"),
        ({"interval": 1.5}, r"interval = 1\.5"),
        ({"m": 2.5}, r"m = 2\.5"),
        ({"start_step": -1}, "start_step = -1"),
        ({"m": 0}, "m = 0"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"variant": "ssam"}, "'sam', 'asam', 'asam-common'"),
        ({"variant": "asam", "eta": -1.0}, "eta = -1"),
    ],
)
def test_options_out_of_range_are_named(toys, options, message):
    with pytest.raises(ValueError, match=message):
        WASAM(toys.net().parameters(), torch.optim.SGD, lr=0.1, **options)


def test_what_is_not_an_optimizer_or_not_parameters_is_refused(toys):
    model = toys.net()
    with pytest.raises(TypeError, match=r"torch\.optim\.SGD"):
        WASAM(model.parameters(), "SGD")
    with pytest.raises(TypeError, match=r"model\.parameters\(\)"):
        WASAM(model, torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match="no parameter"):
        WASAM([], torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match="LBFGS"):
        WASAM(model.parameters(), torch.optim.LBFGS)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match="rho = -1"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "rho": -1})
    assert len(optimizer.param_groups) == 1


def test_calls_out_of_turn_are_refused(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, m=4, **SGD)
    with pytest.raises(RuntimeError, match="second_step"):
        optimizer.second_step()
    with pytest.raises(RuntimeError, match="needs a closure"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"batch=\(x, y\)"):
        optimizer.step(toys.closure(model, batch))
    with pytest.raises(RuntimeError, match="no gradient"):
        WASAM(model.parameters(), torch.optim.SGD, **SGD).step(lambda: torch.ones(()))
    toys.loss(model, batch).backward()
    optimizer.first_step()
    for call in (optimizer.first_step, optimizer.update_swa, optimizer.swap_swa_sgd, optimizer.state_dict):
        with pytest.raises(RuntimeError, match=r"restore\(\)"):
            call()
    optimizer.step()  # without a closure, in between, it is second_step()
    optimizer.update_swa()
    optimizer.swap_swa_sgd()
    with pytest.raises(RuntimeError, match="swapped"):
        optimizer.step(toys.closure(model, batch), batch=batch)
    optimizer.swap_swa_sgd()
