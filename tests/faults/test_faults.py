"""The fault matrix in little, on real Ray with real signals: what strikes workers and Ray, in studies that share it.

`test_drivers` has what strikes drivers and their files. Each row of the matrix is in one of the two, at one moment or
two; `make faults` runs all of it.
"""

import sys
from collections.abc import Iterator

import pytest
from faults import test_drivers
from faults.cases import cases
from faults.laboratory import INLINE, SLICED, Laboratory
from faults.strikes import MOMENTS, all_diverged, go_on, little_memory, one_sentence, stops, with_faulty_trials

from study.store.record_files import read_records

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(sys.platform != "linux", reason="processes and files are watched through /proc"),
]
STRUCK = {  # by stage: faults of `tiny_task`'s, each once, and the rows that they stand for
    "tune": {
        "prints forks chdir seeds": "trial: prints, forks, chdir, seeds",
        "eats": "trial: killed by Ray, memory short",
        "truncated-checkpoint": "long run: truncated checkpoint",
        "SIGSEGV": "trial: SIGSEGV",
        "hang": "trial: hangs",
        "os._exit": "trial: os._exit",
        "MemoryError": "trial: MemoryError",
        "exception": "trial: exception",
    },
    "confirm": {
        "leaks": "trial: leaks memory of its device",
        "zeroed-checkpoint": "long run: zeroed checkpoint",
        "vanished-checkpoint": "long run: vanished checkpoint",
        "SIGKILL": "long run: trial SIGKILL",
        "full-disk": "long run: full disk, checkpoint",
    },
}
TOLD = ("its worker was lost: its process died", "it starts anew", "no sign of life", "out of memory", "can't be saved")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    laboratory = Laboratory(tmp_path_factory.mktemp("laboratory"))
    yield laboratory
    for name in ("diverged", "struck"):
        laboratory.leaves_nobody(laboratory.home / name)


def test_runs_without_numbers_have_diverged_and_a_dead_control_service_is_one_sentence(lab: Laboratory) -> None:
    folder = lab.home / "diverged"
    stops(lab, folder, "gcs_server", "between stages", TRIAL_FAULT="nan-loss:tune")
    assert len(read_records(folder)) >= int(MOMENTS["between stages"].split()[-1])
    all_diverged(folder, "tune")


def test_a_study_whose_workers_are_struck_again_and_again_ends_as_if_nothing_had_been(lab: Laboratory) -> None:
    """And near its end Ray's own raylet is killed."""
    folder, memory = lab.home / "struck", little_memory()
    faults = {stage: " ".join(whats) for stage, whats in STRUCK.items()}
    if not memory:
        faults["tune"] = faults["tune"].replace("eats ", "")
    ended = with_faulty_trials(
        lab, folder, faults, "--hang-after", "20", command=SLICED, FAULT_RETRIES="20",
        FAULT_AT="/records/ 10", FAULT_DO="raylet", **memory,
    )  # fmt: skip
    told = " ".join(ended.output.split())
    assert all(sentence in told for sentence in TOLD), told
    assert "memory of its node was short" in told or not memory
    assert ended.code == 2
    one_sentence(ended)
    [failed] = [record for record in read_records(folder).values() if record.status == "failed"]
    assert "a bug of the user's" in (failed.error or "")
    go_on(lab, folder, "--retry-failed", command=INLINE)


def test_every_row_of_the_matrix_is_struck_in_this_suite() -> None:
    names = [(case.fault, moment) for case in cases() for moment in case.moments]
    assert len(set(names)) == len(names) > 70
    here = {row for whats in STRUCK.values() for row in whats.values()}
    here |= {"trial: SIGKILL", "Ray: SIGKILL of the GCS", "Ray: SIGKILL of the raylet", "NaN in the loss, under Ray"}
    assert {fault for fault, _ in names} == here | test_drivers.ROWS
