"""The answers of the atlas as tables, and in three sentences."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from study.atlas.advice import validate
from study.atlas.answers import (
    Distribution,
    Moderation,
    beside_decay,
    distributions,
    longer,
    moderation_by_factors,
    moderation_by_features,
    replacements,
    rule,
)
from study.atlas.cell_means import METHODS, cell_means
from study.atlas.features import FEATURES
from study.atlas.frames import PARTS, facts_of_parts, load_gains, load_trials
from study.atlas.literature import published_claims
from study.atlas.markdown import Answer, Entry, Gain, P, Row, Share, Size, estimated, gain
from study.atlas.replication import replicated
from study.atlas.transfer import transfer
from study.atlas.verdicts import ALPHA
from study.stats.clustered import MIN_TASKS


def answers(folder: Path = PARTS) -> list[Answer]:
    """Return all that the atlas says, a table for each question; nothing without parts.

    Raises:
        PartError: a file in the folder is no part.
    """
    gains, trials = load_gains(folder), load_trials(folder)
    if gains.empty:
        return []
    by_factor, by_feature = (
        [_moderation(one) for method in METHODS for one in of(gains, method)]
        for of in (moderation_by_factors, moderation_by_features)
    )
    found = (*distributions(gains, "G"), *distributions(gains, "E"))
    decays = [row for method in METHODS for row in beside_decay(gains, method)]
    untuned = [row for method in ("base", *METHODS) for row in transfer(gains, trials, method)]
    return [
        Answer("gains", "How large are the gains?", tuple(map(_distribution, found))),
        Answer("factors", "What do they move with?", tuple(by_factor)),
        Answer("features", "Do features of the baseline tell?", tuple(by_feature)),
        Answer("rules", "Is there a rule that holds in tasks it has not seen?", tuple(_rules(gains))),
        Answer("replacements", "What replaces what?", tuple(_replacements(gains))),
        Answer("decay", "Does a gain survive a tuned weight decay?", tuple(decays)),
        Answer("transfer", "What does it cost not to tune?", tuple(untuned)),
        Answer("literature", "Published claims", tuple(published_claims(gains))),
        Answer("replicated", "Run again under another seed, does a part say the same?", tuple(replicated(folder))),
    ]


def _distribution(one: Distribution) -> Row:
    typical, known = one.typical, len(one.by_task) >= MIN_TASKS
    return {
        "method": one.method,
        "budget": one.budget,
        "cells": one.cells,
        "tasks": len(one.by_task),
        "mean over tasks": Gain(typical.mean, typical.ci95),
        "a new problem": Gain(typical.mean, typical.prediction95) if known else "",
        "baseline chosen elsewhere": Gain(one.crossed),
        "cells ≥ δ": Share(one.above),
        "cells it helps": Share(one.verdicts["helps"] / one.cells),
        "cells it hurts": Share(one.verdicts["hurts"] / one.cells),
        "by domain (tasks)": tuple(
            (f"{kind} ({len(means)})", Gain(sum(means) / len(means))) for kind, means in one.by_domain.items()
        ),
    }


def _moderation(one: Moderation) -> Row:
    return {
        "method": one.method,
        "by": FEATURES.get(one.name, one.name),
        "tasks": len(one.by_task),
        "effect": Gain(one.effect, one.ci95),
        "Holm p": P(one.p_holm),
        "expected": one.expected,
        "seen": one.seen,
    }


def _rules(gains: pd.DataFrame) -> Iterator[Row]:
    for method in METHODS:
        one = rule(gains, method)
        leaves = tuple((" and ".join(leaf.conditions), Gain(leaf.gain)) for leaf in one.leaves)
        said: Entry = leaves or ("no rule found" if one.tasks >= MIN_TASKS else "too few tasks")
        r2 = f"{one.r2:.2f}" if one.tasks >= MIN_TASKS else "–"
        yield {"method": method, "tasks": one.tasks, "rule": said, "R² in unseen tasks": r2, "p": P(one.p)}


def _replacements(gains: pd.DataFrame) -> Iterator[Row]:
    for one in replacements(gains):
        by_task = tuple((task, Gain(mean)) for task, mean in one.by_task.items())
        yield {"question": one.words, "over tasks": estimated(one.found), "by task": by_task}


def validation(folder: Path = PARTS) -> Answer:
    """Return how good the advice is for tasks that are left out; the title says so where tasks are too few."""
    gains = load_gains(folder)
    rows: list[Row] = [
        {
            "method": method,
            "tasks": one.tasks,
            "cells": one.cells,
            "error": Size(one.error),
            'error of "always the mean"': Size(one.error_of_mean),
            "p": P(one.p),
            "coverage of 80 % intervals": Share(one.coverage),
            "skill": "shown" if one.skilled else "not shown",
        }
        for method in METHODS
        if (one := validate(cell_means(gains, method)))
    ]
    tasks = cell_means(gains, "SAM")["task"].nunique()
    few = f"The atlas has {tasks} tasks; to validate advice takes at least {MIN_TASKS + 1}."
    return Answer("advice", "How good is the advice for tasks that are left out?" if rows else few, tuple(rows))


def sentences(folder: Path = PARTS, write: Callable[[Gain], str] = gain, unit: str = "in accuracy") -> dict[str, str]:
    """Return what the atlas says in three sentences, each under what it answers; nothing without parts.

    Args:
        folder: Of the parts.
        write, unit: How gains are written, and what they are counted in; by default as fractions of accuracy.
    """
    gains = load_gains(folder)
    if gains.empty:
        return {}
    found = distributions(gains)
    surely = f"{_at_equal_epochs(gains, write)}; {_how_surely(gains, found)}"
    return {"What": _what(found, write, unit), "How surely": surely, "Over what": _over(folder)}


def _what(found: list[Distribution], write: Callable[[Gain], str], unit: str) -> str:
    tasks = len(found[0].by_task)
    shown = {one.method: one.typical.mean > 0 for one in found if one.p_holm < ALPHA}
    gainers, losers = ([method for method, up in shown.items() if up == wanted] for wanted in (True, False))
    said = [
        f"{_listed(names)} {verb}{'s' if len(names) == 1 else ''} on average"
        for names, verb in ((gainers, "gain"), (losers, "lose"))
        if names
    ]
    claim = f"{_listed(said) or 'no method is shown to gain or to lose on average'} (p after Holm)"
    if tasks < MIN_TASKS:
        claim = "mean gains are told but not judged, since so few tasks are no sample"
    return (
        f"Over {tasks} small tasks, against the strongest tuned baseline that up to twice the gradient evaluations "
        f"contain, {claim}: {_means(found, write)} {unit}."
    )


def _at_equal_epochs(gains: pd.DataFrame, write: Callable[[Gain], str]) -> str:
    twice = longer(gains)
    most = max(twice.by_task, key=lambda task: twice.by_task[task])
    return (
        f"At equal epochs the means are {_means(distributions(gains, 'E'), write)}, where twice the epochs give the "
        f"baseline {write(estimated(twice.found))}, with {most} {write(Gain(twice.by_task[most]))}"
    )


def _means(found: list[Distribution], write: Callable[[Gain], str]) -> str:
    return _listed([f"{one.method} {write(Gain(one.typical.mean, one.typical.ci95))}" for one in found])


def _how_surely(gains: pd.DataFrame, found: list[Distribution]) -> str:
    told = ", ".join(f"{one.method} helps {one.verdicts['helps']} and hurts {one.verdicts['hurts']}" for one in found)
    signs = Counter(one.seen for method in METHODS for one in moderation_by_factors(gains, method) if one.expected)
    rules = [method for method in METHODS if rule(gains, method).reliable]
    which = f"a rule for {_listed(rules)} holds" if rules else "no rule is found that holds"
    return (
        f"of {found[0].cells} cells {told}; of {signs.total()} signs that were named before the first run "
        f"{signs['as expected']} are seen, {signs['the opposite']} reversed, {signs['not seen']} not seen, and "
        f"{signs['too few tasks']} have too few tasks; {which} in tasks that it has not seen."
    )


def _over(folder: Path) -> str:
    facts, again = facts_of_parts(folder), list(replicated(folder))
    tasks = {task for one in facts for task in one.domains}
    kinds = dict.fromkeys(kind for one in facts for kind in one.domains.values())
    replicates = sorted({one.asked.replicates for one in facts})
    asked, agree, flip = (sum(int(str(row[name])) for row in again) for name in ("verdicts", "agree", "flip"))
    repeated = (
        f"under another seed {agree} of {asked} verdicts are the same and {flip} turn from helps to hurts or back"
        if again
        else "no part has been run under another seed yet"
    )
    return (
        f"{sum(len(one.cells) for one in facts)} cells of {len(tasks)} small tasks ({_listed([*kinds])}), "
        f"{_listed([*map(str, replicates)])} replicates of the whole procedure each, "
        f"{sum(one.runs for one in facts):,} runs; {repeated}."
    )


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
