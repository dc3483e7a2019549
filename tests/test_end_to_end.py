"""The whole pipeline on real data: spec → Ray → records → frame → findings → report."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from study.plan.replicates import replicate_of
from study.plan.selection import preferred_of
from study.records import RunRecord
from study.specs.contenders import trials_at
from study.store.results import Study, load

pytestmark = pytest.mark.ray
COMMAND = [sys.executable, "-m", "study.run"]
RUN_S = 1800  # ends what never would; how long a study takes on a busy machine is no law


def run_study(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=RUN_S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end")


@pytest.fixture(scope="module")
def smoke(folder: Path) -> Study:
    done = run_study("smoke", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.rstrip().splitlines()[-1] == str(Path("results/smoke/report.html"))
    assert "Ray dashboard: http://127.0.0.1:" in done.stdout
    return load(folder / "results" / "smoke")


def test_every_run_has_one_record_and_one_status(smoke: Study) -> None:
    assert smoke.findings.counts.planned == len(smoke.records)
    assert smoke.findings.counts.finished
    assert {record.status for record in smoke.records} == {"completed"}
    assert {record.spec_hash for record in smoke.records} == {smoke.spec.hash}


def test_the_test_set_is_measured_in_confirm_alone(smoke: Study) -> None:
    """And there for the weights of each kind that the run's own validation prefers, and no others."""
    tune = smoke.frame[smoke.frame["stage"] == "tune"]
    assert tune[["test_loss", "test_score"]].isna().all(axis=None)
    for record in smoke.records:
        if record.job.stage == "confirm":
            at_end = [m for m in record.measurements if m.epoch == record.job.epochs]
            tested = {m.weights for m in at_end if m.test_score is not None}
            assert tested == {m.weights for m in preferred_of(record).by_kind.values()}
            assert all(None not in (m.train_loss, m.test_loss) for m in at_end if m.weights in tested)


def test_one_run_answers_for_every_start_and_the_best_epoch(smoke: Study) -> None:
    tune = smoke.frame[smoke.frame["final"] & (smoke.frame["stage"] == "tune")]
    for _, rows in tune.groupby("run_id"):
        starts = {f"swa@{start:g}" for start in (*smoke.spec.average_starts, rows["average_start"].iloc[0])}
        assert set(rows["weights"]) == {"last", "best"} | starts


def test_every_replicate_has_seeds_and_a_test_part_of_its_own(smoke: Study) -> None:
    for number in range(1, smoke.spec.replicates + 1):
        planned = replicate_of(smoke.spec, number)
        jobs = [record.job for record in smoke.records if record.replicate == number]
        assert {job.test_seed for job in jobs} == {planned.test}
        assert {job.seed for job in jobs if job.stage == "tune"} == {planned.tune}
        assert {job.seed for job in jobs if job.stage == "confirm"} == {*planned.confirm}


def test_costs_are_those_of_the_plan(smoke: Study) -> None:
    steps = 4 * (400 // 100)
    for record in smoke.records:
        passes = 2 if record.job.rho > 0 else 1
        assert record.gradient_evaluations == steps * 100 * passes * record.job.epochs_factor
        assert record.forward_evaluations > 0


def test_the_parquet_file_is_the_frame(smoke: Study) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(smoke.folder / "runs.parquet"), smoke.frame, check_dtype=False)


def test_every_method_has_its_optuna_study(smoke: Study) -> None:
    storage = f"sqlite:///{smoke.folder / 'optuna.db'}"
    summaries = {s.study_name: s.n_trials for s in optuna.get_all_study_summaries(storage)}
    trials = {"": smoke.spec.search.trials, " 2x epochs": trials_at(smoke.spec, 2.0)}
    served = {"": ("SGD last", "SGD best", "SWA", "SAM", "WASAM"), " 2x epochs": ("SGD last", "SGD best", "SWA")}
    assert summaries == {
        f"digits | {role}{longer} | replicate {number}": trials[longer]
        for longer, roles in served.items()
        for role in roles
        for number in range(1, smoke.spec.replicates + 1)
    }


def test_two_replicates_give_no_verdict(smoke: Study) -> None:
    assert {effect.unit for effect in smoke.findings.effects} == {"replicate"}
    assert {effect.verdict for effect in smoke.findings.effects} == {"insufficient data"}


def test_the_report_stands_alone(smoke: Study) -> None:
    report = (smoke.folder / "report.html").read_text(encoding="utf-8")
    assert smoke.spec.question in report
    assert str(smoke.folder) not in report
    words = re.sub(r"[A-Za-z0-9+/=]{100,}", "", report)  # the packed plotly.js holds any short name by chance
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", words)


def test_a_study_that_was_killed_in_its_second_replicate_ends_with_the_same_bits(smoke: Study, folder: Path) -> None:
    """The same records but for seconds, and the same findings."""
    out = folder / "killed"
    driver = subprocess.Popen([*COMMAND, "smoke", "--out", str(out), "--quiet"], cwd=folder, start_new_session=True)
    first = sum(record.replicate == 1 for record in smoke.records)
    while len(list(out.glob("records/*.json"))) <= first:
        assert driver.poll() is None
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    left = len(list(out.glob("records/*.json")))
    assert first < left < len(smoke.records)
    done = run_study("--resume", out, cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    again = load(out)
    assert {record.run_id: measured(record) for record in again.records} == {
        record.run_id: measured(record) for record in smoke.records
    }
    assert (out / "findings.json").read_text() == (smoke.folder / "findings.json").read_text()


def measured(record: RunRecord) -> dict[str, Any]:
    """All of a record but the seconds."""
    return record.model_dump(exclude={"train_s", "evaluate_s", "wall_s"})


def test_a_finished_study_trains_nothing(smoke: Study, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (smoke.folder / "records").iterdir()}
    done = run_study("smoke", cwd=folder)
    assert done.returncode == 0
    assert "nothing to train" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (smoke.folder / "records").iterdir()} == before


def test_the_report_is_rebuilt_from_records_alone_and_byte_by_byte(smoke: Study, folder: Path) -> None:
    first = (smoke.folder / "report.html").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "dashboards", str(smoke.folder), "-o", str(folder / "again.html")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "again.html").read_bytes() == first


def test_another_spec_is_refused_and_fresh_renames(smoke: Study, folder: Path) -> None:
    other = folder / "other.toml"
    other.write_text((smoke.folder / "spec.toml").read_text().replace("replicates = 2", "replicates = 2\ndelta = 0.1"))
    refused = run_study(other, cwd=folder)
    assert refused.returncode == 2
    assert "--out" in refused.stderr
    assert "--fresh" in refused.stderr
    assert refused.stderr.count("\n") == 1
