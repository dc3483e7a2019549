"""BatchNorm: exact statistics, and passes that leave no trace."""

import copy

import pytest
import torch
from torch import nn

from wasam_core import WASAM, frozen_batchnorm_statistics, perturbed, recalibrate_batchnorm


@pytest.mark.parametrize("sizes", [(8,), (8, 8), (96, 4), (1, 5), (5, 1), (7,) * 150])
def test_the_first_layer_gets_the_moments_of_the_whole_pass(sizes):
    x = torch.randn(sum(sizes), 3, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1]) + 7
    x = x.sort(0).values.float()  # ordered, so that batches differ a lot
    model = nn.BatchNorm1d(3)
    assert recalibrate_batchnorm(model, x.split(sizes)) == len(x)
    torch.testing.assert_close(model.running_mean, x.double().mean(0).float())
    torch.testing.assert_close(model.running_var, x.double().var(0, correction=0).float())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_every_kind_of_input_and_of_momentum(dims, momentum):
    layer = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](4, momentum=momentum)
    batches = [torch.randn(size, 4, *(3,) * dims) + size for size in (5, 2)]
    recalibrate_batchnorm(layer, batches)
    x = torch.cat(batches).transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.running_mean, x.mean(1))
    torch.testing.assert_close(layer.running_var, x.var(1, correction=0))
    assert layer.momentum == momentum
    assert layer.num_batches_tracked == 2
    assert layer.training


def test_sixteen_bit_statistics_are_computed_in_full_precision():
    layer = nn.BatchNorm1d(2).bfloat16()
    batches = [(torch.randn(16, 2) + i / 7).bfloat16() for i in range(40)]
    recalibrate_batchnorm(layer, batches)
    x = torch.cat(batches).double()
    assert torch.equal(layer.running_mean, x.mean(0).bfloat16())
    assert torch.equal(layer.running_var, x.var(0, correction=0).bfloat16())


def test_deeper_layers_see_what_they_see_in_training():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(4))
    batches = torch.randn(60, 3).split(20)
    seen = []
    hook = model[4].register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    recalibrate_batchnorm(model, batches)
    hook.remove()
    x = torch.cat(seen)
    torch.testing.assert_close(model[4].running_mean, x.mean(0))
    torch.testing.assert_close(model[4].running_var, x.var(0, correction=0))
    expected = torch.relu(model[1](torch.nn.functional.batch_norm(batches[0], None, None, training=True)))
    torch.testing.assert_close(seen[0], expected)  # normalized by the batch, and without dropout


def test_frozen_layers_and_modes_are_left_alone():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.BatchNorm1d(2, momentum=0.0))
    model.train()
    model[1].eval()
    model[2].track_running_stats = False
    recalibrate_batchnorm(model, [torch.randn(8, 2) + 3])
    touched = [not torch.equal(layer.running_mean, torch.zeros(2)) for layer in model]
    assert touched == [True, False, False, False]
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    model.eval()
    recalibrate_batchnorm(model, [torch.randn(8, 2) - 3])
    assert model[0].running_mean.max() < 0
    assert not torch.equal(model[1].running_mean, torch.zeros(2))
    assert not any(m.training for m in model.modules())


def test_dicts_and_several_inputs_work_through_a_forward_fn():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, a, b):
            return self.norm(a + b)

    model, ones = Two(), torch.ones(3, 2)
    batches = [{"a": ones * i, "b": ones} for i in range(3)]
    examples = recalibrate_batchnorm(model, batches, forward_fn=lambda m, batch: m(batch["a"], batch["b"]))
    assert examples == 9
    torch.testing.assert_close(model.norm.running_mean, torch.full((2,), 2.0))
    with pytest.raises(TypeError, match="forward_fn"):
        recalibrate_batchnorm(model, batches)
    torch.testing.assert_close(model.norm.running_mean, torch.full((2,), 2.0))
    assert recalibrate_batchnorm(model.norm, [(ones, None), [ones, 1]], device="cpu") == 6


def test_limit_and_empty_loaders():
    layer = nn.BatchNorm1d(1)

    def endless():
        while True:
            yield torch.tensor([[1.0], [3.0]])

    assert recalibrate_batchnorm(layer, endless(), limit=3) == 6
    assert layer.num_batches_tracked == 3
    with pytest.raises(ValueError, match="no batch"):
        recalibrate_batchnorm(layer, [])
    with pytest.raises(ValueError, match="limit = 0"):
        recalibrate_batchnorm(layer, [], limit=0)
    assert layer.running_mean.item() == 2.0
    assert recalibrate_batchnorm(nn.Linear(1, 1), endless()) == 0


@pytest.mark.parametrize("failing_batch", [0, 1])
def test_a_failure_restores_everything(failing_batch):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model(torch.randn(4, 2))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    hooks = len(model[1]._forward_hooks)

    def loader():
        for i in range(3):
            yield torch.randn(4, 2 + (i == failing_batch))

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        recalibrate_batchnorm(model, loader())
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name])
    assert model[1].momentum == 0.1
    assert len(model[1]._forward_hooks) == hooks == len(model[1]._forward_pre_hooks)
    assert all(m.training for m in model.modules())


def test_no_graph_and_no_random_numbers():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    outputs = []
    state = torch.get_rng_state()
    recalibrate_batchnorm(model, [torch.ones(4, 2)], forward_fn=lambda m, b: outputs.append(m(b)))
    assert not outputs[0].requires_grad
    assert torch.equal(state, torch.get_rng_state())


def test_old_statistics_that_are_not_finite_do_not_matter():
    layer = nn.BatchNorm1d(1)
    layer.running_mean.fill_(torch.nan)
    layer.running_var.fill_(torch.inf)
    recalibrate_batchnorm(layer, [torch.tensor([[1.0], [3.0]])])
    assert (layer.running_mean.item(), layer.running_var.item()) == (2.0, 1.0)


def test_a_layer_used_twice_gets_the_moments_of_both_uses():
    layer = nn.BatchNorm1d(1)
    recalibrate_batchnorm(
        layer, [torch.tensor([[1.0], [3.0]])], forward_fn=lambda m, x: (m(x), m(x + 10))
    )  # fmt: skip
    assert layer.running_mean.item() == 7.0
    assert layer.running_var.item() == pytest.approx(26.0)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torch.compile", "module.compile"])
def test_compiled_models_are_recalibrated_too(how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    batches = torch.randn(24, 2).split(8)
    called = model
    if how == "torch.compile":
        called = torch.compile(model, backend="aot_eager")
    else:
        model.compile(backend="aot_eager")
    called(batches[0])
    assert recalibrate_batchnorm(called, batches) == 24
    x = torch.nn.functional.linear(torch.cat(batches), model[0].weight, model[0].bias)
    torch.testing.assert_close(model[1].running_mean, x.mean(0))
    torch.testing.assert_close(model[1].running_var, x.var(0, correction=0))


@pytest.mark.parametrize("given", ["model", "nothing"])
def test_frozen_statistics_leave_no_trace_also_after_an_error(given):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.InstanceNorm1d(2, track_running_stats=True))
    x = torch.randn(3, 2, 5)
    model(x)
    before = [b.clone() for b in model.buffers()]

    def failing():
        with frozen_batchnorm_statistics(*[model] * (given == "model")):
            model(x + 5)
            assert not torch.equal(model[0].running_mean, before[0])
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert all(torch.equal(b, old) for b, old in zip(model.buffers(), before, strict=True))
    assert not torch.nn.modules.module._global_forward_pre_hooks
    model(x)
    assert model[0].num_batches_tracked == 2


def test_a_guard_that_is_dropped_leaves_no_hook_behind():
    optimizer = WASAM(nn.Linear(1, 1).parameters(), torch.optim.SGD, lr=0.1)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(1, 1)
    optimizer.first_step()
    assert torch.nn.modules.module._global_forward_pre_hooks
    del optimizer
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_buffers_are_guarded_after_a_conversion_too():
    model = nn.Sequential(nn.BatchNorm1d(2))
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, lr=0.1)
    model.double()
    x = torch.randn(4, 2, dtype=torch.float64)
    optimizer.step(lambda: model(x).square().sum().backward() or torch.ones(()))
    assert model[0].num_batches_tracked == 1


class Rebinds(nn.Module):
    """Keeps a mean by putting a new tensor in the place of the old one, and a cache that grows with its input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("cache", torch.zeros(0))

    def forward(self, x):
        self.mean = 0.5 * self.mean + 0.5 * x.detach().mean(0)
        if len(self.cache) < len(x):
            self.cache = torch.ones(len(x))
        return x - self.mean


@pytest.mark.parametrize("flow", ["block", "step", "perturbed"])
def test_a_buffer_that_a_pass_replaces_returns_and_a_cache_that_has_grown_stays(flow):
    model = nn.Sequential(nn.Linear(2, 2), Rebinds())
    expected = copy.deepcopy(model)
    x = torch.randn(3, 2)

    def closure():
        loss = model(x).square().sum()
        loss.backward()
        return loss

    if flow == "block":
        with frozen_batchnorm_statistics(model):
            model(x)
    else:
        expected(x)
        if flow == "step":
            WASAM(model.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, model=model).step(closure)
        else:
            closure()
            with perturbed(model, rho=0.5):
                closure()
    assert torch.equal(model[1].mean, expected[1].mean)
    assert len(model[1].cache) == 3
    model(x)


def test_layers_that_come_after_the_optimizer_are_guarded_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.Identity())
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, model=model)
    model[1] = nn.BatchNorm1d(2)
    x = torch.randn(4, 2)
    optimizer.step(lambda: model(x).square().sum().backward() or torch.ones(()))
    assert model[1].num_batches_tracked == 1
