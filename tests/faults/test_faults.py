"""Some of the fault matrix, on real Ray with real signals; `make faults` runs all of it."""

import signal
import sys
from pathlib import Path

import pytest
from faults.cases import cases
from faults.laboratory import SLICED, Laboratory
from faults.strikes import go_on, one_sentence

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes and files are watched through /proc")


@pytest.mark.ray
@LINUX
def test_a_study_that_is_struck_again_and_again_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Of each kind of fault one: a worker, its checkpoint, the disk, the driver."""
    lab, folder = Laboratory(tmp_path), tmp_path / "struck"

    stopped = lab.start(
        folder, command=SLICED, TRIAL_FAULT="truncated-checkpoint", TRIAL_STAGES="tune",
        FAULT_AT="/records/ 5", FAULT_DO="full disk",
    )  # fmt: skip
    assert "it starts anew, because the checkpoint is damaged" in " ".join(stopped.output.split())
    assert stopped.code == 2
    one_sentence(stopped)

    ended = lab.start(
        folder, command=SLICED, TRIAL_FAULT="SIGKILL", TRIAL_STAGES="confirm",
        FAULT_AT="findings.json 0", FAULT_DO=str(int(signal.SIGTERM)),
    )  # fmt: skip
    assert "its worker was lost" in " ".join(ended.output.split())
    assert ended.code == 128 + signal.SIGTERM
    go_on(lab, folder)
    lab.leaves_nobody(folder)


def test_the_matrix_names_every_case_once() -> None:
    names = [(case.fault, moment) for case in cases() for moment in case.moments]
    assert len(set(names)) == len(names) > 70
