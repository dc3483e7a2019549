"""No verdict before its time: what an unfinished study says, and that a finished one is left as it is."""

import math
import random

import pytest
from markup import Page
from synthetic import planned_runs, synthetic_study

from dashboards.cells import cells_of
from dashboards.comparisons import NOT_YET, without_early_verdicts
from dashboards.report import build_report
from dashboards.tables.matrix import matrices_of
from study.findings import Findings, find
from study.records import RunRecord
from study.specs.spec import StudySpec
from study.store.frame import frame_of

REPLICATES = 6


@pytest.fixture(scope="module")
def whole() -> tuple[StudySpec, list[RunRecord]]:
    return synthetic_study(tasks=["digits"], trials=3, replicates=REPLICATES)


def found(spec: StudySpec, records: list[RunRecord]) -> Findings:
    return find(spec, records, planned_runs(spec, records))


def test_a_finished_study_is_left_as_it_is(whole) -> None:
    findings = found(*whole)
    assert findings.counts.finished
    assert without_early_verdicts(findings) is findings


def test_one_missing_run_holds_back_every_verdict(whole) -> None:
    """Five complete replicates would do for one; but their number was fixed before the first run."""
    spec, records = whole
    findings = found(spec, [r for r in records if r is not next(r for r in records if r.job.stage == "confirm")])
    held = without_early_verdicts(findings)
    assert any(effect.verdict in ("helps", "no material effect") for effect in findings.effects)
    assert {effect.verdict for effect in (*held.effects, *held.averaging, *held.descriptive)} == {NOT_YET}
    for before, after in zip(findings.effects, held.effects, strict=True):
        assert (after.p_holm, after.clear) == (None, False)
        assert math.isnan(after.p)
        assert all(math.isnan(one.p) for one in after.against)
        assert (after.differences, after.ci95) == (before.differences, before.ci95)  # estimates are no verdicts
    assert held.direct == held.interactions == held.factor_interactions == held.delta_strips == held.literature == ()
    assert held.moderators == held.rules == held.syntheses == ()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_part_is_measured_no_verdict_is_told(whole, seed: int) -> None:
    spec, records = whole
    part = random.Random(seed).sample(records, k=2 * len(records) // 3)
    findings, frame = found(spec, part), frame_of(part)
    held = without_early_verdicts(findings)
    assert held.summaries == ()
    entries = [e for m in matrices_of(held, cells_of(held, frame)) for row in m.rows for e in row.entries if e.baseline]
    assert {entry.words for entry in entries} == {NOT_YET}
    page = Page(build_report(findings, frame)).words
    for told in (
        "helps at",
        "hurts at",
        "after correction for",
        "lies above zero",
        "p < ",
        "Holm p ",
        "averaging helps",
    ):
        assert told not in page.replace("Holm p below", ""), told
    assert "No verdict yet" in page


def test_the_banner_counts_runs_and_replicates(whole) -> None:
    spec, records = whole
    last = max(record.job.replicate for record in records)
    kept = [r for r in records if r.job.replicate < last]
    page = build_report(found(spec, kept), frame_of(kept))
    assert f"So far {len(kept):,} of " in page
    assert f"{REPLICATES - 1} of {REPLICATES} replicates are complete in every comparison." in page


def test_a_run_that_failed_is_not_waited_for(whole) -> None:
    spec, records = whole
    failed = [
        r.model_copy(update={"status": "failed", "measurements": (), "error": "x"}) if r.job.stage == "confirm" else r
        for r in records
    ]
    findings = find(spec, failed, len(records))
    assert findings.counts.finished
    assert {effect.verdict for effect in without_early_verdicts(findings).effects} == {"insufficient data"}
