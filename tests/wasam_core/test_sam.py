"""What a WASAM step does: its contracts, its guards, its options."""

import pytest
import torch

from wasam_core import WASAM, perturbed


def test_step_returns_the_clean_loss(toys):
    model, batch = toys.net(dropout=0.0), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1, model=model)
    expected = toys.loss(toys.net(dropout=0.0), batch)
    assert torch.equal(optimizer.step(toys.closure(model, batch)), expected)


def test_closure_runs_twice_without_and_once_with_gradients(toys):
    model, batch = toys.net(), toys.batches(1)[0]
    optimizer = WASAM(model.parameters(), torch.optim.SGD, lr=0.1)
    calls = []

    def closure():
        calls.append(1)
        return toys.closure(model, batch)()

    optimizer.step(closure)
    assert len(calls) == 2
    toys.loss(model, batch).backward()
    assert optimizer.step(closure) is None
    assert len(calls) == 3
    optimizer.zero_grad(set_to_none=False)
    optimizer.step(closure)
    assert len(calls) == 5


@pytest.mark.parametrize("flow", ["closure", "two steps", "gradients present", "perturbed"])
def test_all_spellings_of_a_step_agree_bit_for_bit(toys, flow):
    reference, model = toys.net(), toys.net()
    expected = WASAM(reference.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, model=reference)
    torch.manual_seed(5)
    for batch in toys.batches():
        expected.step(toys.closure(reference, batch))

    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = WASAM(model.parameters(), sgd, model=model)
    torch.manual_seed(5)
    for batch in toys.batches():
        if flow == "closure":
            optimizer.step(toys.closure(model, batch))
        elif flow == "two steps":
            toys.loss(model, batch).backward()
            assert optimizer.first_step(zero_grad=True)
            toys.loss(model, batch).backward()
            assert optimizer.second_step(zero_grad=True)
        elif flow == "gradients present":
            toys.loss(model, batch).backward()
            optimizer.step(toys.closure(model, batch))
        else:
            rng = torch.get_rng_state()
            toys.loss(model, batch).backward()
            with perturbed(model, rho=0.05, rng={"cpu": rng}):
                toys.loss(model, batch).backward()
            sgd.step()
            sgd.zero_grad()
    toys.assert_same_bits(reference, model)


def test_a_built_optimizer_over_other_parameters_is_refused(toys):
    model, other = toys.net(), toys.net()
    with pytest.raises(ValueError, match="same parameters"):
        WASAM(model.parameters(), torch.optim.SGD(other.parameters(), lr=0.1))


def test_readme_kwargs_beside_a_built_optimizer_must_agree(toys):
    model = toys.net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    WASAM(model.parameters(), sgd, rho=0.05, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"lr=0\.2"):
        WASAM(model.parameters(), sgd, rho=0.05, lr=0.2)
