"""A study in which everything goes wrong at once: each run ends with a record, and the others never notice.

All runs are cut into slices of one epoch, and their user's module travels to the workers, which stand elsewhere.
"""

import os
from pathlib import Path

import pytest
from engine_room import Diary, faulty_job, run_jobs

from study.records import RunRecord

pytestmark = pytest.mark.ray
HEALTHY, OUT_ONCE, OUT_ALWAYS, HUNG, TOILING, DYING, LAST = range(7)
FAULTS = ("none", "out of memory once", "out of memory always", "hang once", "toil", "die", "none")
HANG_AFTER_S = 4
Ordeal = tuple[dict[int, RunRecord], Diary, Path]


@pytest.fixture(scope="module")
def ordeal(ray_cluster: object, tmp_path_factory: pytest.TempPathFactory) -> Ordeal:
    marks, diary = tmp_path_factory.mktemp("marks"), Diary()
    jobs = [faulty_job(marks, seed, fault) for seed, fault in enumerate(FAULTS)]
    return run_jobs(jobs, marks / "ray", diary=diary, slice_s=1e-6, hang_after_s=HANG_AFTER_S), diary, marks


def test_every_run_has_its_record(ordeal: Ordeal) -> None:
    ends = {seed: record.status for seed, record in ordeal[0].items()}
    assert ends == dict.fromkeys((HEALTHY, OUT_ONCE, HUNG, TOILING, LAST), "completed") | dict.fromkeys(
        (OUT_ALWAYS, DYING), "failed"
    )


def test_what_is_out_of_memory_is_tried_again_with_nothing_beside_it(ordeal: Ordeal) -> None:
    lines = ordeal[1].lines
    for seed, end in ((OUT_ONCE, "completed"), (OUT_ALWAYS, "failed")):
        [why] = [why for who, why in ordeal[1].retries() if who == seed]
        assert "out of memory" in why
        _, second = [n for n, line in enumerate(lines) if line[:2] == ("started", seed)]
        assert lines[second + 1] == ("finished", seed, end)
        started = {who for what, who, _ in lines[:second] if what == "started"} - {OUT_ONCE, OUT_ALWAYS}
        finished = {who for what, who, _ in lines[:second] if what == "finished"} - {OUT_ONCE, OUT_ALWAYS}
        assert started == finished


def test_out_of_memory_for_good_names_the_batch_size(ordeal: Ordeal) -> None:
    error = ordeal[0][OUT_ALWAYS].error or ""
    assert "MemoryError" in error
    assert "batch_size = 32" in error.splitlines()[-1]


def test_what_hangs_is_killed_and_tried_again(ordeal: Ordeal) -> None:
    [why] = [why for who, why in ordeal[1].retries() if who == HUNG]
    assert f"no sign of life for {HANG_AFTER_S} s" in why
    process = int((ordeal[2] / f"hang-{HUNG}").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_what_is_slow_is_not_killed(ordeal: Ordeal) -> None:
    """It toils for twice the limit, with a tenth of a core, and reports nothing meanwhile."""
    assert TOILING not in [who for who, _ in ordeal[1].retries()]
    assert float((ordeal[2] / f"toil-{TOILING}").read_text()) > 2 * HANG_AFTER_S


def test_a_worker_that_always_dies_is_a_failed_run_and_no_failed_study(ordeal: Ordeal) -> None:
    assert len([who for who, _ in ordeal[1].retries() if who == DYING]) == 2
    assert "lost 3 times" in (ordeal[0][DYING].error or "")


def test_slices_and_checkpoints_change_no_bit(ordeal: Ordeal) -> None:
    from study.training.trial import Run  # noqa: PLC0415  # torch takes seconds to import

    for seed in (HEALTHY, LAST):
        whole = Run(ordeal[0][seed].job, None, "cpu", "0")
        whole.advance()
        assert whole.record().measurements == ordeal[0][seed].measurements


def test_finished_runs_leave_no_checkpoint(ordeal: Ordeal) -> None:
    assert not list(ordeal[2].rglob("checkpoint_*"))
