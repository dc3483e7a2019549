"""Averages: what they contain, how they are swapped, saved and guarded."""

import pytest
import torch
from torch import nn

from wasam_core import WeightAverages, recalibrate_batchnorm


def make_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).to(dtype)


def wander(model: nn.Module, epochs: int):
    """Change the weights epoch by epoch; yield the epoch and a float64 copy of the weights."""
    for epoch in range(1, epochs + 1):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p), alpha=0.3)
        yield epoch, [p.detach().double().clone() for p in model.parameters()]


def mean_of(weights: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    return [torch.stack(ws).mean(0) for ws in zip(*weights, strict=True)]


@pytest.mark.parametrize("epochs", [3, 10, 31])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swa_from_every_start_is_the_mean_of_its_epochs(epochs, dtype):
    model = make_model(dtype)
    starts = (0.0, 0.5, 0.6, 0.75, 0.9, 0.813, 1.0)
    averages = WeightAverages(model, swa_starts=starts, max_epochs=epochs)
    history = []
    for epoch, weights in wander(model, epochs):
        history.append(weights)
        averages.update(epoch)
    for start in starts:
        first = max(1, int(start * epochs))
        assert averages.count(f"swa@{start}") == epochs - first + 1
        for got, want in zip(averages.read(f"swa@{start}"), mean_of(history[first - 1 :]), strict=True):
            assert got.dtype == torch.float32
            torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("every", [1, 3])
def test_ema_follows_its_recurrence_with_bias_correction(every):
    model = make_model()
    averages = WeightAverages(model, ema_decays=(0.9, 0.99), ema_every=every)
    steps = 40
    sums = {d: [torch.zeros_like(p, dtype=torch.float64) for p in model.parameters()] for d in (0.9, 0.99)}
    updates = 0
    for step, weights in wander(model, steps):
        averages.update_step()
        if step % every == 0:
            updates += 1
            for d, s in sums.items():
                for a, w in zip(s, weights, strict=True):
                    a.mul_(d**every).add_(w, alpha=1 - d**every)
    for d, s in sums.items():
        for got, raw in zip(averages.read(f"ema@{d}"), s, strict=True):
            want = raw / (1 - d ** (every * updates))
            torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)


def test_lawa_is_the_mean_of_the_latest_epochs():
    model = make_model()
    averages = WeightAverages(model, lawa_windows=(1, 3, 6))
    history = []
    for epoch, weights in wander(model, 5):
        history.append(weights)
        averages.update(epoch)
    for window in (1, 3, 6):
        assert averages.count(f"lawa@{window}") == min(window, 5)
        for got, want in zip(averages.read(f"lawa@{window}"), mean_of(history[-window:]), strict=True):
            torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-6)


def test_the_block_swaps_weights_and_buffers_and_restores_both():
    model = make_model()
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=4)
    for epoch, _ in wander(model, 4):
        averages.update(epoch)
    before = {name: (t.data_ptr(), t.clone()) for name, t in model.state_dict().items()}

    def evaluate():
        with averages.average_parameters("swa@0.5"):
            for p, value in zip(model.parameters(), averages.read("swa@0.5"), strict=True):
                assert torch.equal(p, value)
            recalibrate_batchnorm(model, [torch.randn(8, 4)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate()
    for name, t in model.state_dict().items():
        assert t.data_ptr() == before[name][0]
        assert torch.equal(t, before[name][1]), name
