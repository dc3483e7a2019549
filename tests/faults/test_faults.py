"""Some of the fault matrix, on real Ray with real signals; `make faults` runs all of it."""

import signal
import sys
from pathlib import Path

import pytest
from faults.cases import cases
from faults.laboratory import SLICED, Laboratory
from faults.strikes import MOMENTS, go_on, one_sentence

from study.store.record_files import read_records

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes and files are watched through /proc")


@pytest.mark.ray
@LINUX
def test_a_study_that_is_struck_again_and_again_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Of each kind of fault one, in both stages: the driver, a worker, its checkpoint, the disk."""
    lab, folder = Laboratory(tmp_path), tmp_path / "struck"

    unborn = lab.start(folder, FAULT_AT=MOMENTS["spec is written"], FAULT_DO=str(int(signal.SIGKILL)))
    assert unborn.code == -signal.SIGKILL

    stopped = lab.start(
        folder, command=SLICED, TRIAL_FAULT="truncated-checkpoint", TRIAL_STAGES="tune",
        FAULT_AT=MOMENTS["in confirm"], FAULT_DO="full disk",
    )  # fmt: skip
    assert "it starts anew, because the checkpoint is damaged" in " ".join(stopped.output.split())
    assert stopped.code == 2
    one_sentence(stopped)

    killed = lab.start(folder, FAULT_AT="/records/ 6", FAULT_DO=str(int(signal.SIGKILL)))
    assert killed.code == -signal.SIGKILL
    kept = read_records(folder)
    assert len(kept) >= 6

    ended = lab.start(
        folder, command=SLICED, TRIAL_FAULT="SIGKILL", TRIAL_STAGES="confirm",
        FAULT_AT=MOMENTS["findings are written"], FAULT_DO=str(int(signal.SIGTERM)),
    )  # fmt: skip
    assert f"going on after {len(kept)} finished runs" in " ".join(ended.output.split())
    assert "its worker was lost" in " ".join(ended.output.split())
    assert "can't be written" not in ended.errors
    assert ended.code == 128 + signal.SIGTERM

    go_on(lab, folder)
    assert {run_id: read_records(folder)[run_id] for run_id in kept} == kept
    lab.leaves_nobody(folder)


def test_the_matrix_names_every_case_once() -> None:
    names = [(case.fault, moment) for case in cases() for moment in case.moments]
    assert len(set(names)) == len(names) > 70
