"""Published claims beside what a study measured: the suite's own claims, by the suite's own rules, never as a test."""

from dataclasses import replace

import pytest
from synthetic import synthetic_lines, synthetic_study

from dashboards.literature import literature_heading, literature_of, literature_table, published
from dashboards.report import build_report
from study.findings import RunCounts, find
from study.frame import frame_of


@pytest.fixture(scope="module")
def made():
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    return spec, find(spec, records, len(records)), records


def test_the_claims_are_those_of_the_suite() -> None:
    ids = [claim.id for claim in published()]
    assert len(set(ids)) == len(ids) >= 12
    assert all(claim.source for claim in published())


def test_a_study_speaks_of_the_claims_that_it_varied_something_for(made) -> None:
    _, findings, records = made
    found = literature_of(findings, records, ())
    assert [result.id for result in found] == [
        *("noise", "averaging-needs-a-high-rate", "both-beat-averaging", "both-beat-sam"),
        *("not-below-the-worse", "not-below-the-better", "compute-takes-the-gain"),
    ]


def test_it_says_what_naming_the_same_claim_would_have_said(made) -> None:
    spec, findings, records = made
    named = spec.model_copy(update={"hypotheses": tuple(c for c in published() if c.id in ("noise", "both-beat-sam"))})
    wanted = {result.id: result for result in find(named, records, len(records)).hypotheses}
    found = {result.id: result for result in literature_of(findings, records, ()) if result.id in wanted}
    assert found == wanted


def test_there_is_none_before_the_last_run_nor_beside_claims_of_its_own(made) -> None:
    _, findings, records = made
    assert literature_of(replace(findings, counts=RunCounts(10_000, 5, 0, 0)), records, ()) == ()
    assert literature_of(findings, (), ()) == ()
    own = replace(findings, hypotheses=literature_of(findings, records, ()))
    assert literature_of(own, records, ()) == ()
    assert literature_of(replace(findings, spec={"of": "another version"}), records, ()) == ()


def test_curvature_and_barriers_are_spoken_of_where_they_were_measured() -> None:
    spec, records = synthetic_study(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=3, probes=True)
    lines = synthetic_lines(records, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    findings = find(spec, records, len(records), lines)
    kinds = {result.kind for result in literature_of(findings, records, lines)}
    assert {"sharpness", "barrier"} <= kinds


def test_the_words_are_those_of_a_description(made) -> None:
    _, findings, records = made
    results = literature_of(findings, records, ())
    table = literature_table(results, findings)
    assert table.id == "literature"
    assert {row[1].text for row in table.rows} <= {"agrees", "disagrees", "undecided"}
    agreeing = sum(result.outcome == "reproduced" for result in results)
    assert literature_heading(results).startswith("Of 7 published claims that it can speak of, this study")
    assert f"agrees with {agreeing}" in literature_heading(results)
    page = build_report(findings, frame_of(records), records=records)
    assert 'id="literature-table"' in page
    assert "a description, not a test" in page
    assert 'id="literature-table"' not in build_report(findings, frame_of(records))
