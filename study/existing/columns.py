"""Columns: what each is taken for. What was not said is guessed where one column alone fits, and refused elsewhere."""

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from study.existing.cells import label_of, number_of
from study.existing.reading import Table
from study.existing.trackers import GROUPS, TableError

_NAMES: Final = {
    "method": ("method", "optimizer", "optimiser", "optim", "algorithm", "algo", "approach", "variant", "treatment"),
    "problem": ("problem", "dataset", "datasetname", "task", "data", "benchmark", "environment", "env", "envid"),
    "seed": ("seed", "randomseed", "rngseed", "runseed", "replicate", "repetition", "repeat", "fold"),
}
_OVERALL: Final = ("score", "accuracy", "acc", "value", "result", "metric")
_BOOKKEEPING: Final = re.compile(
    r"seed|step|epoch|runtime|time|duration|number|trial|fold|created|rate$|^lr$|decay|momentum|batch|rho|size|cost|flops"
)
MOST_LISTED = 12


@dataclass(frozen=True, slots=True)
class Columns:
    """What stands for what; several columns that stand for one thing are read together.

    ``seed`` and ``cost`` are "" where there is none, ``problem`` is empty where all runs are of one. ``guessed`` names
    the roles that nobody gave.
    """

    method: tuple[str, ...]
    problem: tuple[str, ...]
    seed: str
    score: str
    cost: str
    guessed: frozenset[str]

    @property
    def used(self) -> frozenset[str]:
        """All of them."""
        return frozenset((*self.method, *self.problem, self.seed, self.score, self.cost)) - {""}


def columns_of(table: Table, *, method: str, problem: str, seed: str, score: str, cost: str) -> Columns:
    """Return what the columns of a table are taken for; "" asks for a guess, of the cost for none.

    Args:
        table: The runs.
        method, problem: Names of columns; several with commas between them.
        seed, score, cost: Names of columns. The group that a tracker puts before a name may be left out.

    Raises:
        TableError: no such column, none that fits, or several that do.
    """
    methods = _resolved(table, method, "method") if method else _guessed_method(table)
    problems = _resolved(table, problem, "problem") if problem else _guessed_problem(table, methods)
    seeds = _one(table, seed, "seed") if seed else _guessed_seed(table)
    taken = {*methods, *problems, seeds}
    found = _one(table, score, "score") if score else _guessed_score(table, taken)
    costs = _one(table, cost, "cost") if cost else ""
    for role, name in (("score", found), ("cost", costs)):
        if name and name in taken:
            raise TableError(f"--{role} {name} was given, and it is the method, the problem or the seed already.")
    given = {"method": method, "problem": problem, "seed": seed, "score": score}
    return Columns(methods, problems, seeds, found, costs, frozenset(role for role, name in given.items() if not name))


def _resolved(table: Table, text: str, role: str) -> tuple[str, ...]:
    """Return the columns that a text names: one whose name it is, or several with commas between them."""
    if text in table.columns or "," not in text:
        return (_one(table, text, role),)
    return tuple(dict.fromkeys(_one(table, part.strip(), role) for part in text.split(",")))


def _one(table: Table, name: str, role: str) -> str:
    if name in table.columns:
        return name
    for alike in (str, str.lower):
        found = [c for c in table.columns if alike(name) in (alike(c), alike(bare(c)))]
        if len(found) == 1:
            return found[0]
        if found:
            raise TableError(f"--{role} {name} was given, which may be {_listed(found)}; give the whole name.")
    near = difflib.get_close_matches(name, [*table.columns, *map(bare, table.columns)], 1)
    hint = f"did you mean {near[0]}? There are " if near else "there are "
    raise TableError(f"--{role} {name} was given, and {table.name} has no such column; {hint}{_listed(table.columns)}.")


def bare(column: str) -> str:
    """Return a column's name without the group that a tracker puts before it: ``config.optimizer`` is ``optimizer``."""
    group, dot, name = column.partition(".")
    return name if dot and group in GROUPS else column


def labels(table: Table, column: str) -> list[str]:
    """Return the different labels of a column, in their order."""
    return list(dict.fromkeys(text for row in table.rows if (text := label_of(row.get(column))) is not None))


def _plain(column: str) -> str:
    """Return a name in small letters and nothing else."""
    return re.sub(r"[^a-z0-9]", "", bare(column).lower())


def _named(table: Table, role: str) -> list[str]:
    return [column for column in table.columns if _plain(column) in _NAMES[role]]


def _guessed_method(table: Table) -> tuple[str, ...]:
    named = [column for column in _named(table, "method") if len(labels(table, column)) > 1]
    if len(named) == 1:
        return tuple(named)
    if named:
        raise TableError(f"the method may be {_listed(named)}; give --method, with commas between several.")
    texts = [c for c in table.columns if 1 < len(labels(table, c)) <= len(table.rows) / 2 and not _numeric(table, c)]
    raise TableError(
        f"no column of {table.name} is named like a method ({', '.join(_NAMES['method'][:4])}, …); give --method"
        f"{f': perhaps {_listed(texts)}' if texts else ''}; a row is one run, so a table with a column for each method "
        "has to be melted first."
    )


def _guessed_problem(table: Table, methods: Sequence[str]) -> tuple[str, ...]:
    named = [column for column in _named(table, "problem") if column not in methods]
    varied = [column for column in named if len(labels(table, column)) > 1]
    if len(varied) > 1:
        raise TableError(
            f"the problem may be {_listed(varied)}; give --problem, with commas between several: "
            f"--problem {','.join(map(bare, varied))}."
        )
    return tuple(varied or named[:1])


def _guessed_seed(table: Table) -> str:
    named = _named(table, "seed")
    varied = [column for column in named if len(labels(table, column)) > 1]
    if len(varied) > 1:
        raise TableError(f"the seed may be {_listed(varied)}; give --seed.")
    return (varied or named or [""])[0]


def _guessed_score(table: Table, taken: set[str]) -> str:
    numeric = [
        c
        for c in table.columns
        if c not in taken and not _BOOKKEEPING.search(bare(c).lower()) and not c.startswith(("config.", "params."))
        if _numeric(table, c)
    ]
    fits: tuple[Callable[[str], bool], ...] = (
        lambda column: "test" in column.lower(),
        lambda column: _plain(column) in _OVERALL,
        lambda column: True,
    )
    for fit in fits:
        found = [column for column in numeric if fit(column)]
        if len(found) == 1:
            return found[0]
        if found:
            raise TableError(f"the score may be {_listed(found)}; give --score.")
    raise TableError(f"no column of {table.name} holds numbers that may be a score; give --score.")


def _numeric(table: Table, column: str) -> bool:
    """Tell whether a column holds numbers, in half of the rows at least, and nothing else."""
    found = [number_of(row.get(column)) for row in table.rows]
    known = sum(value is not None and not math.isnan(value) for value in found)
    return None not in found and 2 * known >= len(found)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_LISTED])
    return f"{shown} and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else shown
