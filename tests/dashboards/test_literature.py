"""The table of published claims: in the words of a description, not of a test."""

from dataclasses import replace

from synthetic import synthetic_study

from dashboards.report import build_report
from dashboards.tables.claims import literature_heading, literature_table
from study.findings import find
from study.store.frame import frame_of


def test_the_words_are_those_of_a_description() -> None:
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    findings = find(spec, records, len(records))
    table = literature_table(findings)
    assert table.id == "literature"
    assert {row[1].text for row in table.rows} <= {"agrees", "disagrees", "undecided"}
    agreeing = sum(result.outcome == "reproduced" for result in findings.literature)
    heading = literature_heading(findings.literature)
    assert heading.startswith(f"Of {len(findings.literature)} published claims that it can speak of, this study")
    assert f"agrees with {agreeing}" in heading
    page = build_report(findings, frame_of(records))
    assert 'id="literature-table"' in page
    assert "a description, not a test" in page
    assert 'id="literature-table"' not in build_report(replace(findings, literature=()), frame_of(records))
