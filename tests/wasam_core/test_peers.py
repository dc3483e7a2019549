"""Against other implementations: equal where they are right, different on purpose where they are not."""

import pytest
import pytorch_optimizer
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wasam_core import WASAM, MultipleSWAModels, WeightAverages

SGD = {"lr": 0.1, "momentum": 0.9}


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_sam_and_the_common_asam_agree_with_pytorch_optimizer(toys, adaptive, base):
    # A bias before BatchNorm has no gradient but rounding, which Adam would magnify with a small eps.
    options = SGD if base is torch.optim.SGD else {"lr": 0.01, "eps": 1e-3}
    model, reference = toys.net(0.0), toys.net(0.0)
    ours = WASAM(model.parameters(), base, rho=0.3, adaptive=adaptive, **options)
    theirs = pytorch_optimizer.SAM(reference.parameters(), base, rho=0.3, adaptive=adaptive, **options)
    for batch in toys.batches(6):
        ours.step(toys.closure(model, batch))
        toys.loss(reference, batch).backward()
        theirs.step(toys.closure(reference, batch))
        theirs.zero_grad()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    # Differs on purpose: there, BatchNorm counts the perturbed passes as well.
    assert model[1].num_batches_tracked == 6
    assert reference[1].num_batches_tracked == 12


def test_groups_with_rho_zero_differ_on_purpose():
    """There, a group that stays put still enters the norm, so that the others move by less than rho."""
    radii = {}
    for name, make in (("ours", WASAM), ("theirs", pytorch_optimizer.SAM)):
        a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        optimizer = make([{"params": [a], "rho": 0.5}, {"params": [b], "rho": 0.0}], torch.optim.SGD, lr=0.1)
        a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
        optimizer.first_step()
        radii[name] = a.item()
    assert radii["ours"] == pytest.approx(0.5)
    assert radii["theirs"] == pytest.approx(0.3)


def test_moments_and_groups_survive_saving_as_they_do_in_pytorch_optimizer(toys):
    for make in (WASAM, pytorch_optimizer.SAM):
        model, batch = toys.net(0.0), toys.batches(1)[0]
        optimizer = make(model.parameters(), torch.optim.SGD, **SGD)
        toys.loss(model, batch).backward()
        optimizer.step(toys.closure(model, batch))
        resumed = make(toys.net(0.0).parameters(), torch.optim.SGD, **SGD)
        resumed.load_state_dict(optimizer.state_dict())
        inner = resumed.base_optimizer
        assert inner.param_groups is resumed.param_groups
        assert sum(s.get("momentum_buffer") is not None for s in inner.state.values()) == 6


def test_means_agree_with_averaged_model(toys):
    model = toys.net()
    theirs = AveragedModel(model)
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=7)
    copies = MultipleSWAModels(model, "cpu", 7, [0.0])
    for epoch in range(1, 8):
        for p in model.parameters():
            p.data.add_(torch.randn_like(p))
        model(toys.batches(1)[0][0])
        theirs.update_parameters(model)
        averages.update(epoch)
        copies.update_parameters(model, epoch)
    with averages.average_parameters("swa@0.0"):
        for a, b in zip(model.parameters(), theirs.module.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    for a, b in zip(copies.models[0]["model"].state_dict().values(), theirs.module.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_ema_agrees_with_averaged_model_up_to_the_weight_of_its_first_value():
    """There, the first weights keep the weight d^(n-1); here each w_i has (1 - d) d^(n-i) / (1 - d^n)."""
    model, d, n = nn.Linear(1, 1, bias=False).double(), 0.9, 30
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(d))
    averages = WeightAverages(model, ema_decays=(d,))
    values = torch.randn(n, dtype=torch.float64)
    for value in values:
        model.weight.data.fill_(value)
        theirs.update_parameters(model)
        averages.update_step()
    powers = d ** torch.arange(n - 1, -1, -1, dtype=torch.float64)
    ours = ((1 - d) * powers * values).sum() / (1 - d**n)
    torch.testing.assert_close(averages.read(f"ema@{d}")[0].squeeze(), ours)
    weights = (1 - d) * powers
    weights[0] = d ** (n - 1)
    torch.testing.assert_close(theirs.module.weight.detach().squeeze(), (weights * values).sum())
