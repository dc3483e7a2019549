"""The answers of the atlas in words and tables, as Markdown."""

import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from study.atlas.advice import Validation, validate
from study.atlas.answers import (
    METHODS,
    Moderation,
    beside_decay,
    distribution,
    moderation_by_factors,
    moderation_by_features,
    rule,
    suspicions,
)
from study.atlas.cells import FEATURES_OF_CELLS, cell_gains
from study.atlas.claims import claims_held
from study.atlas.frames import PARTS, load_gains, load_trials
from study.atlas.transfer import picked_starts, transfer
from study.atlas.words import estimated, interval, number, table, with_interval
from study.stats.clustered import MIN_TASKS

_MOST_PICKED = 4


def answers(folder: Path = PARTS) -> str:
    """Return all that the atlas says, as Markdown.

    Raises:
        PartError: a file in the folder is no part.
    """
    gains, trials = load_gains(folder), load_trials(folder)
    if gains.empty:
        return "There is no part yet.\n"
    return "\n".join(
        f"### {title}\n{table}"
        for title, table in (
            ("How large are the gains?", _distributions(gains)),
            ("What do they move with?", _by_factors(gains)),
            ("Do features of the baseline tell?", _by_features(gains)),
            ("What replaces what?", _suspicions(gains)),
            ("Does a gain survive a tuned weight decay?", _beside_decay(gains)),
            ("What does it cost not to tune?", _transfers(gains, trials)),
            ("Published claims", _claims(gains)),
        )
    )


def _distributions(gains: pd.DataFrame) -> str:
    rows = []
    for method in METHODS:
        for budget in ("G", "E"):
            if found := distribution(gains, method, budget):
                typical = found.typical
                domains = ", ".join(f"{name} {number(mean)} ({n})" for name, (mean, n) in found.by_domain.items())
                rows.append(
                    (
                        method, budget, found.cells, found.tasks, with_interval(typical.mean, typical.ci95),
                        interval(typical.prediction95), f"{found.above:.0%}", f"{found.shown:.0%}", f"{found.hurt:.0%}",
                        domains,
                    )
                )  # fmt: skip
    head = (
        "method", "budget", "cells", "tasks", "mean over tasks", "a new problem", "cells ≥ δ", "shown above 0",
        "shown below 0", "by domain (tasks)",
    )  # fmt: skip
    return table(head, rows)


def _by_factors(gains: pd.DataFrame) -> str:
    return _moderations(one for method in METHODS for one in moderation_by_factors(gains, method))


def _by_features(gains: pd.DataFrame) -> str:
    found = _moderations(one for method in METHODS for one in moderation_by_features(gains, method))
    rules = []
    for method in METHODS:
        one = rule(gains, method)
        if one.tasks < MIN_TASKS:
            rules.append(f"{method}: {one.tasks} tasks are too few for a rule.")
        elif not one.reliable:
            rules.append(
                f"{method}: no rule found that predicts tasks it has not seen (R² {one.r2:.2f}, p {one.p:.2g})."
            )
        else:
            leaves = "; ".join(f"{' and '.join(leaf.conditions)}: {number(leaf.gain)}" for leaf in one.leaves)
            rules.append(f"{method}: {leaves} (R² in unseen tasks {one.r2:.2f}, p {one.p:.2g}).")
    return found + "".join(f"\n{line}\n" for line in rules)


def _moderations(some: Iterable[Moderation]) -> str:
    return table(
        ("method", "by", "tasks", "effect", "Holm p", "expected", "seen"),
        (
            (
                one.method, FEATURES_OF_CELLS[one.name][0] if one.measured else one.name, one.tasks,
                with_interval(one.effect, one.ci95), "–" if math.isnan(one.p_holm) else f"{one.p_holm:.2g}",
                one.expected, one.seen,
            )
            for one in some
        ),
    )  # fmt: skip


def _suspicions(gains: pd.DataFrame) -> str:
    return table(
        ("question", "over tasks", "by task"),
        (
            (one.question, estimated(one.found), ", ".join(f"{task} {number(v)}" for task, v in one.by_task.items()))
            for one in suspicions(gains)
        ),
    )


def _beside_decay(gains: pd.DataFrame) -> str:
    return table(
        ("method", "task", "cells", "decay fixed", "decay tuned for all", "difference"),
        (
            (one.method, one.task, one.cells, *map(estimated, (one.fixed, one.searched, one.difference)))
            for method in METHODS
            for one in beside_decay(gains, method)
        ),
    )


def _transfers(gains: pd.DataFrame, trials: pd.DataFrame) -> str:
    rows = []
    for method in ("base", *METHODS):
        if found := transfer(trials, method):
            picked = picked_starts(gains, method).most_common(_MOST_PICKED) if method != "base" else []
            rows.append(
                (
                    method, found.tasks, found.best, estimated(found.fixed), estimated(found.own),
                    estimated(found.chance), ", ".join(f"{name} {count}" for name, count in picked),
                )
            )  # fmt: skip
    head = (
        "method", "tasks", "cheapest setting", "cost of the others' cheapest", "its own", "at random", "picked"
    )  # fmt: skip
    return table(head, rows)


def _claims(gains: pd.DataFrame) -> str:
    return table(("claim", "outcome", "shown by"), ((one.claim, one.outcome, one.shown) for one in claims_held(gains)))


def validation_table(folder: Path = PARTS) -> str:
    """Return how good the advice is for tasks that are left out, as Markdown; one sentence where tasks are too few."""
    gains = load_gains(folder)
    found = [one for method in METHODS if (one := validate(method, cell_gains(gains, method)))]
    if not found:
        count = gains["task"].nunique() if "task" in gains else 0
        return f"The atlas has {count} tasks; to validate advice takes at least {MIN_TASKS + 1}.\n"
    head = ("method", "tasks", "cells", "error", 'error of "always the mean"', "coverage of 80 % intervals", "skill")
    return table(head, map(_validated, found))


def _validated(one: Validation) -> tuple[object, ...]:
    return (
        one.method, one.tasks, one.cells, f"{one.error:.4f}", f"{one.error_of_mean:.4f}", f"{one.coverage:.0%}",
        "some" if one.skilled else "none",
    )  # fmt: skip
