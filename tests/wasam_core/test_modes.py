"""Whoever switches a model between training and evaluation gives each module its own mode back."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from matrices import crossed
from torch import nn
from torch.nn.functional import mse_loss

from wasam_core import WeightAverages, recalibrate_batchnorm
from wasam_core.modes import eval_mode, modes_kept
from wasam_core.probes.landscape import line, plane
from wasam_core.probes.sharpness import measure_sharpness

X, Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)) + 2, torch.zeros(12, 2)


class Backbone(nn.Sequential):
    """A few layers, of which its owner may freeze some."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2), nn.BatchNorm1d(2))


class FrozenByTrain(Backbone):
    """Keeps normalization in eval mode whatever `train` is told."""

    def train(self, mode: bool = True) -> "FrozenByTrain":
        super().train(mode)
        self[1].eval()
        return self


class AlwaysOn(nn.Dropout):
    """Dropout that stays on, as sampling needs it, but draws nothing here."""

    def __init__(self) -> None:
        super().__init__(p=0.0)

    def train(self, mode: bool = True) -> "AlwaysOn":
        return super().train(True)


class Merging(nn.Linear):
    """Keeps an adapter apart in training and adds it to its weights for evaluation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.adapter = nn.Parameter(torch.ones(outputs, inputs))
        self.merged = False

    def train(self, mode: bool = True) -> "Merging":
        super().train(mode)
        if self.merged is mode:
            self.weight.data += self.adapter.data if not mode else -self.adapter.data
            self.merged = not mode
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if self.merged else super().forward(x) + x @ self.adapter.T


def built(kind: str) -> nn.Module:
    torch.manual_seed(1)
    model: nn.Module = FrozenByTrain() if kind == "frozen by train" else Backbone()
    if kind == "all in eval mode":
        model.eval()
    elif kind == "frozen normalization":
        model[1].eval()
    elif kind == "dropout off":
        model[2].eval()
    elif kind == "dropout always on":
        model[2] = AlwaysOn()
    elif kind == "merging":
        model[3] = Merging(4, 2)
    elif kind == "frozen by train":
        model.train()
    return model


def evaluated(model: nn.Module) -> None:
    with eval_mode(model):
        model(X)


def failing(model: nn.Module) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        recalibrate_batchnorm(model, [X], forward_fn=fail)


KINDS = (
    "all in training mode", "all in eval mode", "frozen normalization", "frozen by train", "dropout off",
    "dropout always on", "merging",
)  # fmt: skip
LANDSCAPE: dict[str, Any] = {
    "batches_by_split": {"train": [(X, Y)]}, "points": 2, "recalibrate_with": [X],
}  # fmt: skip
DEEDS: dict[str, Callable[[nn.Module], Any]] = {
    "eval_mode": evaluated,
    "recalibration": lambda model: recalibrate_batchnorm(model, [X]),
    "a failed recalibration": failing,
    "sharpness": lambda model: measure_sharpness(model, mse_loss, [(X, Y)], generator=torch.Generator()),
    "line": lambda model: line(model, mse_loss, *ends(model)[:2], **LANDSCAPE),
    "plane": lambda model: plane(model, mse_loss, ends(model), **LANDSCAPE),
}


def ends(model: nn.Module) -> Any:
    weights = [p.detach() for p in model.parameters()]
    return weights, [w + 1 for w in weights], [w * (1 + torch.arange(w.numel()).view_as(w)) for w in weights]


@crossed(kind=KINDS, deed=DEEDS)
def test_each_module_keeps_its_mode_and_the_frozen_ones_their_statistics(kind, deed):
    model = built(kind)
    modes = [module.training for module in model.modules()]
    outputs = copy.deepcopy(model).eval()(X)
    frozen = model[1].running_mean.clone()
    DEEDS[deed](model)
    assert [module.training for module in model.modules()] == modes
    if deed != "recalibration":
        torch.testing.assert_close(copy.deepcopy(model).eval()(X), outputs)
    if kind.startswith("frozen") or deed != "recalibration":
        assert torch.equal(model[1].running_mean, frozen)
    else:
        assert not torch.equal(model[1].running_mean, frozen)
    assert torch.equal(model[4].running_mean, torch.zeros(2)) is (deed != "recalibration")


def test_a_module_that_is_told_of_its_mode_is_told_of_both_ways():
    model = nn.Sequential(Merging(3, 2))
    inputs = model(X)
    weights = model[0].weight.detach().clone()
    with eval_mode(model):
        assert model[0].merged
        torch.testing.assert_close(model(X), inputs)
    assert not model[0].merged
    torch.testing.assert_close(model[0].weight.detach(), weights)
    torch.testing.assert_close(model(X), inputs)


def test_modes_return_if_a_module_refuses_its_own():
    class Stubborn(nn.Dropout):
        def train(self, mode: bool = True) -> "Stubborn":
            if mode:
                raise ZeroDivisionError
            return super().train(mode)

    model = nn.Sequential(Stubborn(), nn.Dropout())

    def evaluate():
        with modes_kept(model):
            model.eval()

    with pytest.raises(ZeroDivisionError):
        evaluate()
    assert [module.training for module in model.modules()] == [True] * 3


# Normalization layers of every kind under recalibration.


class Renormalized(nn.BatchNorm1d):
    """A layer of somebody else's that normalizes by its running statistics, also in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(x.mean(0), 0.5)
                self.running_var.lerp_(x.var(0), 0.5)
        return (x - self.running_mean) / (self.running_var + self.eps).sqrt()


class Stranger(nn.Module):
    """A layer that keeps statistics and is none of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.running_mean


INPUTS = [torch.randn(size, 3, 4, generator=torch.Generator().manual_seed(size)) * 2 + size for size in (5, 2)]
ALL = torch.cat(INPUTS)
BATCH = ALL.transpose(0, 1).flatten(1)
POPULATION = (BATCH.mean(1), BATCH.var(1, correction=0))
INSTANCES = (ALL.mean(2).mean(0), ALL.var(2).mean(0))
OWN = (torch.zeros(3), torch.ones(3))
LAYERS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "BatchNorm": (lambda: nn.BatchNorm1d(3), POPULATION),
    "BatchNorm, cumulative": (lambda: nn.BatchNorm1d(3, momentum=None), POPULATION),
    "BatchNorm, not affine": (lambda: nn.BatchNorm1d(3, affine=False), POPULATION),
    "BatchNorm, double": (lambda: nn.BatchNorm1d(3).double(), POPULATION),
    "BatchNorm, parameters frozen": (lambda: nn.BatchNorm1d(3).requires_grad_(False), POPULATION),
    "BatchNorm, in eval mode": (lambda: nn.BatchNorm1d(3).eval(), OWN),
    "BatchNorm, momentum 0": (lambda: nn.BatchNorm1d(3, momentum=0.0), OWN),
    "BatchNorm, no statistics": (lambda: nn.BatchNorm1d(3, track_running_stats=False), None),
    "SyncBatchNorm, in eval mode": (lambda: nn.SyncBatchNorm(3).eval(), OWN),
    "InstanceNorm": (lambda: nn.InstanceNorm1d(3, track_running_stats=True), INSTANCES),
    "InstanceNorm, momentum 0": (lambda: nn.InstanceNorm1d(3, momentum=0.0, track_running_stats=True), OWN),
    "InstanceNorm, no momentum": (lambda: nn.InstanceNorm1d(3, momentum=None, track_running_stats=True), OWN),
    "InstanceNorm, in eval mode": (lambda: nn.InstanceNorm1d(3, track_running_stats=True).eval(), OWN),
    "InstanceNorm, no statistics": (lambda: nn.InstanceNorm1d(3), None),
    "GroupNorm": (lambda: nn.GroupNorm(3, 3), None),
    "LayerNorm": (lambda: nn.LayerNorm(4), None),
    "RMSNorm": (lambda: nn.RMSNorm(4), None),
    "a layer of torch's kind": (lambda: Channels(Renormalized(3)), POPULATION),
    "a stranger": (lambda: Channels(Stranger()), (OWN[0], None)),
}  # fmt: skip


class Channels(nn.Module):
    """Apply a layer to values along the last dimension."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.transpose(1, 2).flatten(0, 1)).view(len(x), -1, x.shape[1]).transpose(1, 2)


@pytest.mark.parametrize("kind", LAYERS)
def test_normalization_layers_of_every_kind(kind):
    make, expected = LAYERS[kind]
    layer = make()
    model = nn.Sequential(layer)
    inputs = [x.double() for x in INPUTS] if "double" in kind else INPUTS
    recalibrate_batchnorm(model, inputs)
    found = dict(model.named_buffers())
    if expected is None:
        assert not found
        return
    for name, want in zip(("running_mean", "running_var"), expected, strict=True):
        got = next((buffer for key, buffer in found.items() if key.endswith(name)), None)
        assert (got is None) is (want is None)
        if want is not None:
            torch.testing.assert_close(got.float(), want, rtol=1e-5, atol=1e-5)


def test_instance_statistics_are_what_torchs_layer_collects():
    """Over batches of one size, its own running mean after the n-th weighs the last by 1/n."""
    ours, theirs = (nn.InstanceNorm1d(3, track_running_stats=True) for _ in range(2))
    batches = torch.cat(INPUTS)[:6].split(2)
    recalibrate_batchnorm(ours, batches)
    for number, batch in enumerate(batches, 1):
        theirs.momentum = 1 / number
        theirs(batch)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(ours.get_buffer(name), theirs.get_buffer(name))
    recalibrate_batchnorm(ours, [batches[0][0]], forward_fn=lambda layer, x: layer(x))  # one instance, no batch
    torch.testing.assert_close(ours.running_mean, batches[0][0].mean(1))


def test_a_lazy_layer_is_refused_until_it_has_seen_an_input():
    model = nn.Sequential(nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match="run the model once"):
        recalibrate_batchnorm(model, INPUTS)
    model(INPUTS[0])
    recalibrate_batchnorm(model, INPUTS)
    torch.testing.assert_close(model[0].running_mean, POPULATION[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inside", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_statistics_that_are_set_in_any_mode_can_be_trained_on(inside):
    model = Backbone()
    averages = WeightAverages(model, swa_starts=(0.0,), max_epochs=2)
    with inside():
        averages.update(1)
        with averages.average_parameters("swa@0.0"):
            recalibrate_batchnorm(model, [X])
        recalibrate_batchnorm(model, [X])
    model(X).sum().backward()
    assert model[1].num_batches_tracked == 2
    averages.update(2)


def test_an_interrupted_recalibration_changes_nothing(monkeypatch):
    model = Backbone()
    model(X)
    before = copy.deepcopy(model.state_dict())

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wasam_core.moments.Moments.found", interrupt)
    with pytest.raises(KeyboardInterrupt):
        recalibrate_batchnorm(model, [X])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model[1].momentum == 0.1
