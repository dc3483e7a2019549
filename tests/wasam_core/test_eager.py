"""Without torch.compile in the process, steps are the same and nothing imports it."""

import functools
import subprocess
import sys

import pytest
import torch

from wasam_core import WASAM
from wasam_core.bare_torch import Eager

TRAIN = """
import sys, torch
from wasam_core import WASAM
from wasam_core.bare_torch import Eager

class SGD(Eager, torch.optim.SGD):
    pass

class AdamW(Eager, torch.optim.AdamW):
    pass

for base in (SGD, AdamW):
    model = torch.nn.Linear(3, 2)
    optimizer = WASAM(model.named_parameters(), base, rho=0.1, model=model, lr=0.01)
    x = torch.ones(4, 3)

    def closure():
        loss = model(x).square().mean()
        loss.backward()
        return loss

    first = float(optimizer.step(closure))
    assert float(optimizer.step(closure)) < first
    optimizer.zero_grad()
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_training_imports_nothing_of_torch_compile() -> None:
    assert subprocess.run([sys.executable, "-c", TRAIN], check=False).returncode == 0


@pytest.mark.parametrize(
    ("base", "options"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}),
        (torch.optim.AdamW, {"lr": 0.01}),
        (torch.optim.Adam, {"lr": 0.01, "foreach": True}),
        (torch.optim.SGD, {"lr": 0.1, "differentiable": False, "fused": True}),
        (torch.optim.NAdam, {"lr": 0.01}),
    ],
)
def test_steps_are_the_same_with_and_without_torchs_wrapper(toys, base, options, monkeypatch):
    ends = []
    for eager in (True, False):
        monkeypatch.setattr("wasam_core.bare_torch.nothing_compiles", lambda eager=eager: eager)
        torch.manual_seed(0)  # dropout
        model = toys.net()
        kind = type(base.__name__, (Eager, base), {}) if eager else base
        optimizer = WASAM(model.named_parameters(), kind, rho=0.1, model=model, **options)
        for batch in toys.batches(4):
            optimizer.step(toys.closure(model, batch))
        assert all(value.grad_fn is None for value in model.parameters())
        assert torch.is_grad_enabled()
        ends.append(model)
    toys.assert_same_bits(*ends)


def test_a_step_that_somebody_else_has_wrapped_is_called_as_it_is(toys, monkeypatch):
    calls = []

    class Logged(torch.optim.SGD):
        @functools.wraps(torch.optim.SGD.step)
        def step(self, closure=None):
            calls.append(self)
            return super().step(closure)

    monkeypatch.setattr("wasam_core.bare_torch.nothing_compiles", lambda: True)
    model = toys.net()
    optimizer = WASAM(model.parameters(), Logged, lr=0.1)
    optimizer.step(toys.closure(model, toys.batches(1)[0]))
    assert len(calls) == 1
