"""Runs: the rows of a table, sorted by problem, method and seed. What can't be used is counted, not just dropped."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from study.existing.columns import Columns, bare
from study.existing.reading import Row, Table
from study.existing.trackers import TableError
from study.existing.values import label_of, number_of

_ENDED: Final = {"finished", "completed", "complete", "success", "succeeded", "successful", "done", "ok", "terminated"}
_NOT_ENDED: Final = {
    "crashed", "failed", "fail", "failure", "killed", "running", "preempted", "preempting", "pending", "scheduled",
    "waiting", "queued", "pruned", "error", "canceled", "cancelled", "interrupted", "oom", "diverged",
    "timeout", "timed_out", "out_of_memory", "node_fail", "aborted", "stopped", "exception", "incomplete", "unfinished",
}  # fmt: skip
_SWITCH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PROGRESS: Final = {"epoch", "step", "globalstep", "trainerglobalstep", "iteration", "iter", "round"}  # of one run
_SUMMARIES: Final = {"mean", "average", "avg", "overall", "median", "std", "stdev", "sd", "sem", "min", "max"}
_IDENTITY: Final = {"name", "id", "run_id", "number", "created", "created_at", "start_time", "end_time", "runtime"}


_Grouped = dict[tuple[str, str, str], list[tuple[int, Row]]]  # by problem, method and seed


@dataclass(slots=True)
class Side:
    """The runs of one method on one problem: scores by seed, and the seeds whose run has none, with the reason."""

    scores: dict[int, float] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    costs: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def units(self) -> set[int]:
        """Its seeds, with a score or without."""
        return self.scores.keys() | self.lost.keys()


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a table.

    Attributes:
        sides: By problem and method, each in the order of the table.
        left_out: Why rows are in no side, and how many.
        seeds: The label of every unit.
        alike: Where no column says the seed: rows that are equal to an earlier one in every column.
    """

    sides: Mapping[str, Mapping[str, Side]]
    left_out: Mapping[str, int]
    seeds: Mapping[int, str]
    alike: int = 0

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, in the order of the table."""
        return tuple(dict.fromkeys(method for own in self.sides.values() for method in own))


def runs_of(table: Table, columns: Columns, whole: str) -> Runs:
    """Sort the rows of a table.

    Args:
        table: The runs.
        columns: What its columns are taken for.
        whole: What the problem is called where no column says it.

    Raises:
        TableError: scores or costs that are no numbers, names that differ in spelling alone, several scores for one
            method, problem and seed, or of one run where no column says the seed.
    """
    state = _state_column(table)
    left_out: Counter[str] = Counter()
    grouped = _grouped(table, columns, whole, left_out)
    alike = 0 if columns.seed else _check_whole_runs(grouped, table, left_out)
    _check_spelling("methods", {method for _, method, _ in grouped})
    _check_spelling("problems", {problem for problem, _, _ in grouped})
    numbers = _unit_numbers([seed for _, _, seed in grouped])
    sides: dict[str, dict[str, Side]] = {}
    clashes = {}
    for (problem, method, seed), found in grouped.items():
        side = sides.setdefault(problem, {}).setdefault(method, Side())
        if not _put(side, numbers[seed], found, columns, state, left_out):
            clashes[problem, method, seed] = found
    if clashes:
        raise TableError(_clash(clashes, columns))
    return Runs(sides, left_out, {number: seed for seed, number in numbers.items()}, alike)


def _grouped(table: Table, columns: Columns, whole: str, left_out: Counter[str]) -> _Grouped:
    """Return the rows, with their numbers, by problem, method and seed; count those that lack one of these."""
    found: _Grouped = {}
    combinations: dict[tuple[str, str], tuple[str | None, ...]] = {}
    for number, row in enumerate(table.rows, 1):
        method, problem = _joined(row, columns.method), _joined(row, columns.problem) if columns.problem else whole
        seed = label_of(row.get(columns.seed)) if columns.seed else f"row {number}"
        if method is None or problem is None or seed is None:
            left_out[f"no {'method' if method is None else 'problem' if problem is None else 'seed'}"] += 1
            continue
        labels = (seed, problem) if columns.problem else (seed,)
        if summary := next((label for label in labels if label.lower() in _SUMMARIES), ""):
            left_out[f"a summary of other rows and no run ({summary})"] += 1
            continue
        for role, label, names in (("method", method, columns.method), ("problem", problem, columns.problem)):
            own = tuple(label_of(row.get(name)) for name in names)
            if combinations.setdefault((role, label), own) != own:
                raise TableError(
                    f"{label} may be several combinations of {' and '.join(names)}; write them without blanks."
                )
        found.setdefault((problem, method, seed), []).append((number, row))
    if not found:
        raise TableError(f"no row of {table.name} has a method, a problem and a seed.")
    return found


def _joined(row: Row, names: Sequence[str]) -> str | None:
    """Return the label of one or several columns; numbers and switches get their column's name."""
    parts = [(name, label_of(row.get(name))) for name in names]
    if any(label is None for _, label in parts):
        return None
    if len(parts) == 1:
        return parts[0][1]
    return " ".join(
        f"{bare(name)}={label}" if label and (label.lower() in ("true", "false") or _is_number(label)) else str(label)
        for name, label in parts
    )


def _is_number(label: str) -> bool:
    value = number_of(label)
    return value is not None and not math.isnan(value)


def _check_whole_runs(grouped: _Grouped, table: Table, left_out: Counter[str]) -> int:
    """Where a row alone is a run, leave copies of one out, and return how many others are equal to an earlier one.

    Raises:
        TableError: rows that are measurements of one run, epoch after epoch.
    """
    identities = [column for column in table.columns if bare(column).lower() in _IDENTITY]
    seen: set[tuple[str | None, ...]] = set()
    alike = 0
    for key, [(_, row)] in list(grouped.items()):
        own = tuple(label_of(row.get(column)) for column in table.columns)
        if own in seen and any(label_of(row.get(column)) for column in identities):
            left_out["a copy of another row, in every column"] += 1
            del grouped[key]
        elif own in seen:
            alike += 1
        seen.add(own)
    for column in table.columns:
        if re.sub(r"[^a-z]", "", bare(column).lower()) in _PROGRESS:
            sides: dict[tuple[str, str], list[float]] = {}
            for (problem, method, _), [(_, row)] in grouped.items():
                sides.setdefault((problem, method), []).append(number_of(row.get(column)) or 0.0)
            for (problem, method), places in sides.items():
                if _is_sequence(places):
                    raise TableError(
                        f"the {len(places)} rows of {method} on {problem} go on in {column} from {min(places):g} to "
                        f"{max(places):g}, as measurements of one run do: keep one row a run, its last or the one that "
                        "validation chose, or give --seed."
                    )
    return alike


def _is_sequence(places: Sequence[float]) -> bool:
    """Tell whether places lie at equal distances, each as often as the others, as those of a run's measurements."""
    times = Counter(places)
    each = sorted(times)
    steps = {round(after - before, 9) for before, after in pairwise(each)}
    return len(each) > 2 and len(steps) == 1 and len({*times.values()}) == 1


def _state_column(table: Table) -> str:
    """Return the column that says how a run ended; "" where none does.

    Raises:
        TableError: a column that says it of some rows alone.
    """
    for column in table.columns:
        words = {text.lower() for row in table.rows if (text := label_of(row.get(column))) is not None}
        if column.lower() in _NOT_ENDED - {"error"} and words and words <= {*_SWITCH}:  # an error may be a metric
            return column
        if column.lower() in ("state", "status"):
            known = words & (_ENDED | _NOT_ENDED)
            if known and known < words:
                raise TableError(
                    f"the column {column} says {', '.join(sorted(words - known)[:3])} of some runs, and whether those "
                    f"ended can't be told; write finished or failed, as of the others ({', '.join(sorted(known)[:3])})."
                )
            if known:
                return column
    return ""


def _how_ended(row: Row, column: str) -> str:
    """Return how a run ended, in a word of its state's column or, of a switch such as ``failed``, that column's."""
    word = (label_of(row.get(column)) or "").lower()
    if column.lower() not in _NOT_ENDED:
        return word
    return column.lower() if _SWITCH.get(word) else "finished"


def _check_spelling(role: str, names: set[str]) -> None:
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault("".join(name.lower().split()), []).append(name)
    for several in alike.values():
        if len(several) > 1:
            raise TableError(f"{' and '.join(several)} are {role} of the table; write them alike, or tell them apart.")


def _unit_numbers(seeds: Sequence[str]) -> dict[str, int]:
    """Number the seeds: as they are where all are whole numbers, else in their order."""
    found = list(dict.fromkeys(seeds))
    if all(re.fullmatch(r"0|-?[1-9][0-9]*", seed) for seed in found):
        return {seed: int(seed) for seed in found}
    return {seed: number for number, seed in enumerate(found, 1)}


def _put(
    side: Side, unit: int, found: Sequence[tuple[int, Row]], columns: Columns, state: str, left_out: Counter[str]
) -> bool:
    """Put the run of a seed into its side, unless its rows have several scores: tell whether it could be put there."""
    scored: dict[float, tuple[int, Row]] = {}
    reasons: list[str] = []
    for number, row in found:
        ended = _how_ended(row, state) if state else ""
        value = _number(row, number, columns.score)
        if ended in _NOT_ENDED:
            reasons.append(ended)
        elif not math.isfinite(value):
            reasons.append("no score" if math.isnan(value) else "an infinite score")
        elif value in scored:
            left_out["a copy of another row, in method, problem, seed and score"] += 1
        else:
            scored[value] = number, row
    for value, (number, row) in scored.items() if len(scored) == 1 else ():
        side.scores[unit] = value
        side.rows.append(row)
        if columns.cost:
            side.costs.append(_number(row, number, columns.cost))
    if not scored:
        side.lost[unit] = reasons.pop()
    left_out["without a score, and run again with the same seed"] += len(reasons)
    return len(scored) <= 1


def _number(row: Row, number: int, column: str) -> float:
    value = number_of(row.get(column))
    if value is None:
        told = str(row[column])[:40]
        raise TableError(f"row {number} has {told!r} in the column {column}; numbers alone can be judged.")
    return value


def _clash(clashes: _Grouped, columns: Columns) -> str:
    """Say that seeds have several scores, and which columns might tell them apart."""
    (problem, method, seed), found = next(iter(clashes.items()))
    apart = {
        name
        for rows in clashes.values()
        for name in rows[0][1]
        if name not in columns.used
        and bare(name).lower() not in _IDENTITY
        and len({label_of(row.get(name)) for _, row in rows}) > 1
    }
    example = f"{method} on {problem} with seed {seed}, rows {' and '.join(str(number) for number, _ in found[:3])}"
    which = f"They differ in {', '.join(sorted(apart)[:6])}: " if apart else ""
    return (
        f"{len(clashes)} seeds have several scores for one method and problem ({example}). {which}keep one row each, "
        "chosen on validation and never by the score, or name a column that belongs to the method or the problem."
    )
