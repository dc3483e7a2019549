"""How much of a large study its page holds: all of it up to 32 problems, beyond them less of each part.

A page of 100 problems stays below 5 MB so. The overview of verdicts is never cut; every other part says what is left
out, and which file holds it all.
"""

from dashboards.tables.table import Table, capped

AMPLE = 32  # problems up to which a part of the page is whole
MOST_ROWS = 400  # of the table of a chart
_LEAST_SHARE = 8  # at least an eighth of a part is shown


def most(full: int, problems: int, ample: int = AMPLE) -> int:
    """Return how many rows, markers or points of one part are shown.

    Args:
        full: As many as up to ``ample`` problems.
        problems: Of the study; beyond ``ample`` the parts of all together take as much room as they do at it.
        ample: See ``problems``.
    """
    return max(full // _LEAST_SHARE, min(full, full * ample // max(1, problems)))


def fitted(table: Table, problems: int, where: str, full: int = MOST_ROWS) -> Table:
    """Return as much of a table as the page of a study with so many problems holds; ``where`` has all of it."""
    return capped(table, most(full, problems), f"all of them are in {where}.")
