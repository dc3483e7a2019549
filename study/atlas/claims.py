"""Published claims held against the atlas: it agrees, disagrees, can't decide, or has not tested them."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from study.atlas.answers import DELTA, Moderation, Suspicion, moderation_by_factors, suspicions
from study.atlas.cells import by_task, cell_gains
from study.atlas.words import estimated, with_interval
from study.specs.spec import parse_spec, suite_specs
from study.stats import estimate
from study.stats.clustered import MIN_TASKS
from study.stats.estimates import Estimate

Outcome = Literal["agrees", "disagrees", "undecided", "not tested"]
_UNTESTED = "the atlas varies nothing that it is about"


@dataclass(frozen=True, slots=True)
class Held:
    """A published claim, by its number in the suite ``claims``, and what became of it here; ``shown`` says by what."""

    number: int
    claim: str
    outcome: Outcome
    shown: str


def claims_held(gains: pd.DataFrame) -> list[Held]:
    """Return what the atlas says of every claim of the suite ``claims``, in its order."""
    found = []
    for name, text in suite_specs("claims").items():
        number = int(name.partition("-")[0])
        judge = _JUDGES.get(number)
        outcome, shown = judge(gains) if judge else ("not tested", _UNTESTED)
        found.append(Held(number, parse_spec(text, name).question, outcome, shown))
    return found


def _by_factor(factor: str, method: str) -> Callable[[pd.DataFrame], tuple[Outcome, str]]:
    def judge(gains: pd.DataFrame) -> tuple[Outcome, str]:
        known = {one.name: one for one in moderation_by_factors(gains, method)}
        return _of_moderation(known.get(factor), factor, method)

    return judge


def _of_moderation(one: Moderation | None, factor: str, method: str) -> tuple[Outcome, str]:
    if one is None:
        return "undecided", f"no task has two levels of {factor} yet"
    outcomes: dict[str, Outcome] = {"as expected": "agrees", "the opposite": "disagrees"}
    shown = f"{method} by {factor}: {with_interval(one.effect, one.ci95)} over {one.tasks} tasks"
    return outcomes.get(one.seen, "undecided"), shown


def _averaging(gains: pd.DataFrame) -> tuple[Outcome, str]:
    return _of_difference(suspicions(gains)[0])


def _early_stopping(gains: pd.DataFrame) -> tuple[Outcome, str]:
    return _of_difference(suspicions(gains)[2])


def _of_difference(one: Suspicion) -> tuple[Outcome, str]:
    return _positive(one.found), f"{one.question}: {_words(one.found)}"


def _worse_of_two(gains: pd.DataFrame) -> tuple[Outcome, str]:
    """Hold WASAM against the smaller of the gains of SWA and SAM, task by task."""
    names = ("SWA", "SAM", "WASAM")
    cells = {name: {(one.part, one.cell): one for one in cell_gains(gains, name)} for name in names}
    shared = [key for key in cells["WASAM"] if key in cells["SWA"] and key in cells["SAM"]]
    gaps = [cells["WASAM"][key].gain - min(cells["SWA"][key].gain, cells["SAM"][key].gain) for key in shared]
    if not gaps:
        return "undecided", "no cell yet"
    tasks: dict[str, list[float]] = {}
    for key, gap in zip(shared, gaps, strict=True):
        tasks.setdefault(cells["WASAM"][key].task, []).append(gap)
    found = estimate([statistics.fmean(some) for some in tasks.values()])
    share = sum(gap >= -DELTA for gap in gaps) / len(gaps)
    shown = f"WASAM minus the worse of SWA and SAM: {_words(found)}; not below it by δ in {share:.0%} of cells"
    if found.n < MIN_TASKS:
        return "undecided", shown
    return ("agrees" if found.ci90[0] > -DELTA else "disagrees" if found.ci95[1] < -DELTA else "undecided"), shown


def _equal_compute(gains: pd.DataFrame) -> tuple[Outcome, str]:
    """Hold SAM's gain at equal epochs against that at equal ceilings, task by task."""
    sides = [by_task(cell_gains(gains, "SAM", budget)) for budget in ("E", "G")]
    means = [{task: statistics.fmean(one.gain for one in some) for task, some in side.items()} for side in sides]
    found = estimate([means[0][task] - means[1][task] for task in means[0]])
    return _positive(found), f"SAM's gain at equal epochs minus that at equal ceilings: {_words(found)}"


def _positive(found: Estimate) -> Outcome:
    if found.n < MIN_TASKS:
        return "undecided"
    return "agrees" if found.ci95[0] > 0 else "disagrees" if found.ci90[1] < DELTA else "undecided"


def _words(found: Estimate) -> str:
    return f"{estimated(found)} over {found.n} tasks"


_JUDGES: dict[int, Callable[[pd.DataFrame], tuple[Outcome, str]]] = {
    1: _by_factor("label_noise", "SAM"),
    2: _averaging,
    5: _worse_of_two,
    9: _by_factor("augmentation", "SAM"),
    10: _by_factor("epochs", "SAM"),
    12: _equal_compute,
    13: _early_stopping,
}
