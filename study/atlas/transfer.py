"""What a fixed configuration costs: the trials of the atlas, whose proposals all of its cells share.

Costs are on validation, and what they are held against is the best of a replicate's trials, which noise flatters: so
they are too large rather than too small, for a fixed configuration and for a random one alike.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from study.atlas.cell_means import rows_of
from study.atlas.markdown import Row, estimated
from study.specs.methods import FAMILIES, METHODS
from study.stats import estimate

_READS = {  # whether the trajectory is perturbed, and what is read of it
    "base": (False, ("last", "best")),
    "SWA": (False, ("last", "best", "swa")),
    "EMA": (False, ("last", "best", "ema")),
    "SAM": (True, ("last", "best")),
    "WASAM": (True, ("last", "best", "swa")),
}
_MOST_PICKED = 4
_RATES, _RADII = (0.01, 0.0368, 0.136, 0.5), (0.02, 0.0684, 0.234, 0.8)  # thirds of the ranges on a log scale


def transfer(gains: pd.DataFrame, trials: pd.DataFrame, method: str) -> Iterator[Row]:
    """Yield the row that says what it costs a method, or the ``base``, not to tune; none without trials.

    It names the setting that costs least over all tasks. Costs are of that which costs least on the other tasks, task
    by task; of that which costs least on the task itself, which was chosen on what it is judged by; and of a setting
    drawn at random.
    """
    costs = costs_of(trials, method)
    if costs.empty:
        return
    others = [costs.drop(index=task) if len(costs) > 1 else costs for task in costs.index]
    fixed = [float(costs[rest.mean().idxmin()].loc[task]) for task, rest in zip(costs.index, others, strict=True)]
    picked = Counter(map(_without_digits, rows_of(gains, method, "G")["weights"])).most_common(_MOST_PICKED)
    yield {
        "method": method,
        "tasks": len(costs),
        "cheapest setting": str(costs.mean().idxmin()),
        "cost of the others' cheapest": estimated(estimate(fixed)),
        "its own": estimated(estimate(costs.min(axis=1).to_list())),
        "at random": estimated(estimate(costs.mean(axis=1).to_list())),
        "weights picked": ", ".join(f"{name} {count}" for name, count in picked),
    }


def _without_digits(weights: str) -> str:
    kind, at, value = weights.partition("@")
    return f"{kind}@{float(value):.1f}" if at and kind == "swa" else weights


def costs_of(trials: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the mean cost of every setting that all tasks have tried, ``(tasks, settings)``.

    A setting is a third of the learning rate's range (of AdamW's, in units of its scale), and of a perturbed method a
    third of the radius's or 0. Costs are in the score's unit, a mean over cells and then over the cells of a task, at
    equal epochs; parts whose weight decay was searched are left out.
    """
    perturbed, reads = _READS[method]
    kept = trials[(trials["perturbed"] == perturbed) & (trials["length"] == 1) & ~trials["searched_decay"].astype(bool)]
    values = kept[[*reads]].astype(float).max(axis=1)
    cost = values.groupby([kept["part"], kept["cell"], kept["replicate"]]).transform("max") - values
    scale = kept["base"].map(lambda name: FAMILIES[METHODS[str(name)].family].learning_rate_scale).astype(float)
    setting = "rate " + _thirds(kept["learning_rate"] / scale, _RATES)
    if perturbed:
        setting = setting + ", rho " + _thirds(kept["rho"], _RADII)
    by_cell = cost.groupby([kept["task"], kept["part"] + " " + kept["cell"], setting.rename("setting")]).mean()
    return by_cell.groupby(level=["task", "setting"], sort=False).mean().unstack("setting").dropna(axis=1)


def _thirds(values: pd.Series, ends: Sequence[float]) -> pd.Series:
    """Return in words which third of a range a value lies in; 0 is a third of its own."""
    names = {place: f"{low:.2g} to {high:.2g}" for place, (low, high) in enumerate(itertools.pairwise(ends))}
    places = np.searchsorted(ends[1:-1], values.to_numpy(dtype=float), side="right")
    return pd.Series([names[int(place)] for place in places], values.index).where(values > 0, "0")
