"""Averages: what they contain, how they are swapped, saved and guarded."""

import pytest
import torch
from torch import nn

from wasam_core import WASAM, WeightAverages, recalibrate_batchnorm


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
    assert averages.nbytes == 5 * sum(p.numel() for p in model.parameters()) * 4
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


def test_names_counts_and_readiness():
    model = make_model()
    averages = WeightAverages(
        model, swa_starts={0.75, 0.5}, max_epochs=8, ema_decays=(0.9,), ema_every=2, lawa_windows=(2,)
    )
    assert averages.names == ("swa@0.5", "swa@0.75", "ema@0.9", "lawa@2")
    assert averages.ready == ()
    averages.update_step()
    assert averages.ready == ()
    averages.update_step()
    for epoch in range(1, 5):
        averages.update(epoch)
    assert averages.ready == ("swa@0.5", "ema@0.9", "lawa@2")
    assert [averages.count(name) for name in averages.names] == [1, 0, 1, 2]
    assert averages.start_epoch("swa@0.75") == 6


def test_integer_buffers_are_copied_and_floating_ones_averaged_on_request():
    model = make_model()
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=3, average_buffers=True)
    plain = WeightAverages(model, swa_starts=(0.0,), max_epochs=3)
    means = []
    for epoch in range(1, 4):
        model(torch.randn(8, 4) + epoch)
        means.append(model[1].running_mean.clone())
        averages.update(epoch)
        plain.update(epoch)
    with averages.average_parameters("swa@0.0"):
        torch.testing.assert_close(model[1].running_mean, torch.stack(means).mean(0))
        assert model[1].num_batches_tracked == 3
    with plain.average_parameters("swa@0.0"):
        assert torch.equal(model[1].running_mean, means[-1])
    assert torch.equal(model[1].running_mean, means[-1])


def test_mistakes_are_answered_with_what_to_do():
    model = make_model()
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=4, ema_decays=(0.9,))
    for block, error, message in (
        (lambda: averages.average_parameters("swa@0.5").__enter__(), RuntimeError, "empty until epoch 2"),
        (lambda: averages.average_parameters("ema@0.9").__enter__(), RuntimeError, "`ready`"),
        (lambda: averages.average_parameters("swa").__enter__(), KeyError, r"swa@0\.5, ema@0\.9"),
        (lambda: averages.update(0), ValueError, "1, 2, 3"),
        (lambda: WeightAverages(model, swa_starts=(0.5,)), ValueError, "max_epochs"),
        (lambda: WeightAverages(model, swa_starts=(75,), max_epochs=4), ValueError, "between 0 and 1"),
        (lambda: WeightAverages(model, swa_starts=(0.5,), max_epochs=0), ValueError, "max_epochs = 0"),
        (lambda: WeightAverages(model, ema_decays=(1.0,)), ValueError, r"\[0, 1\)"),
        (lambda: WeightAverages(model, lawa_windows=(0,)), ValueError, "lawa_windows = 0"),
    ):
        with pytest.raises(error, match=message):
            block()
    averages.update(2)
    with pytest.raises(ValueError, match="once at the end of each epoch"):
        averages.update(2)


def test_nothing_else_may_happen_inside_the_block():
    model = make_model()
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=4, ema_decays=(0.9,))
    averages.update(1)
    averages.update_step()
    with averages.average_parameters("swa@0.0"):
        for call in (
            lambda: averages.update(2),
            averages.update_step,
            averages.state_dict,
            lambda: averages.load_state_dict({}),
            lambda: averages.average_parameters("ema@0.9").__enter__(),
        ):
            with pytest.raises(RuntimeError, match="Leave the block first"):
                call()
    averages.update(2)


@pytest.mark.parametrize("spelling", ["WeightAverages", "WASAM"])
def test_training_inside_the_block_is_undone_and_reported(spelling):
    model = make_model()
    averages = WeightAverages(model, ema_decays=(0.9,))
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    averages.update_step()
    optimizer.update_swa()
    before = [p.detach().clone() for p in model.parameters()]
    block = averages.average_parameters("ema@0.9") if spelling == "WeightAverages" else optimizer.average_parameters()

    def train_inside():
        with block, torch.no_grad():
            model[0].weight.add_(1.0)

    with pytest.raises(RuntimeError, match="undone"):
        train_inside()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    averages.update_step()
    optimizer.update_swa()


def test_states_of_other_settings_are_refused_and_change_nothing():
    model = make_model()
    settings = {"swa_starts": (0.5,), "max_epochs": 4, "ema_decays": (0.9,)}
    averages = WeightAverages(model, **settings)
    for epoch, _ in wander(model, 3):
        averages.update(epoch)
        averages.update_step()
    state = averages.state_dict()
    for change in (
        {"max_epochs": 40}, {"ema_decays": (0.99,)}, {"average_buffers": True}, {"ema_every": 2},
    ):  # fmt: skip
        other = WeightAverages(model, **{**settings, **change})
        with pytest.raises(ValueError, match="settings of the saved run"):
            other.load_state_dict(state)
        assert other.ready == ()


def test_averages_may_live_on_another_device_than_the_weights():
    model = make_model()
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=2, lawa_windows=(2,), device="meta")
    averages.update(1)
    assert {t.device.type for t in averages.read("swa@0.0")} == {"meta"}


def test_weights_in_channels_last_keep_their_layout_in_the_average():
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=2)
    averages.update(1)
    assert averages.read("swa@0.0")[0].stride() == model.weight.stride()


def test_tied_and_frozen_weights_are_averaged_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=2)
    averages.update(1)
    assert averages.nbytes == (9 + 3 + 3) * 4
    with averages.average_parameters("swa@0.0"):
        assert model[1].weight is model[0].weight


def test_groups_added_after_averaging_began_are_refused():
    model, extra = make_model(), nn.Parameter(torch.zeros(1))
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    optimizer.update_swa()
    optimizer.add_param_group({"params": [extra]})
    with pytest.raises(RuntimeError, match="before the first update_swa"):
        optimizer.update_swa()
    with pytest.raises(RuntimeError, match="empty"):
        WASAM(model.parameters(), torch.optim.SGD, lr=0.1).average_parameters().__enter__()


def test_a_step_hook_feeds_the_ema_after_steps_that_were_taken():
    model = make_model()
    averages = WeightAverages(model, ema_decays=(0.9,))
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    optimizer.register_step_post_hook(lambda *_: averages.update_step())
    for factor in (1.0, torch.nan, 1.0):

        def closure(factor=factor):
            loss = model(torch.randn(4, 4)).square().mean() * factor
            loss.backward()
            return loss

        optimizer.step(closure)
    assert (averages.steps, optimizer.cost.skipped) == (2, 1)
