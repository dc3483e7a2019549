"""Weights that move are seen by what reads them next, wherever the autocast blocks stand."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

import pytest
import torch
from matrices import crossed
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wasam_core import WASAM, MultipleSWAModels, WeightAverages, perturbed, recalibrate_batchnorm, stand_in
from wasam_core.moved import weights_moved
from wasam_core.probes.landscape import line
from wasam_core.probes.sharpness import measure_sharpness

Block = Callable[[], AbstractContextManager[object]]


def autocast(**options) -> Block:
    return lambda: torch.autocast("cpu", torch.bfloat16, **options)


# Blocks round everything, and the block round each forward.
PLACES: dict[str, tuple[list[Block], Block]] = {
    "round everything": ([autocast()], nullcontext),
    "round everything, without a cache": ([autocast(cache_enabled=False)], nullcontext),
    "twice round everything": ([autocast(), autocast()], nullcontext),
    "one that is off round everything": ([autocast(enabled=False)], autocast()),
    "both round everything and inside": ([autocast()], autocast()),
    "off, on, and inside": ([autocast(enabled=False), autocast()], autocast()),
}


class Watched(nn.Module):
    """A net that notes the mean of its outputs at every forward, and brings its own block along."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1))
        self.block = block
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        with self.block():
            found: Tensor = self.layers(x).float()
        self.seen.append(found.detach().mean().clone())
        return found


def batches() -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.randn(8, 4, generator=g) for _ in range(3)]


def optimizer_of(model: nn.Module, **options) -> WASAM:
    return WASAM(model.named_parameters(), torch.optim.SGD, **({"rho": 2.0, "lr": 0.5, "model": model} | options))


def closure_of(model: nn.Module, x: Tensor) -> Callable[..., Tensor]:
    def closure(*parts: Tensor) -> Tensor:
        loss = (model(*(parts or (x,))) - 1).square().mean()
        loss.backward()
        return loss

    return closure


def one_call(model: Watched, **options) -> None:
    optimizer = optimizer_of(model, **options)
    for x in batches():
        optimizer.step(closure_of(model, x), batch=(x,))


def with_gradients(model: Watched) -> None:
    optimizer = optimizer_of(model)
    for x in batches():
        closure_of(model, x)()
        optimizer.step(closure_of(model, x))


def two_calls(model: Watched) -> None:
    optimizer = optimizer_of(model)
    for x in batches():
        closure_of(model, x)()
        optimizer.first_step(zero_grad=True)
        closure_of(model, x)()
        optimizer.second_step(zero_grad=True)


def taken_back(model: Watched) -> None:
    optimizer = optimizer_of(model)
    for x in batches():
        closure_of(model, x)()
        optimizer.first_step(zero_grad=True)
        closure_of(model, x)()
        optimizer.restore()
        closure_of(model, x)()
        optimizer.zero_grad()


def any_optimizer(model: Watched) -> None:
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    for x in batches():
        closure_of(model, x)()
        with perturbed(model, rho=2.0, variant="asam"):
            closure_of(model, x)()
        sgd.step()
        sgd.zero_grad()


def looked_at_by_a_hook(model: Watched) -> None:
    optimizer = optimizer_of(model, rho=0.0)
    optimizer.register_step_pre_hook(lambda *_: evaluate(model))
    optimizer.register_step_post_hook(lambda *_: evaluate(model))
    for x in batches():
        optimizer.step(closure_of(model, x))


def evaluate(model: nn.Module) -> None:
    for block in (torch.no_grad, torch.inference_mode):
        with block():
            model(batches()[0])


def own_average(model: Watched) -> None:
    optimizer = optimizer_of(model, rho=0.0)
    for x in batches():
        optimizer.step(closure_of(model, x))
        optimizer.update_swa()
        evaluate(model)
        with optimizer.average_parameters():
            evaluate(model)
            optimizer.bn_update(batches(), model)
            evaluate(model)
        evaluate(model)
        optimizer.swap_swa_sgd()
        evaluate(model)
        optimizer.swap_swa_sgd()


def many_averages(model: Watched) -> None:
    optimizer = optimizer_of(model, rho=0.0)
    averages = WeightAverages(model, swa_starts=(0.0, 0.9), max_epochs=3, ema_decays=(0.5,), lawa_windows=(2,))
    for epoch, x in enumerate(batches(), 1):
        optimizer.step(closure_of(model, x))
        averages.update_step()
        averages.update(epoch)
        for name in averages.ready:
            evaluate(model)
            with averages.average_parameters(name):
                evaluate(model)
                recalibrate_batchnorm(model, batches())
                evaluate(model)
        evaluate(model)


def copies(model: Watched) -> None:
    optimizer = optimizer_of(model, rho=0.0)
    several = MultipleSWAModels(model, None, max_epochs=3, starts=(0.0, 0.9))
    for epoch, x in enumerate(batches(), 1):
        optimizer.step(closure_of(model, x))
        several.update_parameters(model, epoch)
        for entry in several.models:
            entry["model"].seen = model.seen
            evaluate(entry["model"])


def probes(model: Watched) -> None:
    optimizer = optimizer_of(model)
    pairs = [(x, torch.zeros(8, 1)) for x in batches()]
    for x in batches():
        optimizer.step(closure_of(model, x))
        there = [p + 1 for p in model.parameters()]
        found = measure_sharpness(
            model, nn.functional.mse_loss, pairs, rho=2.0, generator=torch.Generator().manual_seed(0)
        )
        between = line(model, nn.functional.mse_loss, list(model.parameters()), there, {"train": pairs}, points=3,
                       recalibrate_with=batches())  # fmt: skip
        rises = found.worst_case.rise, found.average_case.rise
        values = (found.loss, *rises, found.trace.value, *found.eigenvalues.values, *between.loss["train"])
        model.seen += torch.tensor(values)


FLOWS: dict[str, Callable[[Watched], None]] = {
    "step(closure)": one_call,
    "step(closure) with gradients": with_gradients,
    "micro-batches": lambda model: one_call(model, m=3),
    "a perturbation now and then": lambda model: one_call(model, interval=2),
    "first_step and second_step": two_calls,
    "restore": taken_back,
    "perturbed": any_optimizer,
    "hooks": looked_at_by_a_hook,
    "the average of WASAM": own_average,
    "WeightAverages": many_averages,
    "MultipleSWAModels": copies,
    "probes": probes,
}


def outputs(flow: str, blocks: list[Block], inside: Block) -> Tensor:
    model = Watched(inside)
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block())
        FLOWS[flow](model)
    return torch.stack([*model.seen, *(p.detach().sum() for p in model.parameters())])


@pytest.mark.parametrize("way", ["in place", "aside"])
@crossed(flow=FLOWS, place=PLACES)
def test_a_block_round_everything_changes_nothing(flow, place, way, monkeypatch):
    monkeypatch.setattr(stand_in, "LARGE_BYTES", 0 if way == "aside" else 2**30)
    expected = outputs(flow, [], autocast())
    assert len(set(expected.tolist())) > 5  # the weights do move
    assert torch.equal(outputs(flow, *PLACES[place]), expected)


def test_weights_computed_once_a_block_are_computed_anew():
    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    layer = nn.Linear(1, 1, bias=False)
    parametrize.register_parametrization(layer, "weight", Doubled())
    averages = WeightAverages(layer, ema_decays=(0.5,))
    one = torch.ones(1, 1)
    with torch.no_grad(), parametrize.cached():
        for value in (1.0, 3.0):
            next(layer.parameters()).fill_(value)
            weights_moved()
            assert layer(one).item() == 2 * value
            averages.update_step()
        with averages.average_parameters("ema@0.5"):
            assert layer(one).item() == pytest.approx(2 * 7 / 3)  # (1 + 2 * 3) / 3
        assert layer(one).item() == 6.0
