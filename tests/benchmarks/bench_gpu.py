"""What a WASAM step costs on a GPU beside its limit, and whether `wasam_core` keeps its laws there; ten minutes.

    PYTHONPATH=.:tests:tests/benchmarks python -m benchmarks.bench_gpu [--device cuda:0] [--seconds 6]

The limit is two forward-backward passes and the base step. Contenders take turns, a few steps on end, with the device
idle before and after each turn; the figure is the median of the ratios within turns. `captured` is a CUDA graph of a
step, replayed. A cell that can't be measured says why, and the others go on; a broken law makes the exit code 1.
Nothing is downloaded. `--device cpu` tries the whole of it without a GPU, where no figure says anything.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.bench_core import TextbookSAM, convnet, mlp
from benchmarks.conditions import header, python, table
from pytorch_optimizer import SAM as PeerSAM
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer, resnet18

from study.specs.schedules import schedule_of
from study.tasks.examples import examples_of
from study.training.train import Draws, Recipe, train
from wasam_core import WASAM, WeightAverages

Step = Callable[[], object]
OPTIONS = {"lr": 1e-3, "momentum": 0.9}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def vit_tiny() -> nn.Module:
    return VisionTransformer(
        image_size=32, patch_size=4, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=10
    )


@dataclass(frozen=True)
class Problem:
    """A network, and the shape of a batch; a small one where only the way is tried."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    small: tuple[int, ...]


PROBLEMS = {
    "MLP 64-100-100-10": Problem(mlp, (128, 64), (4, 64)),
    "conv net 8×8": Problem(convnet, (128, 1, 8, 8), (4, 1, 8, 8)),
    "ResNet-18 32×32": Problem(lambda: resnet18(num_classes=10), (128, 3, 32, 32), (2, 3, 32, 32)),
    "ViT-tiny 32×32": Problem(vit_tiny, (128, 3, 32, 32), (2, 3, 32, 32)),
}


class Bench:
    """A device, and how long a cell of a table may take."""

    def __init__(self, device: str, seconds: float) -> None:
        self.device, self.seconds = torch.device(device), seconds
        self.real = self.device.type == "cuda"

    def wait(self) -> None:
        if self.real:
            torch.cuda.synchronize(self.device)

    def setting(self, problem: Problem, precision: str) -> tuple[nn.Module, Callable[[], Tensor], Any]:
        """Return a model, the closure of its one batch, and a GradScaler for float16."""
        torch.manual_seed(0)
        shape = problem.shape if self.real else problem.small
        x, y = torch.randn(shape).to(self.device), torch.randint(10, shape[:1]).to(self.device)
        model = problem.build().to(self.device)
        dtype = PRECISIONS[precision]
        scaler = torch.amp.GradScaler(self.device.type) if precision == "fp16" else None

        def closure() -> Tensor:
            with torch.autocast(self.device.type, dtype) if dtype else nullcontext():
                loss = functional.cross_entropy(model(x), y)
            (scaler.scale(loss) if scaler else loss).backward()
            return loss

        return model, closure, scaler

    def captured(self, step: Step) -> Step:
        """Return the replay of a graph of the step, after steps that warm up outside of it."""
        if not self.real:
            raise RuntimeError("no CUDA graph here")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(4):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def ratios(self, steps: dict[str, Step]) -> tuple[float, dict[str, float]]:
        """Return the seconds of the first contender's step, and the others' medians in units of it."""
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        on_end = 1
        for step in steps.values():
            for _ in range(3):
                step()
        self.wait()
        end, names = time.perf_counter() + self.seconds, list(steps)
        for turn in range(10**6):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                self.wait()
                begun = time.perf_counter()
                for _ in range(on_end):
                    steps[name]()
                self.wait()
                seconds[name].append((time.perf_counter() - begun) / on_end)
            if turn == 0:  # about 20 ms on end: the wait for the device must not count
                on_end = max(1, int(0.02 / seconds[names[0]][0])) if self.real else 1
                seconds = {name: [] for name in steps}
            elif time.perf_counter() > end:
                break
        first = seconds[names[0]]
        found = {
            name: statistics.median(t / base for t, base in zip(seconds[name], first, strict=True)) for name in names
        }
        return statistics.median(first), found


def limit(bench: Bench, problem: Problem, precision: str) -> Step:
    model, closure, scaler = bench.setting(problem, precision)
    # With a scaler torch itself waits for the device, unless the optimizer is fused.
    sgd = torch.optim.SGD(model.parameters(), fused=scaler is not None, **OPTIONS)

    def step() -> None:
        closure()
        sgd.zero_grad()
        closure()
        if scaler:
            scaler.step(sgd)
            scaler.update()
        else:
            sgd.step()
        sgd.zero_grad()

    return step


def ours(bench: Bench, problem: Problem, precision: str, **options: Any) -> Step:
    model, closure, scaler = bench.setting(problem, precision)
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **OPTIONS, **options)

    def step() -> None:
        optimizer.step(closure, scaler=scaler)
        if scaler:
            scaler.update()

    return step


def peer(kind: Any) -> Callable[[Bench, Problem, str], Step]:
    def build(bench: Bench, problem: Problem, precision: str) -> Step:
        model, closure, scaler = bench.setting(problem, precision)
        if scaler:
            raise RuntimeError("no scaler")
        optimizer = kind(model.parameters(), torch.optim.SGD, **OPTIONS)

        def step() -> None:
            closure()
            optimizer.step(closure)
            optimizer.zero_grad()

        return step

    return build


CONTENDERS: dict[str, Callable[[Bench, Problem, str], Step]] = {
    "wasam_core": ours,
    "wasam_core, fused": lambda *setting: ours(*setting, fused=True),
    "pytorch_optimizer": peer(PeerSAM),
    "textbook": peer(TextbookSAM),
}


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:60]}"


def steps_table(bench: Bench, names: list[str]) -> list[list[str]]:
    """Return what steps of each contender take, in units of the limit run in the same way."""
    rows = [["net", "precision", "captured", "limit, ms", *CONTENDERS]]
    for name in names:
        for precision in PRECISIONS:
            for captured in (False, True):
                why: dict[str, str] = {}
                steps: dict[str, Step] = {}
                for contender, build in {"limit": limit, **CONTENDERS}.items():
                    try:
                        step = build(bench, PROBLEMS[name], precision)
                        steps[contender] = bench.captured(step) if captured else step
                    except Exception as error:  # whatever a device or a peer can't do is a cell of the table
                        why[contender] = said(error)
                begun, found = bench.ratios(steps) if "limit" in steps else (float("nan"), {})
                cells = [f"{found[c]:.3f}" if c in found else why.get(c, "–") for c in CONTENDERS]
                shown = f"{begun * 1e3:.3f}" if found else why["limit"]
                rows.append([name, precision, "yes" if captured else "no", shown, *cells])
                print(" | ".join(rows[-1]), flush=True)
    return rows


def run_table(bench: Bench) -> list[list[str]]:
    """Return what the study's training loop takes beside bare steps of the same optimizer, epoch by epoch."""
    rows = [["net", "epoch of the loop / bare steps"]]
    for name in list(PROBLEMS)[: 2 if bench.real else 1]:
        problem = PROBLEMS[name]
        shape = problem.shape if bench.real else problem.small
        x, y = torch.randn(16 * shape[0], *shape[1:]), torch.randint(10, (16 * shape[0],))
        examples = examples_of((x, y), "train").to(bench.device)
        model = problem.build().to(bench.device)
        optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **OPTIONS)
        averages = WeightAverages(model, swa_starts=(0.5, 0.75), max_epochs=10**6, ema_decays=(0.99, 0.998))
        recipe = Recipe(10**6, shape[0], 1e-3, schedule_of("constant", 0.0), functional.cross_entropy)
        epochs = train(model, optimizer, averages, examples, recipe, Draws(0))
        bare = ours(bench, problem, "fp32")

        def bare_epoch(bare: Step = bare) -> None:
            for _ in range(16):
                bare()

        _, found = bench.ratios({"bare": bare_epoch, "loop": lambda epochs=epochs: next(epochs)})
        rows.append([name, f"{found['loop']:.3f}"])
    return rows


def sharing_table(bench: Bench) -> list[list[str]]:
    """Return how many steps of the smallest net a second several processes take together on one device."""
    rows = [["processes on one device", "steps a second, all together"]]
    for count in (1, 2, 4) if bench.real else (2,):
        command = python("-m", "benchmarks.bench_gpu", "--device", str(bench.device), "--worker", str(bench.seconds))
        paths = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=paths) for _ in range(count)]
        outputs = [worker.communicate()[0] for worker in workers]
        rows.append([str(count), f"{sum(float(output) for output in outputs):.0f}"])
    return rows


def work(bench: Bench) -> float:
    """Return how many steps a second this process takes of the smallest net."""
    step, done = ours(bench, next(iter(PROBLEMS.values())), "fp32"), 0
    for _ in range(10):
        step()
    bench.wait()
    begun = time.perf_counter()
    while time.perf_counter() - begun < bench.seconds:
        for _ in range(20):
            step()
        done += 20
        bench.wait()
    return done / (time.perf_counter() - begun)


# The laws, each a function that raises where it is broken.


def trained(bench: Bench, steps: int, **options: Any) -> tuple[nn.Module, WASAM, Callable[[], Tensor]]:
    model, closure, _ = bench.setting(PROBLEMS["conv net 8×8"], "fp32")
    optimizer = WASAM(model.parameters(), torch.optim.SGD, model=model, **OPTIONS | options)
    for _ in range(steps):
        optimizer.step(closure)
    return model, optimizer, closure


def same(a: Any, b: Any) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), "other bits"


def without_a_radius_it_is_the_base(bench: Bench) -> None:
    model, _, _ = trained(bench, 5, rho=0.0)
    twin, closure, _ = bench.setting(PROBLEMS["conv net 8×8"], "fp32")
    sgd = torch.optim.SGD(twin.parameters(), **OPTIONS)
    for _ in range(5):
        sgd.zero_grad()
        closure()
        sgd.step()
    same(model.state_dict().values(), twin.state_dict().values())


def weights_return_bit_for_bit(bench: Bench) -> None:
    model, optimizer, closure = trained(bench, 2)
    before, places = copy.deepcopy([*model.parameters()]), [p.data_ptr() for p in model.parameters()]
    closure()
    assert optimizer.first_step(zero_grad=True)
    closure()
    optimizer.restore()
    same(model.parameters(), before)
    assert [p.data_ptr() for p in model.parameters()] == places, "another address"


def a_failed_gradient_changes_nothing(bench: Bench) -> None:
    for failing in (1, 2):
        for fused in (False, True):
            model, optimizer, closure = trained(bench, 3, fused=fused)
            averages = WeightAverages(model, ema_decays=(0.9,))
            averages.update_step(optimizer.updated)
            kept = copy.deepcopy([*model.parameters()]), copy.deepcopy(optimizer.base_optimizer.state_dict()["state"])
            mean, passes = averages.read("ema@0.9"), iter((1, 2))

            def spoiled(model: nn.Module = model, closure: Any = closure, passes: Any = passes, failing: int = failing):
                loss = closure()
                if next(passes) == failing:
                    next(model.parameters()).grad.view(-1)[0] = torch.nan
                return loss

            optimizer.step(spoiled)
            averages.update_step(optimizer.updated)
            same(model.parameters(), kept[0])
            for index, entries in optimizer.base_optimizer.state_dict()["state"].items():
                same(entries.values(), kept[1][index].values())
            same(averages.read("ema@0.9"), mean)
            assert (optimizer.cost.steps, optimizer.cost.skipped) == (3, 1), optimizer.cost


def a_saved_run_goes_on(bench: Bench) -> None:
    model, optimizer, closure = trained(bench, 3)
    weights, state = copy.deepcopy(model.state_dict()), optimizer.state_dict()
    torch.use_deterministic_algorithms(True, warn_only=True)
    ends = []
    for _ in range(2):
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for _ in range(3):
            optimizer.step(closure)
        ends.append(copy.deepcopy([*model.parameters()]))
    torch.use_deterministic_algorithms(False)
    same(*ends)


def an_average_is_the_mean(bench: Bench) -> None:
    model, optimizer, closure = trained(bench, 0)
    averages, twin = WeightAverages(model, ema_decays=(0.9,)), 0.0
    for _ in range(10):
        optimizer.step(closure)
        averages.update_step(optimizer.updated)
        twin = 0.9 * twin + 0.1 * next(model.parameters()).detach().double()
    torch.testing.assert_close(averages.read("ema@0.9")[0].double(), twin / (1 - 0.9**10), rtol=1e-5, atol=1e-6)


def no_step_waits(bench: Bench) -> None:
    _, optimizer, closure = trained(bench, 3, clip_norm=1.0)
    if bench.real:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            optimizer.step(closure)
    finally:
        if bench.real:
            torch.cuda.set_sync_debug_mode("default")


def captured_steps_are_the_steps(bench: Bench) -> None:
    if not bench.real:
        raise NotImplementedError("no CUDA graph here")
    model, optimizer, closure = trained(bench, 0)
    replay = bench.captured(lambda: optimizer.step(closure))
    for _ in range(5):
        replay()
    twin, other, _ = trained(bench, 9)  # four to warm up; capturing takes none
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert optimizer.cost.steps == other.cost.steps, (optimizer.cost, other.cost)


LAWS = (
    without_a_radius_it_is_the_base, weights_return_bit_for_bit, a_failed_gradient_changes_nothing,
    a_saved_run_goes_on, an_average_is_the_mean, no_step_waits, captured_steps_are_the_steps,
)  # fmt: skip


def laws_table(bench: Bench) -> tuple[list[list[str]], bool]:
    """Return each law with what was found, and whether all that could be tried hold."""
    rows, holding = [["law", "holds"]], True
    for law in LAWS:
        try:
            with deterministic():
                law(bench)
            found = "yes"
        except NotImplementedError as error:
            found = f"not tried: {error}"
        except Exception as error:  # whatever breaks it is what is asked
            found, holding = f"NO: {said(error)}", False
        rows.append([law.__name__.replace("_", " "), found])
    return rows, holding


def deterministic() -> AbstractContextManager[object]:
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return 1 where a law is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or cpu to try the way without a GPU")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each cell of a table")
    parser.add_argument("--nets", nargs="*", choices=PROBLEMS, default=list(PROBLEMS), metavar="NET")
    parser.add_argument("--worker", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no GPU here, and nothing was measured. --device cpu tries the way, without figures that count.")
        return 0
    bench = Bench(args.device, args.worker or args.seconds)
    if args.worker:
        print(work(bench))
        return 0
    name = torch.cuda.get_device_name(bench.device) if bench.real else "CPU, in place of a GPU: no figure counts"
    print(f"{header(('torch', 'torchvision', 'pytorch-optimizer'))}\n{name}\n", flush=True)
    laws, holding = laws_table(bench)
    for rows in (laws, steps_table(bench, args.nets), run_table(bench), sharing_table(bench)):
        print(f"\n{table(rows)}", flush=True)
    return int(not holding)


if __name__ == "__main__":
    sys.exit(main())
