"""No verdict before its time: what an unfinished study says, and that a finished one is left as it is."""

import random

import pytest
from synthetic import planned_runs, synthetic_study

from dashboards.cells import cells_of
from dashboards.comparisons import NOT_YET, comparison_of, pending_in, without_early_verdicts
from dashboards.report import build_report
from dashboards.tables.verdicts import matrix_of
from study.findings import Findings, find
from study.plan.cells import FIRST_CONFIRM_SEED
from study.records import RunRecord
from study.specs.spec import StudySpec
from study.store.frame import frame_of

SEEDS = 8


@pytest.fixture(scope="module")
def whole() -> tuple[StudySpec, list[RunRecord]]:
    return synthetic_study(tasks=["digits"], trials=3, confirm_seeds=SEEDS)


def found(spec: StudySpec, records: list[RunRecord]) -> Findings:
    return find(spec, records, planned_runs(spec, records))


def without(records: list[RunRecord], cell: str, family: str, epochs_factor: float, seed: int) -> list[RunRecord]:
    key = ("confirm", cell, family, epochs_factor, seed)
    kept = [r for r in records if (r.job.stage, r.job.cell, r.job.family, r.job.epochs_factor, r.job.seed) != key]
    assert len(kept) < len(records)
    return kept


def test_nothing_is_pending_in_a_finished_study(whole) -> None:
    findings = found(*whole)
    assert findings.counts.finished
    assert pending_in(findings, frame_of(whole[1])) == frozenset()
    assert without_early_verdicts(findings, frozenset()) is findings


def test_one_missing_run_holds_back_exactly_the_comparisons_that_rest_on_it(whole) -> None:
    spec, records = whole
    cell = records[0].job.cell
    kept = without(records, cell, "base", 2.0, FIRST_CONFIRM_SEED)
    findings = found(spec, kept)
    pending = pending_in(findings, frame_of(kept))
    # The baseline at twice the epochs is what SAM and WASAM are held against at equal gradient evaluations.
    assert {one for one in pending if one[0] == "tuned"} == {("tuned", cell, m, "G") for m in ("SAM", "WASAM")}
    held = without_early_verdicts(findings, pending)
    for before, after in zip(findings.effects, held.effects, strict=True):
        if comparison_of(after) in pending:
            assert before.n == SEEDS - 1  # enough for a verdict, had nobody waited
            assert before.verdict != NOT_YET
            assert (after.verdict, after.p_holm, after.clear) == (NOT_YET, None, False)
        else:
            assert after == before


@pytest.mark.parametrize("seed", range(3))
def test_whatever_part_is_measured_no_early_verdict_is_told(whole, seed: int) -> None:
    spec, records = whole
    part = random.Random(seed).sample(records, k=2 * len(records) // 3)
    findings, frame = found(spec, part), frame_of(part)
    pending = pending_in(findings, frame)
    held = without_early_verdicts(findings, pending)
    waiting = {(cell, method) for kind, cell, method, _ in pending if kind == "tuned"}
    assert waiting
    for summary in held.summaries:
        decided = {*summary.helps, *summary.hurts, *summary.helps_if_free, *summary.null}
        assert not {(cell, summary.method) for cell in decided} & waiting
        assert len(decided) + len(summary.undecided) == len({e.cell for e in findings.effects})
    assert not {(s.cell, s.method, s.budget) for s in held.delta_strips} & {one[1:] for one in pending}
    words = [
        entry.words for _, entries in matrix_of(held, cells_of(held, frame)).rows for entry in entries if entry.words
    ]
    assert words.count(NOT_YET) == len({one for one in pending if one[0] == "tuned" and one[3] == "G"})


def test_the_banner_counts_runs_and_decided_comparisons(whole) -> None:
    spec, records = whole
    kept = without(records, records[0].job.cell, "base", 2.0, FIRST_CONFIRM_SEED)
    page = build_report(found(spec, kept), frame_of(kept))
    total = len(found(spec, kept).effects)
    assert f"So far {len(kept):,} of {len(records):,} planned runs are done." in page
    assert f"({total - 2} of {total} comparisons)" in page


def test_a_run_that_failed_is_not_waited_for(whole) -> None:
    spec, records = whole
    failed = [
        r.model_copy(update={"status": "failed", "measurements": (), "error": "x"}) if r.job.stage == "confirm" else r
        for r in records
    ]
    part = failed[1:]
    findings = find(spec, part, len(records))
    lost = failed[0].job
    assert {one[1] for one in pending_in(findings, frame_of(part))} <= {lost.cell}
