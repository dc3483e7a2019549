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

from study.driver.conduct import EngineOptions, conclude, draw_landscapes, engine, is_complete, train
from study.driver.messages import Say
from study.driver.resume import find_data, has_runs_left, opened
from study.files import write_atomically
from study.findings.content import Outcome
from study.specs.spec import StudySpec, parse_spec, suite_specs
from study.store.results import Study


def specs_of(suite: str) -> dict[str, tuple[StudySpec, str]]:
    """Return the specs of a suite (one of `study.specs.spec.SUITES`) with their texts, by name."""
    return {name: (parse_spec(text, name), text) for name, text in suite_specs(suite).items()}


def run_suite(
    suite: str,
    folder: Path,
    asked: EngineOptions,
    *,
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
    specs = specs_of(suite)
    for name, (spec, _) in specs.items():
        if has_runs_left(spec, folder / name, fresh=fresh):
            find_data(spec)
    with ExitStack() as stack:
        held = {
            name: stack.enter_context(
                opened(spec, text, folder / name, fresh=fresh, retry_failed=retry_failed, say=lambda _: None)
            )
            for name, (spec, text) in specs.items()
        }
        unfinished = {name: study for name, study in held.items() if not is_complete(study)}
        if unfinished:
            tasks = dict.fromkeys(task for study in unfinished.values() for task in study.agenda.tasks)
            with engine(asked, say, tasks) as session:
                for name, study in unfinished.items():
                    say(f"{name}: {study.spec.question}")
                    train(study, session, console=console, quiet=quiet)
                    draw_landscapes(study, session)
        studies = [conclude(study.folder) for study in held.values()]
        write_atomically(folder / f"{suite}.csv", outcome_table(studies).to_csv(index=False))
    return studies


def format_table(table: pd.DataFrame) -> str:
    """Format a table for a terminal: four decimals, a dash where there is no number."""
    if table.empty:
        return "(nothing measured yet)"
    return table.to_string(index=False, na_rep="–", float_format=lambda value: f"{value:.4f}")


def outcome_table(studies: Iterable[Study]) -> pd.DataFrame:
    """Return one row per hypothesis: claim, what was expected, what was found, and at what cost."""
    return pd.DataFrame(
        [
            {
                "study": study.spec.name.removeprefix("claim-"),
                "claim": result.claim,
                "expected": result.expected,
                "outcome": result.outcome,
                "estimate": result.mean,
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
