"""Columns: what was said of a table, and what each of its columns is taken for.

What was not said is guessed where one column alone fits, and refused elsewhere.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from study.existing.reading import Table
from study.existing.trackers import GROUPS, TableError
from study.existing.values import label_of, number_of

_NAMES: Final = {
    "method": ("method", "optimizer", "optimiser", "optim", "algorithm", "algo", "approach", "variant", "treatment"),
    "problem": ("problem", "dataset", "datasetname", "task", "data", "benchmark", "environment", "env", "envid"),
    "seed": ("seed", "randomseed", "rngseed", "runseed", "replicate", "repetition", "repeat", "fold"),
}
_OVERALL: Final = ("score", "accuracy", "acc", "value", "result", "metric")
_BOOKKEEPING: Final = re.compile(
    r"seed|step|epoch|runtime|time|duration|number|trial|fold|created|rate$|^lr$|decay|momentum|batch|rho|size|cost|flops"
)
MOST_LISTED = 8


@dataclass(frozen=True, slots=True)
class Options:
    """What was said about a table, as of `study.judge.judge`; what is "" or empty is guessed."""

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


def columns_of(table: Table, said: Options) -> Columns:
    """Return what the columns of a table are taken for; "" asks for a guess, of the cost for none.

    The group that a tracker puts before a name may be left out.

    Raises:
        TableError: no such column, none that fits, or several that do.
    """
    methods = _resolved(table, said.method, "method") if said.method else _guessed_method(table)
    problems = _resolved(table, said.problem, "problem") if said.problem else _guessed(table, "problem", methods)
    seed = _one(table, said.seed, "seed") if said.seed else next(iter(_guessed(table, "seed")), "")
    taken = {*methods, *problems, seed}
    score = _one(table, said.score, "score") if said.score else _guessed_score(table, taken)
    cost = _one(table, said.cost, "cost") if said.cost else ""
    for role, name in (("score", score), ("cost", cost)):
        if name and name in taken:
            raise TableError(f"--{role} {name} was given, and it is the method, the problem or the seed already.")
    guessed = frozenset(role for role in ("method", "problem", "seed", "score") if not getattr(said, role))
    return Columns(methods, problems, seed, score, cost, guessed)


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
            raise TableError(f"--{role} {name} was given, which may be {listed(found)}; give the whole name.")
    near = difflib.get_close_matches(name, [*table.columns, *map(bare, table.columns)], 1)
    hint = f"did you mean {near[0]}? There are " if near else "there are "
    raise TableError(f"--{role} {name} was given, and {table.name} has no such column; {hint}{listed(table.columns)}.")


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


def _guessed(table: Table, role: str, taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the column that is named like a role, if there is one; one with several labels goes before others."""
    named = [column for column in table.columns if _plain(column) in _NAMES[role] and column not in taken]
    varied = [column for column in named if len(labels(table, column)) > 1]
    if len(varied) > 1:
        several = "" if role == "seed" else f", with commas between several: --{role} {','.join(map(bare, varied))}"
        raise TableError(f"the {role} may be {listed(varied)}; give --{role}{several}.")
    return tuple(varied or named[:1])


def _guessed_method(table: Table) -> tuple[str, ...]:
    named = _guessed(table, "method")
    if named and len(labels(table, named[0])) > 1:
        return named
    texts = [c for c in table.columns if 1 < len(labels(table, c)) <= len(table.rows) / 2 and not _numeric(table, c)]
    raise TableError(
        f"no column of {table.name} is named like a method ({', '.join(_NAMES['method'][:4])}, …); give --method"
        f"{f': perhaps {listed(texts)}' if texts else ''}; a row is one run, so a table with a column for each method "
        "has to be melted first."
    )


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
            raise TableError(f"the score may be {listed(found)}; give --score.")
    raise TableError(f"no column of {table.name} holds numbers that may be a score; give --score.")


def _numeric(table: Table, column: str) -> bool:
    """Tell whether a column holds numbers, in half of the rows at least, and nothing else."""
    found = [number_of(row.get(column)) for row in table.rows]
    known = sum(value is not None and not math.isnan(value) for value in found)
    return None not in found and 2 * known >= len(found)


def listed(names: Sequence[str]) -> str:
    """Return names with commas between them; of many, the first and how many more."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
