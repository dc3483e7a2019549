"""What the literature predicted, and what this study says: the table and its words."""

from collections.abc import Iterable
from dataclasses import replace

from dashboards import prose
from dashboards.tables import claims
from dashboards.tables.table import Entry, Table
from study.findings import Findings, HypothesisResult

AGREEMENT = {"reproduced": "agrees", "contradicted": "disagrees", "inconclusive": "undecided"}


def literature_table(findings: Findings) -> Table:
    """Return one row a claim: what was published, its direction, and what this study says."""
    table = claims.claims_table(replace(findings, hypotheses=findings.literature))
    place = next(i for i, column in enumerate(table.columns) if column.csv == "outcome")
    return replace(
        table,
        id="literature",
        caption="What was published elsewhere, and whether this study agrees.",
        columns=tuple(replace(column, title=_TITLES.get(column.csv, column.title)) for column in table.columns),
        rows=tuple((*row[:place], _agreement(row[place]), *row[place + 1 :]) for row in table.rows),
    )


_VERBS = {"reproduced": "agrees with {}", "contradicted": "disagrees with {}", "inconclusive": "leaves {} undecided"}
_TITLES = {"claim": "Published", "outcome": "This study", "expected": "Published direction"}


def _agreement(outcome: Entry) -> Entry:
    return replace(outcome, text=AGREEMENT.get(outcome.text, outcome.text))


def literature_heading(results: Iterable[HypothesisResult]) -> str:
    """State how many published claims the study agrees with."""
    outcomes: list[str] = [result.outcome for result in results]
    counts = [(outcomes.count(outcome), words) for outcome, words in _VERBS.items()]
    told = [words.format(number) for number, words in counts if number]
    return f"Of {prose.things(len(outcomes), 'published claim')} that it can speak of, this study {prose.listed(told)}"


READING = (
    "A row holds what others published and the same quantity measured here. Agrees: the 95 % interval lies on the "
    "published side. Disagrees: it lies on the other, or its 90 % twin lies inside the shaded zone though a difference "
    "was published. Gains are at equal epochs; Student-t intervals over the seeds or cells under n. Tasks and sizes "
    "differ from the published ones, and nothing was predicted for this study: a description, not a test."
)
