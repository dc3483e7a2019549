"""The question that is put to a table: what was said about it, and what is guessed of the rest."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from study.existing.cells import label_of
from study.existing.columns import Columns, columns_of
from study.existing.reading import Row, Table
from study.existing.runs import Runs, runs_of
from study.existing.scores import Kind, kind_of, metrics_of
from study.existing.trackers import TableError
from study.existing.verdicts import Asked, findings_of
from study.findings import Findings

_BASELINES: Final = {"baseline", "base", "control", "vanilla", "reference", "standard", "plain", "sgd", "adam", "adamw"}
_VALIDATION: Final = ("val", "valid", "validation", "dev")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said about a table; what is "" or empty is guessed.

    Attributes:
        method, problem, seed, score, cost: Names of columns; several methods or problems with commas between them.
        baselines: Whom methods are held against.
        delta: δ in the table's own numbers, or by problem.
        higher_is_better: None reads it off the score's name.
        unit: Of the scores: ``%``, ``fraction``, or what stands behind a number.
        paired: Runs of one seed belong together.
        alpha: Level of a method's family.
    """

    method: str = ""
    problem: str = ""
    seed: str = ""
    score: str = ""
    cost: str = ""
    baselines: tuple[str, ...] = ()
    delta: float | Mapping[str, float] | None = None
    higher_is_better: bool | None = None
    unit: str = ""
    paired: bool = True
    alpha: float = 0.05


def judged(table: Table, options: Options) -> Findings:
    """Return what a table says.

    Raises:
        TableError: what stands in the way of a verdict; one sentence.
    """
    if not 0 < options.alpha < 1:
        raise TableError(f"alpha = {options.alpha:g} was given; a level lies between 0 and 1.")
    columns = columns_of(
        table,
        method=options.method,
        problem=options.problem,
        seed=options.seed,
        score=options.score,
        cost=options.cost,
    )
    runs = runs_of(table, columns, Path(table.name).stem)
    baselines = _baselines(runs, options.baselines)
    _check_problems(options.delta, runs)
    kinds = _kinds(table, columns, runs, options)
    unsaid = {"baseline": not options.baselines, "direction": options.higher_is_better is None,
              "delta": options.delta is None}  # fmt: skip
    guessed = columns.guessed | {role for role, missing in unsaid.items() if missing}
    asked = Asked(runs, kinds, _metric(columns), baselines, options.alpha, options.paired, guessed)
    found = findings_of(asked, table, columns)
    if not found.effects:
        raise TableError(f"no problem has runs of {' or '.join(baselines)} and of another method.")
    return found


def _baselines(runs: Runs, given: Sequence[str]) -> tuple[str, ...]:
    """Return whom methods are held against, as the table writes them."""
    methods = runs.methods
    listed = ", ".join(methods)
    if len(methods) < 2:
        raise TableError(f"{methods[0]} is the only method of the table; there is nothing to hold it against.")
    if not given:
        likely = [name for name in methods if name.lower() in _BASELINES]
        if len(likely) != 1:
            raise TableError(f"which method is the baseline? give --baseline, once for each: {listed}.")
        return tuple(likely)
    found = []
    for name in dict.fromkeys(given):
        alike = [method for method in methods if method.lower() == name.strip().lower()]
        if not alike:
            near = difflib.get_close_matches(name, methods, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TableError(f"--baseline {name} was given, and the table's methods are {listed}{hint}")
        found += alike
    if len(set(found)) == len(methods):
        raise TableError(f"all methods of the table ({listed}) were given as baselines; one is left to be judged.")
    return tuple(dict.fromkeys(found))


def _check_problems(delta: float | Mapping[str, float] | None, runs: Runs) -> None:
    deltas = delta if isinstance(delta, Mapping) else {} if delta is None else {"": delta}
    for problem, value in deltas.items():
        if problem and problem not in runs.sides:
            raise TableError(f"δ was given for {problem}, and the table's problems are {', '.join(runs.sides)}.")
        if not (math.isfinite(value) and value > 0):
            raise TableError(f"δ = {value:g} was given; it is the smallest gain that matters, a number above 0.")


def _kinds(table: Table, columns: Columns, runs: Runs, options: Options) -> dict[str, Kind]:
    rows = {problem: [row for side in own.values() for row in side.rows] for problem, own in runs.sides.items()}
    metrics = metrics_of(table.columns, rows, columns.score)
    values = {
        problem: [value for side in own.values() for value in side.scores.values()]
        for problem, own in runs.sides.items()
    }
    if not any(values.values()):
        raise TableError(f"no row of {table.name} has a finite {columns.score}.")
    alike: dict[str, list[float]] = {}
    for problem, found in values.items():
        alike.setdefault(metrics[problem], []).extend(found)  # one metric is written one way in all of a table
    return {
        problem: kind_of(
            metrics[problem],
            alike[metrics[problem]],
            higher=_higher(options, columns, rows[problem], problem),
            unit=options.unit,
            delta=_delta(options.delta, problem),
        )
        for problem in runs.sides
    }


def _delta(given: float | Mapping[str, float] | None, problem: str) -> float | None:
    """Return δ of a problem; that under the name "" is for those that have none of their own."""
    return given.get(problem, given.get("")) if isinstance(given, Mapping) else given


def _higher(options: Options, columns: Columns, rows: Sequence[Row], problem: str) -> bool | None:
    """Return whether more is better, where it was said: by an option, or by Optuna's direction of each row."""
    if options.higher_is_better is not None:
        return options.higher_is_better
    if columns.score.partition(".")[0] != "value":
        return None
    column = f"direction{columns.score.removeprefix('value')}"
    said = {label for row in rows if (label := label_of(row.get(column))) in ("maximize", "minimize")}
    if len(said) > 1:
        raise TableError(f"the studies of {problem} have both directions; scores of one problem have one.")
    return said.pop() == "maximize" if said else None


def _metric(columns: Columns) -> str:
    """Return the column that verdicts are about, as a study names it; what is not called otherwise was tested."""
    name = columns.score.lower()
    if "test" in name:
        return "test_score"
    return "val_score" if any(name.startswith(word) or f"_{word}" in name for word in _VALIDATION) else "score"
