"""Optimizers and schedules of a user's own for the tests, and tasks that put weights into groups."""

from dataclasses import replace
from typing import Any

import torch
from own_tasks import tensors
from pytorch_optimizer import GSAM
from pytorch_optimizer.lr_scheduler import ProportionScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from study.tasks import Task


class SignSGD(Optimizer):
    """Steps by the sign of the gradient."""

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad.sign() + group["weight_decay"] * p, alpha=-group["lr"])


class Forgetful(SignSGD):
    """Keeps something beside its state: a run that is saved and loaded goes on otherwise."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr)
        self.taken = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step, every other one backwards."""
        super().step()
        self.taken += 1
        for group in self.param_groups:
            group["momentum"] = float(self.taken % 2)
            for p in group["params"]:
                p.data.mul_(1 - 1e-3 * self.taken)


class Deaf(SignSGD):
    """Has a rate of its own, whatever is set."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            group["lr"] = 0.01
        super().step()


class TwoPhases(SignSGD):
    """Takes a second pass every other step, as it finds by itself."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr)
        self.taken = 0

    def step(self, closure: Any) -> Tensor:  # type: ignore[override]
        """Take a step: the gradient is taken here."""
        with torch.enable_grad():
            loss: Tensor = closure()
        if self.taken % 2:
            with torch.enable_grad():
                closure()
        self.taken += 1
        super().step()
        return loss


def no_optimizer(params: Any, lr: float) -> int:
    """Return something else."""
    return 3


def without_rate(params: Any) -> Optimizer:
    """Take no rate."""
    return torch.optim.SGD(params, lr=0.1)


def raises(params: Any, lr: float) -> Optimizer:
    """Fail."""
    raise RuntimeError("not today\nnor tomorrow")


def wants_more(params: Any, lr: float, total_steps: int) -> Optimizer:
    """Need what nobody gives."""
    return torch.optim.SGD(params, lr=lr)


def gsam(params: Any, lr: float, base_optimizer: Any, model: nn.Module, rho: float = 0.05) -> Optimizer:
    """Return `pytorch_optimizer.GSAM` at a constant radius, for a closure that returns the loss alone."""

    class Constant(ProportionScheduler):
        def __init__(self) -> None:
            pass

        def step(self) -> float:
            return rho

    class Bare(GSAM):
        def step(self, closure: Any = None) -> Tensor:  # type: ignore[override]
            _, loss = super().step(lambda: (None, closure()))
            return loss

    made: Optimizer = Bare(params, base_optimizer=base_optimizer(params), model=model, rho_scheduler=Constant())
    return made


def one_cycle(done: float) -> float:
    """Rise for a third, then fall."""
    return 3 * done if done < 1 / 3 else 1.5 * (1 - done)


def below_zero(done: float) -> float:
    """Go below zero."""
    return 0.5 - done


def nowhere(done: float) -> float:
    """Stay at zero."""
    return 0.0


def worded(done: float) -> Any:
    """Return a text."""
    return "slow"


def unready(done: float) -> float:
    """Fail."""
    raise KeyError("step")


class Matrices(nn.Module):
    """A network of matrices alone."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(6, 16, bias=False), nn.Linear(16, 3, bias=False)

    def forward(self, both: Tensor) -> Tensor:
        """Return ``(n, 3)``."""
        logits: Tensor = self.head(torch.relu(self.enter(both)))
        return logits


def matrices(seed: int, factors: Any) -> Task:
    """A network of matrices."""
    return replace(tensors(seed, factors), model=Matrices())


def halves(model: Any) -> list[dict[str, Any]]:
    """The head learns at a tenth of the rate, and does not decay."""
    return [
        {"params": model.enter.parameters()},
        {"params": model.head.parameters(), "lr_scale": 0.1, "weight_decay": 0.0},
    ]


def grouped(seed: int, factors: Any) -> Task:
    """Two groups."""
    return replace(matrices(seed, factors), parameter_groups=halves)
