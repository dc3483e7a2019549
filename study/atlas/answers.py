"""What the atlas says: how large gains are, what they move with, and what of it had been expected.

Tasks are the sample: cells of one task are repeated measures. Every answer says "not seen" where it sees nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import pandas as pd
from scipy.stats import t

from study.atlas.adding import short
from study.atlas.cell_means import METHODS, VARIED, cell_means, rows_of
from study.atlas.features import FEATURES
from study.atlas.markdown import Row, estimated
from study.atlas.verdicts import ALPHA, DELTA, verdicts
from study.specs.budgets import Budget
from study.specs.spec import parse_spec, suite_specs
from study.stats import ModeratorRule, RandomEffects, estimate, holm, moderator_rule, random_effects
from study.stats.clustered import slopes_within
from study.stats.designs import NEGLIGIBLE
from study.stats.estimates import Estimate

Seen = Literal["as expected", "the opposite", "seen", "not seen", "too few tasks"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How large a method's gains are over the cells of the atlas.

    Attributes:
        method, budget: Whose.
        cells: How many.
        by_task: Mean gain of each task, and its kind of data.
        typical: Over tasks, by random effects: mean, its interval, and where a new problem lies.
        p_holm: Of that mean, over the methods of the budget; NaN below two tasks.
        crossed: The mean against the baseline that the other replicates call the strongest.
        above: Share of the cells whose mean gain is at least δ; noise alone lifts some of them over it.
        verdicts: How many cells each has.
    """

    method: str
    budget: Budget
    cells: int
    by_task: Mapping[str, tuple[float, str]]
    typical: RandomEffects
    p_holm: float
    crossed: float
    above: float
    verdicts: Mapping[str, int]

    @property
    def by_domain(self) -> dict[str, list[float]]:
        """The means of the tasks of each kind of data."""
        kinds = dict.fromkeys(domain for _, domain in self.by_task.values())
        return {kind: [mean for mean, domain in self.by_task.values() if domain == kind] for kind in kinds}


def distributions(gains: pd.DataFrame, budget: Budget = "G") -> list[Distribution]:
    """Return how large the gains of each method are that has any cell.

    The error of a task's mean is that over its replicates, of their means over cells: cells share a replicate's split.
    """
    found = []
    for method in METHODS:
        cells, rows = cell_means(gains, method, budget), rows_of(gains, method, budget)
        if cells.empty:
            continue
        tasks = cells.groupby("task", sort=False).agg({"gain": "mean", "crossed": "mean", "domain": "first"})
        of_replicates = rows.groupby(["task", "replicate"], sort=False)["gain"].mean()
        variances = of_replicates.groupby("task", sort=False).sem() ** 2
        typical = random_effects(tasks["gain"].to_list(), variances.to_list())
        found.append(
            Distribution(
                method, budget, len(cells),
                {str(task): (gain, domain) for task, gain, domain in tasks[["gain", "domain"]].itertuples()},
                typical, float(2 * t.sf(abs(typical.mean) / typical.error, len(tasks) - 1)),
                random_effects(tasks["crossed"].to_list(), variances.to_list()).mean,
                float((cells["gain"] >= DELTA).mean()), Counter(verdicts(rows, budget).values()),
            )
        )  # fmt: skip
    adjusted = holm([one.p_holm for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]


@dataclass(frozen=True, slots=True)
class Moderation:
    """What a gain moves with, over the cells within their tasks.

    Attributes:
        method: Whose gain, at equal ceilings.
        name: Of the factor, or of what was measured on the baseline.
        by_task: Effect within each task in which it varies: the sample.
        effect: From its lower to its upper level; of something measured, for one standard deviation within tasks.
        ci95: With the tasks as units; NaN with fewer than five. p_holm: likewise, over the table that it stands in.
        expected: The sign that was named before the first run, or "".
        seen: What became of it.
    """

    method: str
    name: str
    by_task: Mapping[str, float]
    effect: float
    ci95: tuple[float, float]
    p_holm: float
    expected: str = ""
    seen: Seen = "not seen"


def moderation_by_factors(gains: pd.DataFrame, method: str) -> list[Moderation]:
    """Return how a method's gain moves with each factor that varies within some task.

    Designs are half fractions, in which factors do not disturb each other: each is read alone. The gain is that over
    the baseline that the other replicates call the strongest: chance lowers the other one more, the noisier a cell is.
    """
    cells = cell_means(gains, method)
    varied = [name for name in VARIED if cells[f"level {name}"].notna().any()]
    found = [_moderation(method, name, cells, cells[f"level {name}"], "crossed") for name in varied]
    return _judged(replace(one, expected=expectations().get((one.name, method), "")) for one in found)


def moderation_by_features(gains: pd.DataFrame, method: str) -> list[Moderation]:
    """Return how a method's gain moves with what was measured on the baseline of the other replicates."""
    cells = cell_means(gains, method)
    found = []
    for name in FEATURES:
        apart = cells[name] - cells.groupby("task")[name].transform("mean")
        spread = math.sqrt((apart**2).mean()) if apart.notna().any() else 0.0
        if spread > 0:
            found.append(_moderation(method, name, cells, cells[name] / spread, "crossed_even"))
    return _judged(found)


def _moderation(method: str, name: str, cells: pd.DataFrame, values: pd.Series, gain: str) -> Moderation:
    having = cells.assign(value=values)[values.notna()]
    own = having[["value", gain]] - having.groupby("task")[["value", gain]].transform("mean")
    own["value"] = own["value"].where(own["value"].abs() > NEGLIGIBLE * own["value"].abs().max(), 0.0)  # but rounding
    products = (
        pd.DataFrame({"top": own["value"] * own[gain], "bottom": own["value"] ** 2}).groupby(having["task"]).sum()
    )
    varying = products[products["bottom"] > 0]
    (slope,) = slopes_within(having[gain].to_list(), [having["value"].to_list()], having["task"].to_list())
    effect = float(varying["top"].sum() / varying["bottom"].sum()) if len(varying) else math.nan
    return Moderation(method, name, dict(varying["top"] / varying["bottom"]), effect, slope.ci95, slope.p)


def _judged(rows: Iterable[Moderation]) -> list[Moderation]:
    found = list(rows)
    adjusted = [replace(one, p_holm=p) for one, p in zip(found, holm([one.p_holm for one in found]), strict=True)]
    return [replace(one, seen=seen(one)) for one in adjusted]


def seen(one: Moderation) -> Seen:
    """Return what became of an expected sign, "" for none and "0" for no effect as large as δ."""
    if math.isnan(one.p_holm):
        return "too few tasks"
    if one.expected == "0" and one.ci95[0] > -DELTA and one.ci95[1] < DELTA:
        return "as expected"
    if one.p_holm >= ALPHA:
        return "not seen"
    if not one.expected:
        return "seen"
    return "as expected" if one.expected == ("+" if one.effect > 0 else "-") else "the opposite"


@cache
def expectations() -> Mapping[tuple[str, str], str]:
    """Return the signs that the parts' specs name, by factor and method whatever its base optimizer.

    Of the base optimizer, which no spec varies, nothing is expected: no published comparison holds all else fixed.
    """
    return {
        (one.factor, short(one.method)): one.expected
        for name, text in suite_specs("atlas").items()
        for one in parse_spec(text, name).hypotheses
        if one.kind in ("slope", "contrast")
    }


def rule(gains: pd.DataFrame, method: str) -> ModeratorRule:
    """Return the exploratory rule on what was measured, if one predicts tasks that it has not seen; else none."""
    cells = cell_means(gains, method)
    shared = cells[[name for name in FEATURES if cells[name].notna().all()]]
    settings = [{str(name): float(value) for name, value in row.items()} for row in shared.to_dict("records")]
    return moderator_rule(method, "G", settings, cells["crossed_even"].to_list(), cells["task"].to_list())


@dataclass(frozen=True, slots=True)
class Question:
    """A difference of gains: ``by_task`` holds what ``found``, which is over tasks, is made of."""

    words: str
    by_task: Mapping[str, float]

    @property
    def found(self) -> Estimate:
        """The mean over tasks."""
        return estimate(list(self.by_task.values()))


def question(words: str, cells: pd.DataFrame, differences: pd.Series) -> Question:
    """Return a question to which every cell has an answer: a task's is their mean."""
    by_task = differences.groupby(cells["task"], sort=False).mean().dropna()
    return Question(words, {str(task): float(mean) for task, mean in by_task.items()})


def replacements(gains: pd.DataFrame) -> list[Question]:
    """Return what became of the two suspicions: that averaging replaces decay, and SAM early stopping.

    Both are about gains at equal epochs. *Averaging replaces decay*: its gain over last weights, at a constant rate
    minus at one annealed to 0. *SAM replaces early stopping*: what of its gain over last weights is gone where the
    baseline keeps its best epoch, in cells with wrong labels. Of both, what is left over that baseline. Last `longer`.
    """
    swa, sam = (cell_means(gains, method, "E") for method in ("SWA", "SAM"))
    noisy = sam[sam["level label_noise"] == 1]
    constant = "SWA over {} weights at equal epochs: at a constant rate minus at one annealed to 0"
    with_noise = "SAM with wrong labels at equal epochs: {}"
    return [
        *(
            Question(constant.format(words), _moderation("SWA", "schedule", swa, swa["level schedule"], over).by_task)
            for words, over in (("last", "over_last"), ("the best", "over_best"))
        ),
        question(
            with_noise.format("what of its gain is gone where the baseline keeps its best epoch"),
            noisy,
            noisy["over_last"] - noisy["over_best"],
        ),
        question(with_noise.format("its gain over a baseline that keeps its best epoch"), noisy, noisy["over_best"]),
        longer(gains),
    ]


def longer(gains: pd.DataFrame) -> Question:
    """Return what twice the epochs give the baseline's best epoch: what SAM's cost would buy instead.

    It is SAM's gain at equal epochs minus that at twice the baseline's, and like is held against like: the strongest of
    more baselines is stronger by chance alone.
    """
    cells = cell_means(gains, "SAM")
    words = "twice the epochs instead of SAM: what they give the baseline's best epoch"
    return question(words, cells, cells["over_best"] - cells["over_best_longer"])


def beside_decay(gains: pd.DataFrame, method: str) -> Iterator[Row]:
    """Yield a row for each task that was studied with the weight decay fixed, and tuned for all methods.

    It has the method's mean gain over the cells both ways, and their difference, with intervals over replicates.
    """
    rows = gains[(gains["method"] == method) & (gains["budget"] == "G")]
    both = rows.pivot_table("gain", ["task", "cell", "replicate"], "searched_decay").reindex(columns=[False, True])
    for task, pairs in both.dropna().groupby("task"):
        fixed, searched = (pairs.groupby("replicate")[kind].mean() for kind in (False, True))
        yield {
            "method": method,
            "task": str(task),
            "cells": pairs.index.unique("cell").size,
            "decay fixed": estimated(estimate(fixed.to_list())),
            "decay tuned for all": estimated(estimate(searched.to_list())),
            "difference": estimated(estimate((searched - fixed).to_list())),
        }
