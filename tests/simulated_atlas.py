"""Simulated atlases: frames of gains and of trials, with effects that are known."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.atlas.cells import METHODS
from study.atlas.frames import OVER
from study.atlas.part import GAINS

TASKS = ("digits", "mnist1d", "letters", "dna", "vowel", "communities")
DOMAINS = dict(zip(TASKS, ("images", "signals", "tables", "sequences", "signals", "graphs"), strict=True))
FACTORS: dict[str, tuple[Any, Any]] = {
    "label_noise": (0.0, 0.3), "schedule": ("cosine", "constant"), "train_size": (300, 1000), "width": (0.5, 2.0),
}  # fmt: skip
NOISE = 0.004


def simulated(
    *, seed: int = 0, tasks: tuple[str, ...] = TASKS, by_task: float = 0.003, effects: dict[str, float] | None = None,
    by_feature: float = 0.0, mean: float = 0.01, early_stopping: float = 0.05, decay: float = 0.0,
    searched: bool = False, methods: Sequence[str] = METHODS,
) -> pd.DataFrame:  # fmt: skip
    """Make a frame of gains: half of a two-level design for each task, eight replicates.

    Args:
        seed: Of all noise.
        tasks: Their names.
        by_task: Deviation of gains between tasks.
        effects: On every method's gain, from the lower to the upper level of a factor.
        by_feature: On it, of a feature (`score_gap`) that moves from cell to cell.
        mean: Gain of all methods.
        early_stopping: What the best epoch is worth with wrong labels, and `decay` what a constant rate costs.
        searched: Mark the weight decay as searched.
        methods: Whose gains.
    """
    rng = np.random.default_rng(seed)
    half = [levels for levels in itertools.product((0, 1), repeat=4) if sum(levels) % 2 == 0]
    rows = []
    for task in tasks:
        of_task = by_task * rng.standard_normal()
        for levels in half:
            at = dict(zip(FACTORS, levels, strict=True))
            feature = rng.standard_normal()
            true = mean + of_task + by_feature * feature
            true += sum(size * at[name] for name, size in (effects or {}).items())
            for replicate, method, budget in itertools.product(range(1, 9), methods, ("E", "G")):
                gain = true + NOISE * rng.standard_normal()
                last = gain + early_stopping * at["label_noise"] + decay * at["schedule"]
                over = dict(zip(OVER, (last, gain, last + 0.01, gain + 0.001), strict=True))
                if budget == "E":
                    over |= {"over_last_longer": math.nan, "over_best_longer": math.nan}
                rows.append(
                    dict.fromkeys(GAINS, 1.0)
                    | {name: FACTORS[name][at[name]] for name in FACTORS}
                    | {
                        "part": f"atlas-{task}", "task": task, "domain": DOMAINS[task], "base": "SGD",
                        "searched_decay": searched, "cell": f"{task} {levels}", "replicate": replicate,
                        "method": method, "budget": budget, "baseline": "over_best", "gain": gain, "batch_size": 50,
                        "score_gap": feature, "weights": "swa@0.7512", **over,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def simulated_trials(*, seed: int = 0, best_rate: float = 0.08, rho_helps: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for base, task in (("SGD", "digits"), ("AdamW", "characters"), ("SGD", "dna")):
        scale = 1.0 if base == "SGD" else 0.04
        for cell, replicate, trial in itertools.product("ab", range(1, 9), range(6)):
            rate = float(np.exp(rng.uniform(np.log(0.01), np.log(0.5))))
            rho = 0.0 if trial == 0 else float(np.exp(rng.uniform(np.log(0.02), np.log(0.8))))
            value = 0.9 - 0.05 * abs(np.log(rate / best_rate)) + (0.02 if rho_helps and rho > 0.234 else 0.0)
            rows.append(
                {
                    "part": task, "task": task, "base": base, "searched_decay": False, "cell": cell,
                    "replicate": replicate, "perturbed": True, "length": 1.0, "trial": trial,
                    "learning_rate": rate * scale, "rho": rho, "last": value - 0.01, "best": value,
                    "swa": value + 0.001, "ema": math.nan,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
