"""What the table of results made elsewhere was taken for: whoever reads a verdict has to know what it was made of."""

import textwrap
from collections.abc import Sequence

from study.findings.content import Findings, ResultsTable
from study.findings.units import FRACTION

_WIDTH = 80
_HEAD = 10


def taken_for(findings: Findings) -> str:
    """Say what a table was taken for, a line each, and which of it was guessed; "" for findings of a study."""
    table = findings.origin
    if table is None:
        return ""
    lines = [f"{table.name}: {table.format}, {table.rows:,} rows, {table.judged:,} of them with a score that is used"]
    for role, content in said(findings, table):
        lines += textwrap.wrap(
            content, _WIDTH, initial_indent=f"  {role:<{_HEAD}}", subsequent_indent=" " * (_HEAD + 2)
        )
    return "\n".join(lines)


def said(findings: Findings, table: ResultsTable) -> list[tuple[str, str]]:
    """Return what each role was taken for: pairs of the role and its column, with what stands there."""
    columns = dict(table.columns)
    problems = list(findings.deltas)
    lower = [problem for problem, score in findings.scores.items() if not score.higher_is_better]
    deltas = {problem: delta * table.scale(problem) for problem, delta in findings.deltas.items()}
    alike = len(set(deltas.values())) == 1
    told = f"{next(iter(deltas.values())):g}" if alike else _listed([f"{d:g} in {p}" for p, d in deltas.items()])
    return [
        ("method", _taken(columns["method"], table, "method", _listed(findings.methods))),
        ("problem", _taken(columns["problem"], table, "problem", _listed(problems)) if columns["problem"] else "one"),
        ("seed", _guessed(columns["seed"], table, "seed") if columns["seed"] else "none: runs are not paired"),
        ("score", _taken(columns["score"], table, "score", _scale(findings, table))),
        ("better is", _guessed(_direction(lower, problems), table, "direction")),
        *([("cost", columns["cost"])] if columns["cost"] else []),
        ("baseline", _guessed(_listed(table.baselines), table, "baseline")),
        ("δ", told + (", half a point (default)" if "delta" in table.guessed else "")),
    ]


def _taken(column: str, table: ResultsTable, role: str, content: str) -> str:
    return _guessed(column, table, role) + (f": {content}" if content else "")


def _guessed(text: str, table: ResultsTable, role: str) -> str:
    return f"{text} (guessed)" if role in table.guessed else text


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _direction(lower: Sequence[str], problems: Sequence[str]) -> str:
    if not lower:
        return "higher"
    return "lower" if len(lower) == len(problems) else f"lower in {_listed(lower)}, higher elsewhere"


def _scale(findings: Findings, table: ResultsTable) -> str:
    """Say what the scores are counted in, once for each unit."""
    units = dict.fromkeys(
        "percents, written as fractions" if problem in table.percent else _unit(score.unit)
        for problem, score in findings.scores.items()
    )
    return _listed([unit for unit in units if unit])


def _unit(unit: str) -> str:
    return "fractions" if unit == FRACTION else unit
