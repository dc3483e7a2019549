"""What public implementations get wrong, each shown in them where they are installed, and right here."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from wasam_core import WASAM, MultipleSWAModels, WeightAverages, frozen_batchnorm_statistics, recalibrate_batchnorm

SGD = {"lr": 0.1, "momentum": 0.9}


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# The public WASAM code.


def test_the_average_survives_saving(toys):
    """There, averages are keyed by id() and lost."""
    model, batches = toys.net(), toys.batches(3)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    for batch in batches:
        optimizer.step(toys.closure(model, batch))
        optimizer.update_swa()
    other = toys.net()
    resumed = WASAM(other.parameters(), torch.optim.SGD, model=other, **SGD)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    with optimizer.average_parameters(), resumed.average_parameters():
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def test_training_goes_on_as_if_the_average_had_not_been_evaluated(toys):
    """There, BatchNorm statistics of the trained iterate are overwritten on the swapped weights."""
    losses = []
    for evaluate in (False, True):
        model, batches = toys.net(), toys.batches(6)
        optimizer = WASAM(model.parameters(), torch.optim.SGD, **SGD)
        torch.manual_seed(0)
        for batch in batches:
            model.train()
            optimizer.step(toys.closure(model, batch))
            optimizer.update_swa()
            if evaluate:
                optimizer.swap_swa_sgd()
                optimizer.bn_update([x for x, _ in batches], model)
                optimizer.swap_swa_sgd()
        model.eval()
        losses.append(toys.loss(model, batches[0]).item())
    assert losses[0] == losses[1]


def test_a_scheduler_on_the_wrapper_moves_the_learning_rate(toys):
    """There, the wrapper has groups of its own, and nothing happens."""
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD(model.parameters(), **SGD))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
    optimizer.step(toys.closure(model, toys.batches(1)[0]))
    scheduler.step()
    assert optimizer.base_optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_gradient_missing_in_the_second_pass_does_not_leave_weights_perturbed():
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = WASAM([a, b], torch.optim.SGD, rho=0.5, lr=0.1)
    (a.sum() + b.sum()).backward()
    optimizer.first_step(zero_grad=True)
    a.sum().backward()
    optimizer.second_step()
    assert torch.equal(b, torch.ones(2))
    torch.testing.assert_close(a.detach(), torch.full((2,), 0.9))


def test_an_infinite_gradient_does_not_make_weights_nan():
    w = nn.Parameter(torch.ones(2))
    optimizer = WASAM([w], torch.optim.SGD, **SGD)
    w.grad = torch.tensor([torch.inf, 1.0])
    optimizer.first_step()
    optimizer.second_step()
    assert torch.equal(w, torch.ones(2))


def test_freezing_batchnorm_twice_does_not_freeze_it_for_good():
    layer = nn.BatchNorm1d(2)
    with frozen_batchnorm_statistics(layer), frozen_batchnorm_statistics(layer), frozen_batchnorm_statistics():
        layer(torch.randn(4, 2))
    assert layer.num_batches_tracked == 0
    layer(torch.randn(4, 2) + 5)
    assert layer.momentum == 0.1
    assert layer.running_mean.min() > 0


def test_weights_keep_their_storage_over_steps_and_swaps(toys):
    """There, `p.data = ...` gives them another one at every step."""
    model = toys.net()
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    addresses = [p.data_ptr() for p in model.parameters()]
    for batch in toys.batches(3):
        optimizer.step(toys.closure(model, batch))
        optimizer.update_swa()
        with optimizer.average_parameters():
            assert addresses == [p.data_ptr() for p in model.parameters()]
    assert addresses == [p.data_ptr() for p in model.parameters()]


# The common SAM port, davda54/sam, and what was made of it.


def run_with_resume(toys, build, steps=10, resume_at=None):
    model = toys.net(dropout=0.0)
    optimizer = build(model)
    for step, batch in enumerate(toys.batches(steps)):
        if step == resume_at:
            saved = through_a_file([model.state_dict(), optimizer.state_dict()])
            model = toys.net(dropout=0.0)
            optimizer = build(model)
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        optimizer.step(toys.closure(model, batch))
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_base_optimizers_state_is_saved(toys):
    """There, momentum begins anew after loading."""

    def ours(model):
        return WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)

    assert torch.equal(run_with_resume(toys, ours), run_with_resume(toys, ours, resume_at=5))


def test_a_thousand_perturbations_change_no_bit():
    """Restoring by subtraction changes some 40 % of the weights in a thousand."""
    torch.manual_seed(0)
    w = torch.randn(1000)
    subtracted = w.clone()
    p = nn.Parameter(w.clone())
    optimizer = WASAM([p], torch.optim.SGD, lr=0.0)
    for _ in range(1000):
        p.grad = torch.randn(1000)
        e = 0.05 * p.grad / p.grad.norm()
        subtracted.add_(e).sub_(e)
        optimizer.first_step(zero_grad=True)
        optimizer.restore()
    assert torch.equal(p, w)
    assert (subtracted != w).float().mean() > 0.3


# torch.optim.swa_utils.


def ragged_batches() -> list[torch.Tensor]:
    return [torch.zeros(96, 1) + torch.linspace(-1, 1, 96)[:, None], torch.full((4, 1), 10.0)]


def test_update_bn_weights_batches_equally_and_drops_the_variance_between_them():
    theirs, ours = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    update_bn(ragged_batches(), theirs)
    recalibrate_batchnorm(ours, ragged_batches())
    x = torch.cat(ragged_batches())
    torch.testing.assert_close(ours.running_mean, x.mean(0))
    torch.testing.assert_close(ours.running_var, x.var(0, correction=0))
    assert theirs.running_mean.item() == pytest.approx(5.0)
    assert ours.running_mean.item() == pytest.approx(0.4, abs=1e-5)
    assert theirs.running_var.item() < 0.3 < 4 < ours.running_var.item()


def test_update_bn_overwrites_frozen_layers_and_leaves_no_momentum_behind_an_error():
    def failing():
        yield torch.randn(4, 2)
        raise OSError

    theirs, ours = (nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)) for _ in range(2))
    for model, recalibrate in ((theirs, update_bn), (ours, lambda loader, m: recalibrate_batchnorm(m, loader))):
        model[1].eval()
        with pytest.raises(OSError):  # noqa: PT011
            recalibrate(failing(), model)
    assert theirs[0].momentum is None
    assert not torch.equal(theirs[1].running_mean, torch.zeros(2))
    assert (ours[0].momentum, ours[1].momentum) == (0.1, 0.1)
    for layer in ours:
        assert torch.equal(layer.running_mean, torch.zeros(2))
        assert torch.equal(layer.running_var, torch.ones(2))
        assert layer.num_batches_tracked == 0
    assert [layer.training for layer in ours] == [True, False]


def test_averaged_model_in_bfloat16_never_moves_at_decay_999():
    model = nn.Linear(1, 1, bias=False).bfloat16()
    model.weight.data.fill_(1.0)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    theirs.update_parameters(model)
    ours = WeightAverages(model, ema_decays=(0.999,))
    ours.update_step()
    model.weight.data.fill_(2.0)
    for _ in range(500):
        theirs.update_parameters(model)
        ours.update_step()
    assert theirs.module.weight.item() == 1.0
    with ours.average_parameters("ema@0.999"):
        assert model.weight.item() == 2.0
    mean = 2 - (1 - 0.999) * 0.999**500 / (1 - 0.999**501)
    assert ours.read("ema@0.999")[0].item() == pytest.approx(mean, abs=1e-5)


# The multi-model averages of the public code.


def test_averaged_copies_are_means_in_float32_and_their_batchnorm_is_their_own(toys):
    model, batches = toys.net(), toys.batches(4)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    swa_models = MultipleSWAModels(model, "cpu", 4, [0.5, 0.75])
    history = []
    for epoch, batch in enumerate(batches, 1):
        optimizer.step(toys.closure(model, batch))
        swa_models.update_parameters(model, epoch)
        history.append(model[0].weight.detach().double().clone())
    before = copy.deepcopy(model.state_dict())
    for entry in swa_models.models:
        optimizer.bn_update([x for x, _ in batches], entry["model"])
        expected = torch.stack(history[entry["start"] - 1 :]).mean(0)
        torch.testing.assert_close(entry["model"][0].weight.double(), expected, rtol=1e-6, atol=1e-6)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
