"""The question that is put to a table: what was said about it, and what is guessed of the rest."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from study.existing.columns import Columns, Options, columns_of
from study.existing.reading import Row, Table
from study.existing.runs import Runs, runs_of
from study.existing.scores import Kind, kind_of, metrics_of
from study.existing.trackers import TableError
from study.existing.values import label_of

_BASELINES: Final = {"baseline", "base", "control", "vanilla", "reference", "standard", "plain", "sgd", "adam", "adamw"}
_VALIDATION: Final = ("val", "valid", "validation", "dev")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a table.

    Attributes:
        table, said: The table, and what was said about it.
        columns: What its columns are taken for.
        runs: Its runs.
        kinds: What the scores of each problem are.
        baselines: Whom methods are held against.
    """

    table: Table
    said: Options
    columns: Columns
    runs: Runs
    kinds: Mapping[str, Kind]
    baselines: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that are held against the baselines."""
        return tuple(method for method in self.runs.methods if method not in self.baselines)

    @property
    def guessed(self) -> tuple[str, ...]:
        """The roles that nobody gave."""
        unsaid = {
            "baseline": not self.said.baselines,
            "direction": self.said.higher_is_better is None,
            "delta": self.said.delta is None,
        }
        return tuple(sorted({*self.columns.guessed, *(role for role, missing in unsaid.items() if missing)}))

    @property
    def metric(self) -> str:
        """The column that verdicts are about, as a study names it; what is not called otherwise was tested."""
        name = self.columns.score.lower()
        if "test" in name:
            return "test_score"
        return "val_score" if any(name.startswith(word) or f"_{word}" in name for word in _VALIDATION) else "score"


def question_of(table: Table, said: Options) -> Question:
    """Return the question that is put to a table.

    Raises:
        TableError: what stands in the way of an answer; one sentence.
    """
    if not 0 < said.alpha < 1:
        raise TableError(f"alpha = {said.alpha:g} was given; a level lies between 0 and 1.")
    columns = columns_of(table, said)
    runs = runs_of(table, columns, Path(table.name).stem)
    baselines = _baselines(runs, said.baselines)
    return Question(table, said, columns, runs, _kinds(table, columns, runs, said), baselines)


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


def _deltas(delta: float | Mapping[str, float] | None, runs: Runs) -> Mapping[str, float]:
    """Return δ by problem as it was given; that under the name "" is for those that have none of their own."""
    deltas = delta if isinstance(delta, Mapping) else {} if delta is None else {"": delta}
    for problem, value in deltas.items():
        if problem and problem not in runs.sides:
            raise TableError(f"δ was given for {problem}, and the table's problems are {', '.join(runs.sides)}.")
        if not (math.isfinite(value) and value > 0):
            raise TableError(f"δ = {value:g} was given; it is the smallest gain that matters, a number above 0.")
    return deltas


def _kinds(table: Table, columns: Columns, runs: Runs, said: Options) -> dict[str, Kind]:
    rows = {problem: [row for side in own.values() for row in side.rows] for problem, own in runs.sides.items()}
    metrics, deltas = metrics_of(table.columns, rows, columns.score), _deltas(said.delta, runs)
    alike: dict[str, list[float]] = {}  # one metric is written one way in all of a table
    for problem, own in runs.sides.items():
        scores = alike.setdefault(metrics[problem], [])
        scores.extend(value for side in own.values() for value in side.scores.values())
    if not any(alike.values()):
        raise TableError(f"no row of {table.name} has a finite {columns.score}.")
    return {
        problem: kind_of(
            metrics[problem],
            alike[metrics[problem]],
            higher=_higher(said, columns, rows[problem], problem),
            unit=said.unit,
            delta=deltas.get(problem, deltas.get("")),
        )
        for problem in runs.sides
    }


def _higher(said: Options, columns: Columns, rows: Sequence[Row], problem: str) -> bool | None:
    """Return whether more is better, where it was said: by an option, or by Optuna's direction of each row."""
    if said.higher_is_better is not None:
        return said.higher_is_better
    if columns.score.partition(".")[0] != "value":
        return None
    column = f"direction{columns.score.removeprefix('value')}"
    directions = {label for row in rows if (label := label_of(row.get(column))) in ("maximize", "minimize")}
    if len(directions) > 1:
        raise TableError(f"the studies of {problem} have both directions; scores of one problem have one.")
    return directions.pop() == "maximize" if directions else None
