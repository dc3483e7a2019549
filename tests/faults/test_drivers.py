"""The fault matrix in little, without Ray: what strikes drivers and their files. `test_faults` has the rest.

One study is struck in one way after the other, and ends as if nothing had been.
"""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from faults.laboratory import INLINE, Laboratory
from faults.strikes import (
    all_diverged,
    all_skipped,
    damage,
    dies,
    ended_well,
    go_on,
    named,
    one_sentence,
    refused,
    stops,
    tried_twice,
    with_faulty_trials,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes and files are watched through /proc"),
]
ROWS = {
    "driver: SIGKILL", "driver: SIGTERM", "driver: Ctrl-C", "driver: SIGHUP", "clock goes back a day",
    "full disk, record and findings", "full disk, database", "folder vanishes", "folder read-only", "two drivers",
    "damaged record", "damaged spec", "damaged optuna.db and views",
    "inf in the loss", "nan in the metric", "inf in the metric", "nan in the gradient",
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("laboratory"), INLINE)


def test_a_study_whose_driver_is_struck_in_every_way_ends_as_if_nothing_had_been(lab: Laboratory) -> None:
    folder = lab.home / "struck"
    dies(lab, folder, str(int(signal.SIGTERM)), 128 + signal.SIGTERM, "spec is written")
    assert not folder.exists()  # there is nothing in it to go on with
    dies(lab, folder, str(int(signal.SIGKILL)), -signal.SIGKILL, "spec is written")
    dies(lab, folder, f"clock;{int(signal.SIGTERM)}", 128 + signal.SIGTERM, "first record", "in tune")
    named(lab, folder / "spec.toml", b"")
    named(lab, min(folder.glob("records/*.json")), b"{")
    with suppress(NotImplementedError):  # root, where files can't be made immutable
        refused(lab, folder)
    short_of_space = f"full disk for the database;{int(signal.SIGHUP)}"
    dies(lab, folder, short_of_space, 128 + signal.SIGHUP, "in tune", "between stages")
    stops(lab, folder, "full disk", "between stages")
    dies(lab, folder, "group-ctrl-c", 128 + signal.SIGINT, "in confirm")
    stops(lab, folder, "vanish", "second replicate")
    tried_twice(lab, folder, ("second replicate", "report is written"))
    damage(folder, "optuna.db", "findings.json", "runs.parquet")
    go_on(lab, folder)
    lab.leaves_nobody(folder)


def test_a_folder_that_is_moved_while_a_view_is_written_does_not_come_back(lab: Laboratory) -> None:
    folder = lab.home / "moved"
    ended = lab.start(folder, FAULT_AT="/tensorboard/ 1", FAULT_DO="vanish")
    assert ended.code == 2
    assert not folder.exists()
    one_sentence(ended)
    assert "the results folder has vanished while its study ran" in ended.errors


def test_numbers_that_are_none_never_end_a_study(lab: Laboratory) -> None:
    def strike(name: str, **faults: str) -> Path:
        ended_well(with_faulty_trials(lab, lab.home / name, faults))
        return lab.home / name

    with ThreadPoolExecutor(2) as pool:
        infinite = pool.submit(strike, "infinite", tune="inf-loss", confirm="nan-metric")
        skipped = pool.submit(strike, "skipped", tune="inf-metric", confirm="nan-gradient")
    for stage in ("tune", "confirm"):
        all_diverged(infinite.result(), stage)
    all_diverged(skipped.result(), "tune")
    all_skipped(skipped.result(), "confirm")
