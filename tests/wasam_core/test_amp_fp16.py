"""Loss scaling: an overflow in either pass restores the weights, skips the step and shrinks the scale.

The overflow logic of GradScaler is the same on every device, so it is exercised on the CPU.
"""

import pytest
import torch
from torch import nn

from wasam_core import WASAM

SGD = {"lr": 0.1, "momentum": 0.9}


def scaler(**options) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10**6, **options)


@pytest.mark.parametrize("flow", ["closure", "two steps", "two steps, unscaled by hand"])
def test_without_overflow_scaling_changes_nothing_but_rounding(toys, flow):
    model, reference = toys.net(0.0), toys.net(0.0)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    plain = WASAM(reference.parameters(), torch.optim.SGD, model=reference, **SGD)
    loss_scaler = scaler()
    for batch in toys.batches(4):
        plain.step(toys.closure(reference, batch))
        if flow == "closure":

            def closure(batch=batch):
                loss = toys.loss(model, batch)
                loss_scaler.scale(loss).backward()
                return loss

            optimizer.step(closure, scaler=loss_scaler)
        else:
            loss_scaler.scale(toys.loss(model, batch)).backward()
            optimizer.first_step(zero_grad=True)
            loss_scaler.scale(toys.loss(model, batch)).backward()
            if flow.endswith("hand"):
                loss_scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1e6)
            assert optimizer.second_step(zero_grad=True, scaler=loss_scaler)
        loss_scaler.update()
    assert optimizer.cost == plain.cost
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("flow", ["closure", "two steps", "m"])
def test_an_overflow_in_either_pass_skips_and_shrinks_the_scale(toys, failing, flow):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(
        model.parameters(), torch.optim.SGD, model=model, m=4 if flow == "m" else None, **SGD
    )  # fmt: skip
    loss_scaler = scaler()
    passes = []

    def closure(*parts):
        passes.append(1)
        loss = toys.loss(model, parts or batch)
        loss_scaler.scale(loss).backward()
        if len(passes) == failing:
            model[0].weight.grad[0, 0] = torch.inf
        return loss

    before = [p.detach().clone() for p in model.parameters()]
    if flow == "two steps":
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        updated = optimizer.second_step(zero_grad=True, scaler=loss_scaler)
        assert not updated
    else:
        optimizer.step(closure, scaler=loss_scaler, batch=batch)
    loss_scaler.update()
    assert loss_scaler.get_scale() == 512.0
    assert (optimizer.cost.steps, optimizer.cost.skipped) == (0, 1)
    assert not optimizer.base_optimizer.state
    for p, b in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, b)
    optimizer.step(closure, scaler=loss_scaler, batch=batch)
    loss_scaler.update()
    assert optimizer.cost.steps == 1
    assert loss_scaler.get_scale() == 512.0


def test_clipping_sees_unscaled_gradients(toys):
    model, reference = toys.net(0.0), toys.net(0.0)
    batch = toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, clip_norm=0.1, **SGD)
    plain = WASAM(reference.parameters(), torch.optim.SGD, clip_norm=0.1, **SGD)
    loss_scaler = scaler()

    def closure():
        loss = toys.loss(model, batch)
        loss_scaler.scale(loss).backward()
        return loss

    optimizer.step(closure, scaler=loss_scaler)
    plain.step(toys.closure(reference, batch))
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_disabled_scaler_is_no_scaler(toys):
    model, reference = toys.net(0.0), toys.net(0.0)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, **SGD)
    plain = WASAM(reference.parameters(), torch.optim.SGD, **SGD)
    for batch in toys.batches(3):
        optimizer.step(toys.closure(model, batch), scaler=scaler(enabled=False))
        plain.step(toys.closure(reference, batch))
    toys.assert_same_bits(model, reference)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 autocast needs an accelerator; the logic is above")
def test_fp16_autocast_on_an_accelerator(toys):
    model, (x, y) = toys.net(0.0).cuda(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **SGD)
    loss_scaler = torch.amp.GradScaler("cuda")

    def closure():
        with torch.autocast("cuda", torch.float16):
            loss = toys.loss(model, (x.cuda(), y.cuda()))
        loss_scaler.scale(loss).backward()
        return loss

    losses = [optimizer.step(closure, scaler=loss_scaler).item() for _ in range(30) if loss_scaler.update() is None]
    assert losses[-1] < losses[0]
