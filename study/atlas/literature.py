"""Published claims held against the atlas: it agrees, disagrees, can't decide, or has not tested them."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import pandas as pd

from study.atlas.answers import Question, longer, moderation_by_factors, question, replacements
from study.atlas.cell_means import rows_of
from study.atlas.frames import least_elsewhere
from study.atlas.markdown import Gain, Row, estimated
from study.atlas.verdicts import DELTA
from study.specs.spec import parse_spec, suite_specs
from study.stats.clustered import MIN_TASKS
from study.stats.estimates import Estimate

Outcome = Literal["agrees", "disagrees", "undecided", "not tested"]
_Held = tuple[Outcome, str, Gain, int]  # what became of a claim; by what that is shown: in words, over so many tasks
_UNTESTED: _Held = ("not tested", "the atlas varies nothing that it is about", Gain(math.nan), 0)


def published_claims(gains: pd.DataFrame) -> Iterator[Row]:
    """Yield what the atlas says of every claim of the suite ``claims``, in its order."""
    for name, text in suite_specs("claims").items():
        judge = _JUDGES.get(int(name.partition("-")[0]))
        outcome, shown, mean, tasks = judge(gains) if judge else _UNTESTED
        claim = parse_spec(text, name).question
        yield {"claim": claim, "outcome": outcome, "shown by": shown, "over tasks": mean, "tasks": tasks}


def _by_factor(factor: str, method: str) -> Callable[[pd.DataFrame], _Held]:
    outcomes: dict[str, Outcome] = {"as expected": "agrees", "the opposite": "disagrees"}

    def judge(gains: pd.DataFrame) -> _Held:
        for one in moderation_by_factors(gains, method):
            if one.name == factor:
                outcome = outcomes.get(one.seen, "undecided")
                return outcome, f"{method}'s gain by {factor}", Gain(one.effect, one.ci95), len(one.by_task)
        return "undecided", f"no task has two levels of {factor} yet", Gain(math.nan), 0

    return judge


def _by_question(
    ask: Callable[[pd.DataFrame], Question], decide: Callable[[Estimate], Outcome]
) -> Callable[[pd.DataFrame], _Held]:
    def judge(gains: pd.DataFrame) -> _Held:
        asked = ask(gains)
        found = asked.found
        outcome = decide(found) if found.n >= MIN_TASKS else "undecided"
        return outcome, asked.words, estimated(found), found.n

    return judge


def _positive(found: Estimate) -> Outcome:
    return "agrees" if found.ci95[0] > 0 else "disagrees" if found.ci90[1] < DELTA else "undecided"


def _not_below(found: Estimate) -> Outcome:
    return "agrees" if found.ci90[0] > -DELTA else "disagrees" if found.ci95[1] < -DELTA else "undecided"


def _above_the_worse(gains: pd.DataFrame) -> Question:
    """Hold WASAM against the worse of SWA and SAM, which the other replicates name: chance makes one of two worse."""
    keys = ["part", "task", "cell", "replicate"]
    rows = pd.concat([rows_of(gains, method, "G") for method in ("SWA", "SAM", "WASAM")])
    scores = rows.pivot_table("score", keys, "method").reindex(columns=["SWA", "SAM", "WASAM"]).dropna().reset_index()
    worse = least_elsewhere(scores[["SWA", "SAM"]], scores, ("part", "cell"))
    return question("WASAM minus the worse of SWA and SAM", scores, scores["WASAM"] - worse)


_JUDGES: dict[int, Callable[[pd.DataFrame], _Held]] = {
    1: _by_factor("label_noise", "SAM"),
    2: _by_question(lambda gains: replacements(gains)[0], _positive),
    5: _by_question(_above_the_worse, _not_below),
    9: _by_factor("augmentation", "SAM"),
    10: _by_factor("epochs", "SAM"),
    12: _by_question(longer, _positive),
    13: _by_question(lambda gains: replacements(gains)[2], _positive),
}
