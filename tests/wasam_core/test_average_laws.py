"""Laws of the averages: what they are a mean of, whatever happens to mode, dtype and copies meanwhile."""

import copy
import pickle

import pytest
import torch
from averaged import MODES, SETTINGS, net, on_disk, plain, taken_in
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from wasam_core import (
    WeightAverages,
)
from wasam_core.running_means import RunningMeans

DTYPES = {
    torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6, torch.complex64: 2e-6,
}  # fmt: skip


# What an average is.


@given(
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from(list(DTYPES)),
    deeds=st.lists(
        st.tuples(st.sampled_from(["update", "save and load", "to disk", "deepcopy", "pickle", "assign", "freeze"]),
                  st.sampled_from(list(MODES))), min_size=1, max_size=14,
    ),
)  # fmt: skip
def test_an_average_is_its_float64_twin_in_any_mode_and_after_loads_and_copies(seed, dtype, deeds):
    torch.manual_seed(seed)
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(2, 3, dtype=torch.promote_types(dtype, torch.float32)).to(dtype))
    wide = torch.promote_types(dtype, torch.float64)
    settings = {"swa_starts": (0.0, 0.4), "max_epochs": len(deeds), "ema_decays": (0.7, 0.99), "lawa_windows": (2,)}
    averages = WeightAverages(model, **settings)
    history: list[Tensor] = []
    epochs = []
    for epoch, (deed, mode) in enumerate(deeds, 1):
        copying = deed in ("deepcopy", "pickle")  # in inference mode that makes a model that can't be trained
        with MODES["grad" if copying else mode]():
            if deed == "update":
                with torch.no_grad():
                    model.weight.add_(torch.randn_like(model.weight))
                averages.update(epoch)
                averages.update_step()
                history.append(model.weight.detach().to(wide, copy=True))
                epochs.append(epoch)
            elif deed in ("save and load", "to disk"):
                state = averages.state_dict()
                averages = WeightAverages(model, **settings)
                averages.load_state_dict(on_disk(state) if deed == "to disk" else state)
            elif copying:
                averages = copy.deepcopy(averages) if deed == "deepcopy" else pickle.loads(pickle.dumps(averages))
                model = averages.model
        if deed == "assign":
            model.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)
        elif deed == "freeze":
            model.weight.requires_grad_(not model.weight.requires_grad)
    twins: dict[str, Tensor] = {}
    for name, first in (("swa@0.0", 1), ("swa@0.4", max(1, int(0.4 * len(deeds))))):
        members = [w for w, epoch in zip(history, epochs, strict=True) if epoch >= first]
        if members:
            twins[name] = torch.stack(members).mean(0)
    for decay in (0.7, 0.99) if history else ():
        ema = torch.zeros_like(history[0])
        for weights in history:
            ema = decay * ema + (1 - decay) * weights
        twins[f"ema@{decay}"] = ema / (1 - decay ** len(history))
    if history:
        twins["lawa@2"] = torch.stack(history[-2:]).mean(0)
    assert set(averages.ready) == twins.keys()
    for name, want in twins.items():
        got = averages.read(name)[0].to(wide)
        torch.testing.assert_close(got, want, rtol=max(20 * DTYPES[dtype], 1e-11), atol=max(DTYPES[dtype], 1e-11))


@pytest.mark.parametrize(("before", "after"), [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_an_average_follows_the_dtype_of_the_weights(before, after):
    model = net().to(before)
    averages = taken_in(WeightAverages(model, **SETTINGS), range(1, 3))
    model.to(after)
    taken_in(averages, range(3, 6))
    for name in averages.ready:
        assert {value.dtype for value in averages.read(name)} == {after}
    resumed = WeightAverages(model, **SETTINGS)
    resumed.load_state_dict(averages.state_dict())
    assert plain(resumed.state_dict()) == plain(averages.state_dict())


def test_integer_parameters_stay_what_they_are():
    model = nn.Linear(2, 1)
    model.codes = nn.Parameter(torch.tensor([2**24 + 1, -7]), requires_grad=False)
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=3)
    for epoch in (1, 2, 3):
        model.codes.data += epoch % 2
        averages.update(epoch)
    with averages.average_parameters("swa@0.0"):
        assert model.codes.tolist() == [2**24 + 3, -5]


# A mean by itself.


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda mean: pickle.loads(pickle.dumps(mean))])
def test_a_mean_that_is_copied_in_inference_mode_goes_on_outside(copier):
    mean = RunningMeans()
    mean.update([torch.ones(2)])
    with torch.inference_mode():
        mean = copier(mean)
    mean.update([torch.full((2,), 4.0)])
    assert mean.read()[0].tolist() == [2.5, 2.5]


@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    decay=st.none() | st.floats(0.0, 0.999),
    failures=st.lists(st.integers(0, 19), max_size=4),
)
def test_a_running_mean_is_not_moved_by_what_it_refuses(values, decay, failures):
    mean, total, weight = RunningMeans([decay]), 0.0, 0.0
    for number, value in enumerate(values):
        if number and number in failures:
            with pytest.raises(ValueError, match="shape"):
                mean.update([torch.zeros(1)])
        mean.update([torch.full((2,), value)])
        keep = 1.0 if decay is None else decay
        total, weight = keep * total + value, keep * weight + 1.0
    assert mean.count == len(values)
    torch.testing.assert_close(mean.read()[0].double(), torch.full((2,), total / weight).double(), rtol=1e-4, atol=1e-3)
