"""What a WASAM step does: its contracts, its guards, its options."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wasam_core import WASAM, perturbed


def make_net(dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def make_batches(count: int = 6, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(2)
    return [(torch.randn(size, 6, generator=g), torch.randint(3, (size,), generator=g)) for _ in range(count)]


def loss_of(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def closure_of(model, batch):
    def closure():
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    return closure


def state_of(model: nn.Module) -> list[torch.Tensor]:
    return [t.clone() for t in model.state_dict().values()]


def assert_same_bits(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def test_step_returns_the_clean_loss():
    model, batch = make_net(dropout=0.0), make_batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
    expected = loss_of(make_net(dropout=0.0), batch)
    assert torch.equal(optimizer.step(closure_of(model, batch)), expected)


def test_closure_runs_twice_without_and_once_with_gradients():
    model, batch = make_net(), make_batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    calls = []

    def closure():
        calls.append(1)
        return closure_of(model, batch)()

    optimizer.step(closure)
    assert len(calls) == 2
    loss_of(model, batch).backward()
    assert optimizer.step(closure) is None
    assert len(calls) == 3
    optimizer.zero_grad(set_to_none=False)
    optimizer.step(closure)
    assert len(calls) == 5


@pytest.mark.parametrize("flow", ["closure", "two steps", "gradients present", "perturbed"])
def test_all_spellings_of_a_step_agree_bit_for_bit(flow):
    reference, model = make_net(), make_net()
    expected = WASAM(reference.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, model=reference)
    torch.manual_seed(5)
    for batch in make_batches():
        expected.step(closure_of(reference, batch))

    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = WASAM(model.parameters(), sgd, model=model)
    torch.manual_seed(5)
    for batch in make_batches():
        if flow == "closure":
            optimizer.step(closure_of(model, batch))
        elif flow == "two steps":
            loss_of(model, batch).backward()
            assert optimizer.first_step(zero_grad=True)
            loss_of(model, batch).backward()
            assert optimizer.second_step(zero_grad=True)
        elif flow == "gradients present":
            loss_of(model, batch).backward()
            optimizer.step(closure_of(model, batch))
        else:
            rng = torch.get_rng_state()
            loss_of(model, batch).backward()
            with perturbed(model, rho=0.05, rng={"cpu": rng}):
                loss_of(model, batch).backward()
            sgd.step()
            sgd.zero_grad()
    assert_same_bits(reference, model)
    assert torch.equal(torch.rand(1), torch.rand(1)) is False


def test_a_built_optimizer_over_other_parameters_is_refused():
    model, other = make_net(), make_net()
    with pytest.raises(ValueError, match="same parameters"):
        WASAM(model.parameters(), torch.optim.SGD(other.parameters(), lr=0.1))


def test_readme_kwargs_beside_a_built_optimizer_must_agree():
    model = make_net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    WASAM(model.parameters(), sgd, rho=0.05, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"lr=0\.2"):
        WASAM(model.parameters(), sgd, rho=0.05, lr=0.2)
