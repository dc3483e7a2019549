"""Published claims beside what a study measured: the suite's own claims, by the suite's own rules, never as a test."""

import pytest
from synthetic import synthetic_lines, synthetic_study

from study.findings import Findings, find
from study.findings.outcomes import published
from study.records import RunRecord
from study.specs.spec import StudySpec


@pytest.fixture(scope="module")
def made() -> tuple[StudySpec, list[RunRecord]]:
    spec, records = synthetic_study(tasks=["digits"], trials=3)
    return spec, list(records)


@pytest.fixture(scope="module")
def findings(made: tuple[StudySpec, list[RunRecord]]) -> Findings:
    spec, records = made
    return find(spec, records, len(records))


def test_the_claims_are_those_of_the_suite() -> None:
    ids = [claim.id for claim in published()]
    assert len(set(ids)) == len(ids) >= 12
    assert all(claim.source for claim in published())


def test_a_study_speaks_of_the_claims_that_it_varied_something_for(findings: Findings) -> None:
    assert [result.id for result in findings.literature] == [
        *("noise", "averaging-needs-a-high-rate", "both-beat-averaging", "both-beat-sam"),
        *("not-below-the-worse", "not-below-the-better", "compute-takes-the-gain", "memorizing", "higher-peak"),
    ]


def test_it_says_what_naming_the_same_claim_would_have_said(made: tuple[StudySpec, list[RunRecord]]) -> None:
    spec, records = made
    named = spec.model_copy(update={"hypotheses": tuple(c for c in published() if c.id in ("noise", "both-beat-sam"))})
    wanted = {result.id: result for result in find(named, records, len(records)).hypotheses}
    unnamed = find(spec, records, len(records)).literature
    assert {result.id: result for result in unnamed if result.id in wanted} == wanted


def test_there_is_none_before_the_last_run_nor_beside_claims_of_its_own(
    made: tuple[StudySpec, list[RunRecord]],
) -> None:
    spec, records = made
    assert find(spec, records, len(records) + 1).literature == ()
    own = spec.model_copy(update={"hypotheses": published()[:1]})
    assert find(own, records, len(records)).literature == ()


def test_curvature_and_barriers_are_spoken_of_where_they_were_measured() -> None:
    spec, records = synthetic_study(tasks=["digits"], factors={"label_noise": [0.0, 0.3]}, trials=3, probes=True)
    lines = synthetic_lines(records, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    kinds = {result.kind for result in find(spec, records, len(records), lines).literature}
    assert {"sharpness", "barrier"} <= kinds
