"""Suites: small studies that are run together, and one table of what became of their hypotheses.

Of the claims each study is a published claim, of the atlas a task. Each is a built-in spec with its hypotheses named
before its first run; a suite runs them one after the other in one Ray session, each in its own folder, so that it
resumes like any study.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import pandas as pd
from rich.console import Console

from study.driver.conduct import (
    Wishes,
    conclude,
    draw_landscapes,
    engine,
    is_complete,
    train,
)
from study.driver.opening import Say, find_data, has_runs_left, opened
from study.files import write_atomically
from study.findings.content import Outcome
from study.specs.spec import StudySpec, parse_spec, suite_specs
from study.store.results import Study


def specs_of(suite: str, scale: float = 1.0) -> dict[str, tuple[StudySpec, str]]:
    """Return the specs of a suite with their texts, by name.

    Args:
        suite: One of `study.specs.spec.SUITES`.
        scale: Multiplies trials and replicates (rounded, at least 1) for bigger machines; part of the spec's hash.
    """
    return {name: _scaled(parse_spec(text, name), text, scale) for name, text in suite_specs(suite).items()}


def _scaled(spec: StudySpec, text: str, scale: float) -> tuple[StudySpec, str]:
    """Return the spec with scaled numbers, in its text too, since the text is what a folder freezes."""
    for key, value in (("trials", spec.search.trials), ("replicates", spec.replicates)):
        text = text.replace(f"{key} = {value}", f"{key} = {max(1, round(value * scale))}")
    return parse_spec(text, spec.name), text


def run_suite(
    suite: str,
    folder: Path,
    wishes: Wishes,
    *,
    scale: float,
    fresh: bool,
    retry_failed: bool,
    console: Console,
    quiet: bool,
    say: Say,
) -> list[Study]:
    """Run every study of a suite that is not finished, write ``SUITE.csv`` and return the studies in order.

    Raises:
        SpecError: the data of a study that is not finished are missing; nothing is written then.
    """
    specs = specs_of(suite, scale)
    for name, (spec, _) in specs.items():
        if has_runs_left(spec, folder / name, fresh=fresh):
            find_data(spec)
    with ExitStack() as stack:
        homes = {
            name: (
                *stack.enter_context(
                    opened(spec, text, folder / name, fresh=fresh, retry_failed=retry_failed, say=lambda _: None)
                ),
                folder / name,
            )
            for name, (spec, text) in specs.items()
        }
        open_ones = {name: parts for name, parts in homes.items() if not is_complete(parts[2], parts[1])}
        if open_ones:
            tasks = dict.fromkeys(task for _, agenda, _ in open_ones.values() for task in agenda.tasks)
            with engine(wishes, say, tasks) as session:
                for name, (spec, agenda, home) in open_ones.items():
                    say(f"{name}: {spec.question}")
                    train(spec, home, agenda, session, console=console, quiet=quiet)
                    draw_landscapes(home, agenda, session)
        studies = [conclude(home) for _, _, home in homes.values()]
        write_atomically(folder / f"{suite}.csv", outcome_table(studies).to_csv(index=False))
    return studies


def outcome_table(studies: Iterable[Study]) -> pd.DataFrame:
    """Return one row per hypothesis: claim, what was expected, what was found, and at what cost."""
    return pd.DataFrame(
        [
            {
                "study": study.spec.name.removeprefix("claim-"),
                "claim": result.claim,
                "expected": result.expected,
                "outcome": result.outcome,
                "estimate": result.estimate,
                "95% interval": f"[{result.ci95[0]:+.4f}, {result.ci95[1]:+.4f}]",
                "n": result.n,
                "gradient evaluations": sum(record.gradient_evaluations for record in study.records),
            }
            for study in studies
            for result in study.findings.hypotheses
        ]
    )


def claim_table(studies: Iterable[Study]) -> pd.DataFrame:
    """Return one row per study: what became of its claim as a whole, and of the hypotheses that it is made of."""
    return pd.DataFrame(
        [
            {"study": study.spec.name.removeprefix("claim-"), "outcome": overall(outcomes), "hypotheses": len(outcomes)}
            | {name: outcomes.count(name) for name in get_args(Outcome)}
            for study in studies
            for outcomes in [[result.outcome for result in study.findings.hypotheses]]
        ]
    )


def overall(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a claim that is made of several hypotheses: all must stand, and one may fell it."""
    if "contradicted" in outcomes:
        return "contradicted"
    return "reproduced" if outcomes and set(outcomes) == {"reproduced"} else "inconclusive"
