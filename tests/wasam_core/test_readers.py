"""Whoever reads trained weights is refused while they are perturbed or hold an average, whoever has moved them."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

from wasam_core import WASAM, MultipleSWAModels, WeightAverages, perturbed, recalibrate_batchnorm

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def backward(model: nn.Module) -> Tensor:
    loss: Tensor = model(X).square().mean()
    loss.backward()
    return loss


def optimizer_of(model: nn.Module) -> WASAM:
    """Return an optimizer with an average that is begun, and weights that have gone on."""
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, model=model)
    optimizer.step(lambda: backward(model))
    optimizer.update_swa()
    optimizer.step(lambda: backward(model))
    return optimizer


def averages_of(model: nn.Module) -> WeightAverages:
    averages = WeightAverages(model, ema_decays=(0.5,), lawa_windows=(2,))
    averages.update_step()
    averages.update(1)
    return averages


@contextmanager
def between_steps(model: nn.Module) -> Iterator[None]:
    optimizer = optimizer_of(model)
    backward(model)
    optimizer.first_step(zero_grad=True)
    yield
    optimizer.restore()


@contextmanager
def swapped(model: nn.Module) -> Iterator[None]:
    optimizer = optimizer_of(model)
    optimizer.swap_swa_sgd()
    yield
    optimizer.swap_swa_sgd()


@contextmanager
def at_worse_weights(model: nn.Module) -> Iterator[None]:
    backward(model)
    with perturbed(model, rho=0.5):
        yield


MOVERS: dict[str, Callable[[nn.Module], Any]] = {
    "perturbed": at_worse_weights,
    "first_step": between_steps,
    "swap_swa_sgd": swapped,
    "average of an optimizer": lambda model: optimizer_of(model).average_parameters(),
    "average": lambda model: averages_of(model).average_parameters("ema@0.5"),
}


def reading(name: str, model: nn.Module) -> Callable[[], Any]:
    """Return a call that reads the weights of a model, of an object that is ready for it."""
    if name == "update_parameters":
        copies = MultipleSWAModels(model, None, 4, [0.0])
        return lambda: copies.update_parameters(model, 1)
    if name in ("update", "update_step", "average_parameters"):
        averages = averages_of(model)
        calls: dict[str, Callable[[], Any]] = {
            "update": lambda: averages.update(2),
            "update_step": averages.update_step,
            "average_parameters": lambda: averages.average_parameters("ema@0.5").__enter__(),
        }
        return calls[name]
    optimizer = optimizer_of(model)
    return {
        "update_swa": optimizer.update_swa,
        "swap_swa_sgd": optimizer.swap_swa_sgd,
        "first_step": optimizer.first_step,
        "step": lambda: optimizer.step(lambda: backward(model)),
    }[name]


READERS = (
    "update", "update_step", "average_parameters", "update_parameters", "update_swa", "swap_swa_sgd", "first_step",
    "step",
)  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mover", MOVERS)
def test_nobody_takes_moved_weights_for_trained_ones(mover: str, reader: str) -> None:
    model = net()
    read = reading(reader, model)
    other = reading(reader, net())
    with MOVERS[mover](model):
        held = copy.deepcopy(model.state_dict())
        with pytest.raises(RuntimeError, match=r"while the weights are perturbed, or hold an average"):
            read()
        assert all(torch.equal(held[key], value) for key, value in model.state_dict().items())
        other()  # weights of another model are where they are
    read()


# --- a step that would be lost ----------------------------------------------------------------------------------------


class Own(torch.optim.Optimizer):
    """An optimizer of a user's own."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        raise AssertionError("a step that is refused does nothing")


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.LBFGS, Own])
@pytest.mark.parametrize("part", [False, True])
def test_a_step_at_perturbed_weights_is_refused_before_it_is_lost(kind: Any, part: bool) -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    optimizer = kind((model[2] if part else model).parameters(), lr=0.1)
    backward(model)
    with pytest.raises(RuntimeError, match=f"{kind.__name__} steps inside perturbed"), perturbed(model, rho=0.5):
        optimizer.step(lambda: backward(model))
    assert not optimizer.state
    assert torch.equal(before["0.weight"], model.state_dict()["0.weight"])
    assert not _global_optimizer_pre_hooks


def test_other_steps_are_taken() -> None:
    model, other = net(), nn.Linear(1, 1)
    backward(model)
    other(torch.ones(1, 1)).backward()
    with perturbed(model, rho=0.5):
        torch.optim.SGD(other.parameters(), lr=0.1).step()
        with perturbed(model, rho=0.5):  # a second ascent
            backward(model)
    closing = torch.optim.LBFGS(model.parameters())

    def closure() -> Tensor:
        closing.zero_grad()
        loss = backward(model)
        with perturbed(model, rho=0.05):
            backward(model)
        return loss

    closing.step(closure)
    assert not _global_optimizer_pre_hooks


# --- what a pass writes to is no training -----------------------------------------------------------------------------


class Kept(nn.Module):
    """A model whose passes write to a parameter, to buffers in place, and put a buffer in the place of another."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = kind(5, 4, max_norm=0.5)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        out: Tensor = self.head(self.norm(self.table(x).reshape(len(x), 4)))
        return out


@pytest.mark.parametrize("average_buffers", [False, True])
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("whose", ["averages", "optimizer"])
def test_passes_recalibration_and_renormalization_are_no_training(kind: Any, average_buffers: bool, whose: str) -> None:
    model, x = Kept(kind), torch.tensor([[0], [3], [4]])
    optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=0.5, model=model)
    averages = WeightAverages(model, ema_decays=(0.5,), average_buffers=average_buffers)
    for _ in range(2):
        optimizer.step(lambda: (loss := model(x).square().mean()).backward() or loss)
        optimizer.update_swa()
        averages.update_step()
    before = copy.deepcopy(model.state_dict())
    block = averages.average_parameters("ema@0.5") if whose == "averages" else optimizer.average_parameters()
    with block:
        recalibrate_batchnorm(model, [x])
        model.eval()(x)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    block = averages.average_parameters("ema@0.5") if whose == "averages" else optimizer.average_parameters()
    with pytest.raises(RuntimeError, match="parameters were changed"), block, torch.no_grad():
        model.head.weight.add_(1.0)


# --- a radius means something in its variant --------------------------------------------------------------------------

VARIANTS: tuple[Any, ...] = ("sam", "asam", "asam-common")


@pytest.mark.parametrize("saved", VARIANTS)
@pytest.mark.parametrize("loading", VARIANTS)
def test_a_state_is_of_one_variant(saved: Any, loading: Any) -> None:
    def build(variant: Any, rho: float, model: nn.Module) -> WASAM:
        return WASAM(model.parameters(), torch.optim.SGD, rho=rho, lr=0.1, momentum=0.9, model=model, variant=variant)

    model = net()
    optimizer = build(saved, 0.3, model)
    optimizer.step(lambda: backward(model))
    state, place = optimizer.state_dict(), build(loading, 2.0, model)
    refused = pytest.raises(ValueError, match=f'variant="{saved}", whose rho means another radius in "{loading}"')
    with nullcontext() if saved == loading else refused:
        place.load_state_dict(state)
    assert place.param_groups[0]["rho"] == (0.3 if saved == loading else 2.0)
    assert bool(place.state) is (saved == loading)
    del state["param_groups"][0]["wasam"]["variant"]  # as in earlier states
    place.load_state_dict(state)
    assert place.param_groups[0]["rho"] == 0.3


# --- what would be ignored, or go by a wrong name ---------------------------------------------------------------------


def test_an_average_is_of_the_run_that_it_is_named_after() -> None:
    model = net()
    averages = WeightAverages(model, swa_starts=(0.5,), max_epochs=4, lawa_windows=(2,))
    copies = MultipleSWAModels(model, None, 4, [0.5])
    for epoch in range(1, 5):
        averages.update(epoch)
        copies.update_parameters(model, epoch)
    for late in (lambda: averages.update(5), lambda: copies.update_parameters(model, 5)):
        with pytest.raises(ValueError, match=r"update\(5\) with max_epochs = 4"):
            late()
    assert averages.count("swa@0.5") == copies.averages.count("swa@0.5") == 3
    assert averages.last_epoch == 4
    windows = WeightAverages(model, lawa_windows=(2,))
    for epoch in range(1, 9):
        windows.update(epoch)
    assert windows.count("lawa@2") == 2


def test_an_offset_is_refused_where_nothing_reads_it() -> None:
    model = net()
    backward(model)
    with pytest.raises(ValueError, match='does nothing in variant "sam"'):
        WASAM(model.parameters(), torch.optim.SGD, lr=0.1, eta=0.5)
    with pytest.raises(ValueError, match='does nothing in variant "sam"'), perturbed(model, rho=0.1, eta=0.5):
        pass
    for variant in VARIANTS[1:]:
        with perturbed(model, rho=0.1, eta=0.5, variant=variant):
            pass


def test_averages_are_not_copied_inside_their_block() -> None:
    averages = averages_of(net())
    with averages.average_parameters("ema@0.5"), pytest.raises(RuntimeError, match=r"copy\(\) inside"):
        copy.deepcopy(averages)
    twin = copy.deepcopy(averages)
    twin.update_step()
    assert (twin.count("ema@0.5"), averages.count("ema@0.5")) == (2, 1)
