"""What the table of results made elsewhere was taken for: whoever reads a verdict has to know what it was made of."""

import textwrap
from collections.abc import Iterable

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
    columns, problems = dict(table.columns), list(findings.deltas)
    lower = [problem for problem, score in findings.scores.items() if not score.higher_is_better]
    direction = "lower" if len(lower) == len(problems) else f"lower in {', '.join(lower)}, higher elsewhere"
    deltas = {problem: delta * table.scale(problem) for problem, delta in findings.deltas.items()}
    alike = len(set(deltas.values())) == 1
    told = f"{next(iter(deltas.values())):g}" if alike else ", ".join(f"{d:g} in {p}" for p, d in deltas.items())
    units = dict.fromkeys(
        "percents, written as fractions"
        if problem in table.percent
        else {FRACTION: "fractions"}.get(score.unit, score.unit)
        for problem, score in findings.scores.items()
    )

    def taken(role: str, contents: Iterable[str] = ()) -> str:
        shown = ", ".join(filter(None, contents))
        return guessed(columns[role], role) + (f": {shown}" if shown else "")

    def guessed(text: str, role: str) -> str:
        return f"{text} (guessed)" if role in table.guessed else text

    return [
        ("method", taken("method", findings.methods)),
        ("problem", taken("problem", problems) if columns["problem"] else "one"),
        ("seed", taken("seed") if columns["seed"] else "none: runs are not paired"),
        ("score", taken("score", units)),
        ("better is", guessed(direction if lower else "higher", "direction")),
        *([("cost", columns["cost"])] if columns["cost"] else []),
        ("baseline", guessed(", ".join(table.baselines), "baseline")),
        ("δ", told + (", half a point (default)" if "delta" in table.guessed else "")),
    ]
