"""Tables of the page as plain data: what the template writes, what sorts, and what a CSV download holds."""

from dataclasses import dataclass, replace

AMPLE = 32  # problems up to which a part of the page is whole; a page of 100 stays below 5 MB so
MOST_ROWS = 400  # of the table of a chart
MOST_RUN_ROWS = 100  # of a chart's table of single runs, which the table of all runs holds too
MOST_MADE = 1000  # rows of a table about single runs: pages show fewer, and a study may have very many
_LEAST_SHARE = 8  # at least an eighth of a part is shown
CsvValue = str | float | int | bool | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a table.

    Attributes:
        text: What is read.
        value: What sorts and what the CSV holds, at full precision; the text where it is None.
        icon: Draws this icon of the page's sprite before the text.
        method: Draws the method's marker before the text.
    """

    text: str
    value: CsvValue = None
    icon: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, the CSV's name of it, and whether it holds numbers (to the right) or prose (wraps).

    A ``hidden`` column stands in the download alone: the ends of an interval that is read beside its mean, a unit.
    """

    title: str
    csv: str
    numeric: bool = False
    prose: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows. ``groups`` holds the row numbers that open a group (a rule is drawn above them).

    ``total`` is the number of rows in all where only the first of very many were made; ``note`` is what the reader
    sees below the table: how much of it is shown.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    groups: tuple[int, ...] = ()
    total: int = 0
    note: str = ""


def rows_of(table: Table) -> dict[str, object]:
    """Return a table as plain data: its columns, and of every entry its text, and what else it has of `Entry`."""
    return {
        "columns": [
            [c.title, c.csv, (c.numeric and "num") or (c.prose and "prose") or "", c.hidden] for c in table.columns
        ],
        "groups": list(table.groups),
        "rows": [[_packed(entry) for entry in row] for row in table.rows],
    }


def _packed(entry: Entry) -> object:
    value = f"{entry.value:.10g}" if isinstance(entry.value, float) else str(entry.value)
    parts = [entry.text, None if entry.value is None or value == entry.text else value, entry.icon, entry.method]
    while len(parts) > 2 and not parts[-1]:
        parts.pop()
    return entry.text if parts[1:] == [None] else parts


def numeric(title: str, csv: str) -> Column:
    """Return a column of numbers."""
    return Column(title, csv, numeric=True)


def prose_column(title: str, csv: str) -> Column:
    """Return a column of sentences."""
    return Column(title, csv, prose=True)


def capped(table: Table, limit: int, rest: str) -> Table:
    """Return the table's first ``limit`` rows, its caption and its note saying what was left out and where."""
    total = max(table.total, len(table.rows))
    if total <= limit:
        return table
    note = f"The first {limit:,} of {total:,} rows are shown; {rest}"
    groups = tuple(group for group in table.groups if group < limit)
    return replace(table, caption=f"{table.caption} {note}", rows=table.rows[:limit], groups=groups, note=note)


def most(full: int, problems: int, ample: int = AMPLE) -> int:
    """Return how many rows, markers or points of one part of the page are shown: the larger a study, the fewer of each.

    The overview of verdicts is never cut; every other part says what is left out, and which file holds it all.

    Args:
        full: As many as up to ``ample`` problems.
        problems: Of the study; beyond ``ample`` the parts of all together take as much room as they do at it.
        ample: See ``problems``.
    """
    return max(full // _LEAST_SHARE, min(full, full * ample // max(1, problems)))


def fitted(table: Table, problems: int, where: str, full: int = MOST_ROWS) -> Table:
    """Return as much of a table as the page of a study with so many problems holds; ``where`` has all of it."""
    return capped(table, most(full, problems), f"all of them are in {where}.")
