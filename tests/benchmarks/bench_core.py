"""What a WASAM step costs beside its limit, and what averages cost beside a step.

    python tests/benchmarks/bench_core.py

The limit of a sharpness-aware step is two forward-backward passes and the base step; nothing can be faster. Contenders
take turns, a few steps on end each, in one process on one thread, so that a busy machine slows all of them alike; the
figure is the median of the ratios within turns. The order rotates from turn to turn.

How many steps on end matters for the smallest net: a contender's first step after the others' finds the caches cold,
which costs Python code more than kernels. Training takes its steps on end; `--steps 1` shows the cold figure.
"""

import argparse
import gc
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from pytorch_optimizer import SAM as PeerSAM
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from wasam_core import WASAM, WeightAverages

STARTS = (0.5, 0.6, 0.75, 0.9)
DECAYS = (0.99, 0.998, 0.9995)


@dataclass(frozen=True)
class Problem:
    """A network, the shape of a batch, how many turns are worth taking, and of how many steps each."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    turns: int
    steps: int


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
    )  # fmt: skip


def convnet() -> nn.Module:
    def block(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

    return nn.Sequential(
        *block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 32), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


PROBLEMS = {
    "MLP 64-100-100-10, batch 128": Problem(mlp, (128, 64), 200, 10),
    "BN conv net 8x8, batch 128": Problem(convnet, (128, 1, 8, 8), 60, 2),
    "ResNet-18 32x32, batch 8": Problem(lambda: resnet18(num_classes=10), (8, 3, 32, 32), 30, 1),
}


class TextbookSAM(torch.optim.Optimizer):
    """The twenty lines that most people copy: perturb, remember, put back."""

    def __init__(self, params, base, rho=0.05, **kwargs):
        super().__init__(params, {"rho": rho, **kwargs})
        self.base = base(self.param_groups, **kwargs)

    @torch.no_grad()
    def step(self, closure):
        grads = [p.grad.norm() for g in self.param_groups for p in g["params"] if p.grad is not None]
        scale = self.param_groups[0]["rho"] / (torch.stack(grads).norm() + 1e-12)
        for g in self.param_groups:
            for p in g["params"]:
                self.state[p]["old"] = p.data.clone()
                p.add_(p.grad * scale)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for g in self.param_groups:
            for p in g["params"]:
                p.data = self.state[p]["old"]
        self.base.step()


Step = Callable[[], object]


def closure_of(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def fresh(problem: Problem) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a model and the closure of its one batch, the same at every call."""
    torch.manual_seed(0)
    x, y = torch.randn(problem.shape), torch.randint(10, (problem.shape[0],))
    model = problem.build()
    return model, closure_of(model, x, y)


def limit(problem: Problem) -> Step:
    model, run = fresh(problem)
    sgd = torch.optim.SGD(model.parameters(), **OPTIONS)

    def step() -> None:
        run()
        sgd.zero_grad()
        run()
        sgd.step()
        sgd.zero_grad()

    return step


def ours(problem: Problem) -> Step:
    model, run = fresh(problem)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **OPTIONS)
    return lambda: optimizer.step(run)


def gradients_first(make: Callable[..., torch.optim.Optimizer]) -> Callable[[Problem], Step]:
    """Time an optimizer that expects the clean gradients to be there when its step begins."""

    def build(problem: Problem) -> Step:
        model, run = fresh(problem)
        optimizer = make(model.parameters(), torch.optim.SGD, **OPTIONS)

        def step() -> None:
            run()
            optimizer.step(run)
            optimizer.zero_grad()

        return step

    return build


OPTIONS = {"lr": 1e-4, "momentum": 0.9}
CONTENDERS: dict[str, Callable[[Problem], Step]] = {
    "limit": limit,
    "wasam_core": ours,
    "pytorch_optimizer": gradients_first(PeerSAM),
    "textbook": gradients_first(TextbookSAM),
}


def contenders(problem: Problem) -> dict[str, Step]:
    """Build one step function per contender, each with a model of its own and the same batch."""
    return {name: build(problem) for name, build in CONTENDERS.items()}


def paired_seconds(steps: dict[str, Step], problem: Problem) -> dict[str, list[float]]:
    """Time every contender once a turn, in an order that rotates."""
    turns = problem.turns
    names = list(steps)
    for name in names:
        for _ in range(max(3, turns // 20)):
            steps[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(turns):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                begin = time.thread_time()
                for _ in range(problem.steps):
                    steps[name]()
                seconds[name].append(time.thread_time() - begin)
    finally:
        gc.enable()
    return seconds


def ratios(seconds: dict[str, list[float]], to: str) -> dict[str, float]:
    """Return the median over turns of each contender's time divided by that of `to`."""
    return {
        name: statistics.median(t / base for t, base in zip(ts, seconds[to], strict=True))
        for name, ts in seconds.items()
        if name != to
    }


def peak_bytes(problem: str, contender: str) -> int:
    """Return the highest resident memory of a process that takes five steps."""
    command = [sys.executable, __file__, "--peak", problem, contender]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def averaging_share(problem: Problem, ema_every: int) -> tuple[float, float, WeightAverages]:
    """Return the cost of 3 decays per step and of 4 starts per epoch of 50 steps, in shares of a step."""
    model, run = fresh(problem)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **OPTIONS)
    averages = WeightAverages(
        model, swa_starts=STARTS, max_epochs=10**6, ema_decays=DECAYS, ema_every=ema_every
    )  # fmt: skip

    def steps_with_updates() -> None:
        for _ in range(ema_every):
            averages.update_step()

    epochs = iter(range(950_000, 10**6))  # all have begun
    seconds = paired_seconds(
        {
            "step": lambda: optimizer.step(run),
            "ema": steps_with_updates,
            "swa": lambda: averages.update(next(epochs)),
        },
        problem,
    )
    shares = ratios(seconds, "step")
    return shares["ema"] / ema_every, shares["swa"] / 50, averages


@pytest.mark.parametrize("name", PROBLEMS)
def test_step(benchmark, name):
    """Record the ratios to the limit; the timed figure is the WASAM step."""
    torch.set_num_threads(1)
    problem = PROBLEMS[name]
    steps = contenders(problem)
    benchmark.extra_info.update(ratios(paired_seconds(steps, problem), "limit"))
    benchmark(steps["wasam_core"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="repeat each comparison, show the median")
    parser.add_argument("--steps", type=int, help="steps on end in every turn; by default 10, 2 and 1")
    parser.add_argument("--peak", nargs=2, metavar=("PROBLEM", "CONTENDER"), help="only print one peak of memory")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        step = CONTENDERS[args.peak[1]](PROBLEMS[args.peak[0]])
        for _ in range(5):
            step()
        # Not getrusage: its maximum is inherited from the parent process.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        print(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)))
        return
    print(f"torch {torch.__version__}, {platform.machine()}, one thread; seconds are CPU time of that thread")
    for name, preset in PROBLEMS.items():
        steps = args.steps or preset.steps
        problem = replace(preset, steps=steps, turns=preset.turns * preset.steps // steps)
        print(f"\n{name}, {problem.turns} turns of {steps}")
        runs = [paired_seconds(contenders(problem), problem) for _ in range(args.repeat)]
        tables = [ratios(seconds, "limit") for seconds in runs]
        base = statistics.median(statistics.median(seconds["limit"]) for seconds in runs) / problem.steps
        base_peak = peak_bytes(name, "limit")
        print(f"  {'limit':18s} {base * 1e3:8.3f} ms")
        for contender in tables[0]:
            values = sorted(table[contender] for table in tables)
            extra = (peak_bytes(name, contender) - base_peak) / 1e6
            middle = statistics.median(values)
            print(
                f"  {contender:18s} {middle:8.3f} x limit ({values[0]:.3f} to {values[-1]:.3f}), "
                f"{extra:+.0f} MB at the peak"
            )
        for every in (1, 2, 4):
            ema, swa, averages = averaging_share(problem, every)
            print(f"  3 decays, ema_every={every}: {ema:.1%} of a step; 4 starts: {swa:.2%} (epochs of 50 steps)")
        weights = sum(p.numel() * p.element_size() for p in averages.model.parameters())
        held = averages.nbytes / weights
        print(f"  4 starts and 3 decays hold {held:.2f} x the weights' {weights / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
