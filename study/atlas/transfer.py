"""What a fixed configuration costs: the trials of the atlas, whose proposals all of its cells share.

Costs are on validation, and what they are held against is the best of a replicate's trials, which noise flatters: so
they are too large rather than too small, for a fixed configuration and for a random one alike.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.findings.evidence import mean_known
from study.specs.methods import FAMILIES, METHODS
from study.stats import estimate
from study.stats.estimates import Estimate

_READS = {  # whether the trajectory is perturbed, and what is read of it
    "base": (False, ("last", "best")),
    "SWA": (False, ("last", "best", "swa")),
    "EMA": (False, ("last", "best", "ema")),
    "SAM": (True, ("last", "best")),
    "WASAM": (True, ("last", "best", "swa")),
}
_RATES, _RADII = (0.01, 0.0368, 0.136, 0.5), (0.02, 0.0684, 0.234, 0.8)  # thirds of the ranges on a log scale


@dataclass(frozen=True, slots=True)
class Transfer:
    """What it costs a method not to tune.

    Attributes:
        method: Whose; ``base`` is the baseline.
        tasks: How many.
        best: The setting that costs least over all tasks, in words.
        fixed: Cost of the setting that costs least on the other tasks, task by task.
        own: Cost of the setting that costs least on the task itself: it was chosen on what it is judged by.
        chance: Cost of a setting drawn at random.
        by_setting: Mean cost over tasks.
    """

    method: str
    tasks: int
    best: str
    fixed: Estimate
    own: Estimate
    chance: Estimate
    by_setting: Mapping[str, float]


def transfer(trials: pd.DataFrame, method: str) -> Transfer | None:
    """Return what it costs to train a method in one setting; None without trials at equal epochs.

    A setting is a third of the learning rate's range (of AdamW's, in units of its scale), and of a perturbed method a
    third of the radius's or 0. Costs are in the score's unit, a mean over cells and then over the cells of a task;
    parts whose weight decay was searched are left out.
    """
    costs = _costs(trials, method)
    if not costs:
        return None
    settings = list(dict.fromkeys(key for cost in costs.values() for key in cost))
    shared = [name for name in settings if all(name in cost for cost in costs.values())] or settings
    overall = {name: statistics.fmean(cost[name] for cost in costs.values() if name in cost) for name in shared}
    fixed, own, chance = [], [], []
    for task, cost in costs.items():
        others = [other for name, other in costs.items() if name != task]
        chosen = _cheapest(others or [cost], [name for name in shared if name in cost])
        fixed.append(cost[chosen])
        own.append(min(cost[name] for name in shared if name in cost))
        chance.append(statistics.fmean(cost.values()))
    best = min(overall, key=lambda name: overall[name])
    return Transfer(method, len(costs), best, estimate(fixed), estimate(own), estimate(chance), overall)


def picked_starts(gains: pd.DataFrame, method: str, budget: str = "G") -> Counter[str]:
    """Count what validation picked in the replicates: ``last``, ``best``, or an average's start or decay."""
    kept = gains[(gains["method"] == method) & (gains["budget"] == budget)]
    return Counter(_start(str(weights)) for weights in kept["weights"])


def _start(weights: str) -> str:
    kind, at, value = weights.partition("@")
    return f"{kind}@{float(value):.1f}" if at and kind == "swa" else weights


def _cheapest(costs: Sequence[Mapping[str, float]], names: Sequence[str]) -> str:
    """Return the setting of the lowest mean cost; one that has no cost is not chosen unless there is no other."""
    means = {name: mean_known(cost[name] for cost in costs if name in cost) for name in names}
    return min(names, key=lambda name: (math.isnan(means[name]), means[name]))


def _costs(trials: pd.DataFrame, method: str) -> dict[str, dict[str, float]]:
    """Return the mean cost of every setting by task."""
    perturbed, reads = _READS[method]
    if trials.empty:
        return {}
    kept = trials[(trials["perturbed"] == perturbed) & (trials["length"] == 1) & ~trials["searched_decay"].astype(bool)]
    if kept.empty:
        return {}
    values = kept[[*reads]].max(axis=1)
    cost = values.groupby([kept["part"], kept["cell"], kept["replicate"]]).transform("max") - values
    scale = kept["base"].map(lambda name: FAMILIES[METHODS[str(name)].family].learning_rate_scale)
    rate = _thirds(kept["learning_rate"] / scale, _RATES)
    setting = "rate " + rate
    if perturbed:
        setting = setting + ", rho " + _thirds(kept["rho"], _RADII)
    by_cell = cost.groupby([kept["task"], kept["part"] + " " + kept["cell"], setting]).mean()
    by_task = by_cell.groupby(level=[0, 2]).mean()
    found: dict[str, dict[str, float]] = {}
    for task, name, value in by_task.reset_index().itertuples(index=False):
        found.setdefault(str(task), {})[str(name)] = float(value)
    return found


def _thirds(values: pd.Series, ends: Sequence[float]) -> pd.Series:
    """Return in words which third of a range a value lies in; 0 is a third of its own."""
    names = {place: f"{low:.2g} to {high:.2g}" for place, (low, high) in enumerate(itertools.pairwise(ends))}
    places = np.searchsorted(ends[1:-1], values.to_numpy(), side="right")
    return pd.Series([names[int(place)] for place in places], values.index).where(values > 0, "0")
