"""The whole pipeline on real data: spec → Ray → records → frame → findings → report."""

import os
import re
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest

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
    tune = smoke.frame[smoke.frame["stage"] == "tune"]
    assert tune[["test_loss", "test_score"]].isna().all(axis=None)
    final = smoke.frame[(smoke.frame["stage"] == "confirm") & smoke.frame["final"]]
    assert final[["train_loss", "val_score", "test_loss", "test_score"]].notna().all(axis=None)


def test_one_run_answers_for_every_start(smoke: Study) -> None:
    tune = smoke.frame[smoke.frame["final"] & (smoke.frame["stage"] == "tune")]
    for _, rows in tune.groupby("run_id"):
        starts = {f"swa@{start:g}" for start in (*smoke.spec.average_starts, rows["average_start"].iloc[0])}
        assert set(rows["weights"]) == {"last"} | starts


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
    assert summaries == {
        **{f"digits | {method}": smoke.spec.search.trials for method in smoke.spec.methods},
        "digits | SGD 2x epochs": smoke.spec.search.trials,
    }


def test_two_seeds_give_no_verdict(smoke: Study) -> None:
    assert {effect.verdict for effect in smoke.findings.effects} == {"insufficient data"}


def test_the_report_stands_alone(smoke: Study) -> None:
    report = (smoke.folder / "report.html").read_text(encoding="utf-8")
    assert smoke.spec.question in report
    assert str(smoke.folder) not in report
    words = re.sub(r"[A-Za-z0-9+/=]{100,}", "", report)  # the packed plotly.js holds any short name by chance
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", words)


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
    other.write_text(
        (smoke.folder / "spec.toml").read_text().replace("confirm_seeds = 2", "confirm_seeds = 2\ndelta = 0.1")
    )
    refused = run_study(other, cwd=folder)
    assert refused.returncode == 2
    assert "--out" in refused.stderr
    assert "--fresh" in refused.stderr
    assert refused.stderr.count("\n") == 1
