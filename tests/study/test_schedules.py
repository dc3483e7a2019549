"""Every schedule equals torch's own scheduler at every step of a run."""

from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler as torchs
from torch.optim.swa_utils import SWALR

from study.specs.factors import FACTORS, factor_of
from study.specs.schedules import SCHEDULES, schedule_of
from study.specs.tasks import default_factors

STEPS = 200  # every share below is a whole number of steps
Scheduler = Callable[[torch.optim.SGD], torchs.LRScheduler]
PEERS: dict[str, Scheduler] = {
    "cosine": lambda optimizer: torchs.CosineAnnealingLR(optimizer, STEPS),
    "constant": lambda optimizer: torchs.ConstantLR(optimizer, factor=1.0),
    "linear": lambda optimizer: torchs.LinearLR(optimizer, 1.0, 0.0, STEPS),
    "multistep": lambda optimizer: torchs.MultiStepLR(optimizer, [60, 120, 160], gamma=0.2),
    "step": lambda optimizer: torchs.StepLR(optimizer, 67, gamma=0.1),  # the first step after each third
    "exponential": lambda optimizer: torchs.ExponentialLR(optimizer, 0.01 ** (1 / STEPS)),
    "cyclic": lambda optimizer: torchs.CyclicLR(optimizer, 0.25, 1.0, STEPS // 10, cycle_momentum=False),
}


def rates(scheduler_of: Scheduler, steps: int = STEPS) -> list[float]:
    """Return the rates that a scheduler of torch's gives a peak rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, found = scheduler_of(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def ours(name: str, warmup: float = 0.0) -> list[float]:
    schedule = schedule_of(name, warmup)
    return [schedule(step / STEPS) for step in range(STEPS)]


@pytest.mark.parametrize("name", PEERS)
def test_a_schedule_equals_torchs(name: str) -> None:
    assert ours(name) == pytest.approx(rates(PEERS[name]), abs=1e-9)


def test_swalr_equals_torchs_after_a_cosine() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cosine = torchs.CosineAnnealingLR(optimizer, STEPS)
    found = []
    for _ in range(150):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    # What SWALR holds as the starting rate is the group's rate as it is built.
    swa = SWALR(optimizer, swa_lr=0.5, anneal_epochs=10, anneal_strategy="cos")
    for _ in range(150, STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        swa.step()
    assert ours("swalr") == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("name", ["cosine", "constant"])
def test_warm_up_equals_torchs(name: str) -> None:
    after = {"cosine": lambda o: torchs.CosineAnnealingLR(o, STEPS - 10), "constant": PEERS["constant"]}[name]

    def both(optimizer: torch.optim.SGD) -> torchs.LRScheduler:
        return torchs.SequentialLR(optimizer, [torchs.LinearLR(optimizer, 0.01, 1.0, 10), after(optimizer)], [10])

    assert ours(name, 0.05) == pytest.approx(rates(both), abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.05])
def test_rates_lie_between_nothing_and_the_peak(name: str, warmup: float) -> None:
    schedule = schedule_of(name, warmup)
    assert all(-1e-12 <= schedule(step / 1000) <= 1 + 1e-12 for step in range(1001))


def test_every_schedule_is_in_what_a_spec_may_say_and_warm_up_is_optional() -> None:
    for name in SCHEDULES:
        FACTORS["schedule"].check("schedule", name)
        assert f'"{name}"' in FACTORS["schedule"].allowed
    assert "warmup" not in default_factors("digits")
    assert factor_of(default_factors("digits"), "warmup") == 0.0
