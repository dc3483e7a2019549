"""Simulated atlases: frames of gains and of trials, with effects that are known."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.atlas.cell_means import METHODS
from study.atlas.columns import GAINS, TRIALS
from study.atlas.frames import OVER, over_strongest
from study.atlas.part import Facts, Part, write_part
from study.specs.spec import builtin_specs, parse_spec

TASKS = ("digits", "mnist1d", "letters", "dna", "vowel", "communities")
DOMAINS = dict(zip(TASKS, ("images", "signals", "tables", "sequences", "signals", "graphs"), strict=True))
FACTORS: dict[str, tuple[Any, Any]] = {
    "label_noise": (0.0, 0.3), "schedule": ("cosine", "constant"), "train_size": (300, 1000), "width": (0.5, 2.0),
}  # fmt: skip
NOISE = 0.004


def simulated(
    *, seed: int = 0, tasks: tuple[str, ...] = TASKS, by_task: float = 0.003, effects: dict[str, float] | None = None,
    by_feature: float = 0.0, mean: float = 0.01, early_stopping: float = 0.05, decay: float = 0.0,
    longer: float = -0.001, searched: bool = False, methods: Sequence[str] = METHODS,
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
        longer: What training twice as long is worth to the baseline's best epoch.
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
                over = dict(zip(OVER, (last, gain, last + 0.01, gain - longer), strict=True))
                if budget == "E":
                    over |= {"over_last_longer": math.nan, "over_best_longer": math.nan}
                rows.append(
                    dict.fromkeys(GAINS, 1.0)
                    | {name: FACTORS[name][at[name]] for name in FACTORS}
                    | {
                        "part": f"atlas-{task}", "seed": 0, "task": task, "base": "SGD",
                        "domain": DOMAINS.get(task, "tables"), "searched_decay": searched, "replicate": replicate,
                        "cell": f"{task} {levels}", "method": method, "budget": budget, "score": 0.8 + gain,
                        "off": False, "batch_size": 50, "score_gap": feature, "weights": "swa@0.7512", **over,
                    }
                )  # fmt: skip
    return over_strongest(pd.DataFrame(rows))


def write_simulated(folder: Path, *, study_seed: int = 0, **settings: Any) -> Path:
    """Write a simulated atlas as a folder of parts, and return it; its trials are those of one task."""
    text = builtin_specs()["atlas/digits"].replace("alpha = 0.05", f"alpha = 0.05\nseed = {study_seed}")
    trials = simulated_trials()
    for part, rows in simulated(**settings).groupby("part"):
        task, spec = str(rows["task"].iloc[0]), text.replace("atlas-digits", str(part))
        cells = rows.drop_duplicates("cell").set_index("cell")
        facts = Facts(
            name=str(part), spec=spec, spec_hash=parse_spec(spec, task).hash, base="SGD",
            cells=cells[[*FACTORS, "batch_size"]].to_dict("index"), tasks=dict.fromkeys(cells.index, task),
            domains={task: DOMAINS[task]}, metrics={task: "accuracy"}, origins={task: "made here"},
            versions={"torch": "2"}, devices=("cpu",), runs=1000, diverged=0, gradient_evaluations=10**6,
        )  # fmt: skip
        own = trials[trials["task"] == "digits"].assign(cell=cells.index[0], weight_decay=0.0, diverged=False)
        both = pd.concat([own, own.assign(perturbed=False, ema=own["swa"])])
        write_part(Part(facts, rows[[*GAINS]], both.assign(average_start=0.5)[[*TRIALS]]), folder)
    return folder


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
