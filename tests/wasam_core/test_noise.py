"""The gradient noise agrees with covariances that are computed from one example's gradient after the other."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from wasam_core import Cost
from wasam_core.probes.noise import gradient_noise
from wasam_core.probes.surface import LossSurface


def example_gradients(model: nn.Module, batches) -> torch.Tensor:
    """Return the gradient of every example, ``(n, d)``, in evaluation mode, by autograd on the model itself."""
    model.eval()
    rows = []
    for inputs, targets in batches:
        for one in range(len(targets)):
            loss = functional.cross_entropy(model(inputs[one : one + 1]), targets[one : one + 1])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])]).double())
    return torch.stack(rows)


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_noise_and_signal_are_those_of_the_sample_covariance(toys, micro_batch) -> None:
    model, batches = toys.net(), toys.batches()
    found = gradient_noise(LossSurface(model, functional.cross_entropy, batches), micro_batch=micro_batch)
    means = example_gradients(model, batches).unflatten(0, (-1, micro_batch)).mean(1)
    trace = float(means.var(dim=0, unbiased=True).sum()) * micro_batch
    assert found.noise == pytest.approx(trace, rel=1e-5)
    assert found.signal == pytest.approx(float((means.mean(0) ** 2).sum()) - trace / found.n, rel=1e-4)
    assert (found.n, found.micro_batch) == (48, micro_batch)


def test_what_is_left_over_in_a_batch_is_left_out(toys) -> None:
    model, batches = toys.net(), toys.batches(count=3)  # of 8 examples
    cut = [(inputs[:6], targets[:6]) for inputs, targets in batches]
    whole, same = (
        gradient_noise(LossSurface(model, functional.cross_entropy, some), micro_batch=3) for some in (batches, cut)
    )
    assert whole == same
    assert whole.n == 18


def test_both_are_unbiased() -> None:
    """Gradients of (w − y)² / 2 at 0 are −y: signal 1 and noise 4, where y has mean 1 and deviation 2."""
    g = torch.Generator().manual_seed(0)
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.zero_()

    def half_square(outputs, targets):
        return functional.mse_loss(outputs, targets) / 2

    found = []
    for _ in range(300):
        batch = (torch.ones(8, 1), 1 + 2 * torch.randn(8, 1, generator=g))
        found.append(gradient_noise(LossSurface(model, half_square, [batch]), micro_batch=2))
    for values, truth in (([one.noise for one in found], 4.0), ([one.signal for one in found], 1.0)):
        tensor = torch.tensor(values)
        assert abs(float(tensor.mean()) - truth) < 4 * float(tensor.std()) / math.sqrt(len(found))


def test_it_costs_one_gradient_an_example_and_touches_nothing(toys) -> None:
    model, batches, cost = toys.net(), toys.batches(), Cost()
    before = toys.snapshot(model)
    surface = LossSurface(model, functional.cross_entropy, batches, cost=cost)
    gradient_noise(surface, micro_batch=8)
    assert cost.gradient_evaluations == 48
    toys.assert_untouched(model, before)


@pytest.mark.parametrize("micro_batch", [0, 1.5, 25, 48])
def test_a_micro_batch_that_does_not_fit_in_twice_is_refused(toys, micro_batch) -> None:
    surface = LossSurface(
        toys.net(), functional.cross_entropy, [tuple(map(torch.cat, zip(*toys.batches(), strict=True)))]
    )
    with pytest.raises(ValueError, match=f"micro_batch = {micro_batch}"):
        gradient_noise(surface, micro_batch=micro_batch)
