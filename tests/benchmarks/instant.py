"""Runs that take no time: their records are ready at once, so that what is left is the driver's and Ray's own."""

import base64
import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.result import SHOULD_CHECKPOINT

from study.engine.worker import StudyRun
from study.plan.cells import gradient_evaluations
from study.plan.selection import preferred_at
from study.records import Job, Measurement, RunRecord
from study.specs.spec import StudySpec

CONFIRM_SEEDS = 5
METHODS_PER_FAMILY = 2


def spec_of(runs: int, per_cell: int | None = None) -> StudySpec:
    """Return a study of about ``runs`` runs of four methods at equal epochs; every fifth or so is a confirm run.

    Args:
        runs: In all, at least.
        per_cell: Tune runs of one cell; None puts all into one cell.
    """
    tuned = max(2, runs - 2 * CONFIRM_SEEDS) if per_cell is None else per_cell
    trials = min(10_000, -(-tuned // 2))
    cells = 1 if per_cell is None else max(1, -(-runs // (2 * trials + 2 * CONFIRM_SEEDS)))
    noise = [round(0.4 * number / max(cells, 2), 9) for number in range(cells)]
    return StudySpec.model_validate(
        {
            "name": "instant", "question": "What does a run cost that costs nothing?", "budgets": ["E"],
            "primary_budget": "E", "replicates": 1, "confirms": CONFIRM_SEEDS, "search": {"trials": trials},
            "problems": [{"task": "digits", "factors": {"label_noise": noise, "epochs": 15}}],
        }
    )  # fmt: skip


def ready_record(job: Job, spec_hash: str) -> RunRecord:
    """Return a record as a real run leaves it, as long as one, with scores made of the run's id."""
    confirm = job.stage == "confirm"
    found = [_measurement(job, name, job.epochs) for name in ("last", *job.averages)]
    if "best" in job.reads:
        found.insert(1, replace(found[0], weights="best", weights_epoch=job.epochs))
    if confirm:
        tested = {one.weights for one in preferred_at(found, job.epochs).by_kind.values()}
        found = [_tested(one) if one.weights in tested else one for one in found]
    if confirm or "best" in job.reads:
        found = [_measurement(job, "last", epoch) for epoch in range(1, job.epochs)] + found
    return RunRecord(
        run_id=job.run_id, spec_hash=spec_hash, job=job, status="completed", measurements=tuple(found),
        gradient_evaluations=gradient_evaluations(job), forward_evaluations=5_000, train_s=1.0, evaluate_s=0.1,
        wall_s=1.1, device="cpu", versions={"torch": "2.14.1", "numpy": "2.3.5", "ray": "2.60.0", "optuna": "5.0.0"},
    )  # fmt: skip


def _measurement(job: Job, weights: str, epoch: int) -> Measurement:
    digest = hashlib.sha256(f"{job.run_id} {weights} {epoch}".encode()).digest()
    score = 0.5 + int.from_bytes(digest[:4], "big") / 2**33
    return Measurement(weights=weights, epoch=epoch, val_score=score, val_loss=1.0 - score, val_calibration_error=0.01)


def _tested(one: Measurement) -> Measurement:
    score, loss = one.val_score, one.val_loss
    return replace(
        one, test_score=score, test_loss=loss, test_calibration_error=0.01, train_score=score, train_loss=loss
    )


class InstantRun(StudyRun):
    """The study's actor with its own way to and from Tune, and no training in between; it needs no torch."""

    def setup(self, config: dict[str, Any], data: Any, spec_hash: str, slice_s: float, checkpoints: bool) -> None:
        """Take what the study's actor takes."""
        self._spec_hash, self._checkpoints = spec_hash, checkpoints
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Point the actor at its next job."""
        self._job, self._slices = Job.model_validate(new_config["job"]), 0
        return True

    def step(self) -> dict[str, Any]:
        """Report the record at once."""
        record = ready_record(self._job, self._spec_hash)
        return {"record": record.model_dump_json(), "weights": base64.b64encode(b"").decode(), "done": True,
                SHOULD_CHECKPOINT: False}  # fmt: skip


class WaitingRun(InstantRun):
    """A run that waits ``BENCH_WAIT_S`` in all, in ``BENCH_SLICES`` slices that end with a report and a checkpoint."""

    def step(self) -> dict[str, Any]:
        """Wait for the length of a slice."""
        slices = int(os.environ["BENCH_SLICES"])
        time.sleep(float(os.environ["BENCH_WAIT_S"]) / slices)
        self._slices += 1
        return super().step() if self._slices == slices else {"done": False, SHOULD_CHECKPOINT: True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a small file: its size is the storage's matter, not the driver's."""
        (Path(checkpoint_dir) / "run.pt").write_bytes(bytes(1000))
