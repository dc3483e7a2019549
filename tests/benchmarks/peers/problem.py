"""The problem that all peers solve: noisy digits, the study's own data, net and hyper-parameters, and nothing else."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.noisy_digits import noisy_digits
from torch import Tensor, nn

from study.data import load_data
from study.plan.cells import cells, searches
from study.plan.proposals import propose
from study.plan.replicates import Replicate, replicate_of
from study.specs.spec import StudySpec
from study.streams import torch_seed
from study.tasks import build_task

EPOCHS, BATCH, MOMENTUM, WEIGHT_DECAY = 15, 100, 0.9, 5e-4


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one run is trained with, in a replicate of the whole procedure; with rho = 0 it is plain SGD."""

    replicate: int
    family: str
    index: int
    learning_rate: float
    rho: float
    average_start: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracies of the last and of the averaged weights."""

    last: float
    average: float
    test_last: float
    test_average: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A net at its first weights, and the three parts of the data."""

    model: nn.Module
    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def spec_of(trials: int, seeds: int, replicates: int = 1) -> tuple[StudySpec, str]:
    """Return the study that solves the same problem, and its text."""
    return noisy_digits(
        "peers", "Do SAM and averaging help on noisy digits?",
        trials=trials, seeds=seeds, epochs=EPOCHS, schedule="cosine", replicates=replicates, as_peers=True,
    )  # fmt: skip


def configurations(trials: int, replicates: int = 1) -> list[Configuration]:
    """Return what everybody tries: the study's design, another one in each replicate."""
    spec = spec_of(trials, 1, replicates)[0]
    proposed = [
        (search.replicate.number, search.family, index, propose(spec.search, search, index, []))
        for search in searches(spec)
        for index in range(search.trials)
    ]
    return [Configuration(*whose, p.learning_rate, p.rho, p.average_start) for *whose, p in proposed]


def replicate(number: int, seeds: int = 1) -> Replicate:
    """Return the seeds of one of the study's replicates."""
    return replicate_of(spec_of(1, seeds)[0], number)


def problem_of(configuration: Configuration, seed: int) -> Problem:
    """Return the problem with its replicate's test part, and the split, label noise and first weights of a seed."""
    torch.manual_seed(torch_seed(seed, "torch"))
    factors = cells(spec_of(1, 1)[0])[0].factors
    task = build_task("digits", load_data("digits"), factors, seed, replicate(configuration.replicate).test)
    tensors = [_tensors(part) for part in (task.train, task.val, task.test())]
    return Problem(task.model, *tensors)


def _tensors(part: Any) -> tuple[Tensor, Tensor]:
    inputs, targets = part
    return torch.as_tensor(inputs), torch.as_tensor(targets)


def accuracy(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    """Return the share of a part that a model gets right."""
    model.eval()
    with torch.inference_mode():
        return float((model(part[0]).argmax(1) == part[1]).float().mean())


METHODS = {"SGD": ("base", "last"), "SWA": ("base", "average"), "SAM": ("sam", "last"), "WASAM": ("sam", "average")}
Sweep = Callable[[list[tuple[Configuration, int]]], list[Scores]]


def solve(sweep: Sweep) -> None:
    """In every replicate tune all methods and train the best configuration of each on fresh seeds; print the scores.

    Methods that picked the same configuration share its runs: a run has both the last and the averaged weights. All
    that is tuned is one sweep, and all that is trained again another.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--replicates", type=int, required=True)
    given = parser.parse_args()
    tried = configurations(given.trials, given.replicates)
    numbers = range(1, given.replicates + 1)
    seeds = {number: replicate(number, given.seeds) for number in numbers}
    tuned = sweep([(configuration, seeds[configuration.replicate].tune) for configuration in tried])
    best = {
        (method, number): max((getattr(scores, weights), -c.index, c) for c, scores in zip(tried, tuned, strict=True)
                              if (c.family, c.replicate) == (family, number))[-1]
        for method, (family, weights) in METHODS.items()
        for number in numbers
    }  # fmt: skip
    again = [(chosen, seed) for chosen in dict.fromkeys(best.values()) for seed in seeds[chosen.replicate].confirm]
    tested = dict(zip(again, sweep(again), strict=True))
    result = {
        "tuned": [[c.replicate, c.family, c.index, scores.last, scores.average]
                  for c, scores in zip(tried, tuned, strict=True)],
        "tested": {
            method: [getattr(tested[best[method, number], seed], f"test_{weights}")
                     for number in numbers for seed in seeds[number].confirm]
            for method, (_, weights) in METHODS.items()
        },
        "runs": len(tried) + len(again),
    }  # fmt: skip
    print(json.dumps(result))
