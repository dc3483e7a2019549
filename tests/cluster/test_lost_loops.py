"""Loops of one's own whose workers are killed: on Ray they go on where they had saved, and end with the same bits."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_room import Diary, run_jobs

from study.records import Job, RunRecord
from study.specs.tasks import default_factors

pytestmark = pytest.mark.ray
KINDS = ("loop", "lightning", "huggingface")
TASK = "dying_loops:run"
ALL = ("last", "best", "swa")


def job(kind: str, seed: int, marks: Path | str) -> Job:
    factors = {
        "train_size": 40, "epochs": 3, "batch_size": 10, "hidden": 8, "gradient_accumulation_steps": 2, "kind": kind,
        "marks": str(marks),
    }  # fmt: skip
    return Job(
        stage="confirm", cell=kind, task=TASK, factors=default_factors(TASK) | factors, family="sam", epochs_factor=1,
        learning_rate=0.05, rho=0.05, average_start=0.4, average_starts=(0.5,), seed=seed, test_seed=3, reads=ALL,
        tested_of=ALL, loop=True,
    )  # fmt: skip


Outcome = tuple[dict[str, RunRecord], Diary, Path]


@pytest.fixture(scope="module")
def outcome(ray_cluster: object, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run each kind on Ray, cut into slices of one epoch, its worker killed after the second of three."""
    pytest.importorskip("lightning")
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    marks, diary = tmp_path_factory.mktemp("marks"), Diary()
    jobs = [job(kind, seed, marks) for seed, kind in enumerate(KINDS)]
    records = run_jobs(jobs, marks / "ray", diary=diary, slice_s=1e-6)
    return {record.job.cell: record for record in records.values()}, diary, marks


@pytest.fixture
def _quiet() -> Iterator[None]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(lightning|transformers|accelerate)")
        yield


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_goes_on_where_it_had_saved_and_ends_with_the_same_bits(kind: str, outcome: Outcome) -> None:
    from study.training.trial import run  # noqa: PLC0415  # torch takes seconds to import

    records, diary, marks = outcome
    lost = records[kind]
    assert lost.error is None
    [why] = [why for seed, why in diary.retries() if seed == lost.job.seed]
    assert "its worker was lost" in why
    assert (marks / f"{kind}-WASAM").read_text() == "begun\ngone on\n"
    whole = run(lost.job.model_copy(update={"factors": lost.job.factors | {"marks": ""}}), None, "cpu", "0")
    assert whole.error is None
    assert lost.measurements == whole.measurements
    assert lost.gradient_evaluations == whole.gradient_evaluations > 0
