"""A run that was interrupted ends with the same bits; a checkpoint that isn't its own is refused and runs no code."""

import io
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from matrices import crossed

from study.data import Pool, load_data
from study.records import Job, RunRecord
from study.specs.methods import FAMILIES
from study.specs.tasks import default_factors
from study.training.checkpoint import CHECKPOINT_VERSION, CheckpointError, read_checkpoint, write_checkpoint
from study.training.trial import Run

EPOCHS = 4
CPU = torch.device("cpu")
SMALL = {"train_size": 60, "batch_size": 20, "epochs": EPOCHS, "width": 0.25, "ascent_batch": 5, "label_noise": 0.2}
JOB = Job(
    stage="confirm", cell="digits", task="digits", factors=default_factors("digits") | SMALL, family="base",
    epochs_factor=1, learning_rate=0.05, rho=0.0, average_start=0.3, average_starts=(0.5,), ema_decays=(0.9,),
    lawa_windows=(2,), seed=1000, reads=("last", "best", "swa", "ema", "lawa"), replicate=3, test_seed=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Pool:
    return load_data("digits")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def job(family: str = "base", **changes: Any) -> Job:
    factors = JOB.factors | changes.pop("factors", {})
    rho = 0.1 if FAMILIES[family].rule else 0.0
    return JOB.model_copy(update={"family": family, "rho": rho, "factors": factors} | changes)


def new_run(one: Job, pool: Pool) -> Run:
    return Run(one, pool, "cpu", "0")


def undisturbed(one: Job, pool: Pool) -> Run:
    run = new_run(one, pool)
    assert run.advance()
    return run


def interrupted(one: Job, pool: Pool, after: Iterable[int] = range(1, EPOCHS)) -> Run:
    """Go on in a new `Run` after each of the given epochs; torch's own random state is disturbed in between."""
    run, stops = new_run(one, pool), set(after)
    for epoch in range(1, EPOCHS):
        assert not run.advance(0)
        if epoch in stops:
            state = run.state()
            torch.manual_seed(epoch)
            run = new_run(one, pool)
            run.restore(state)
    assert run.advance()
    return run


def measured(record: RunRecord) -> dict[str, Any]:
    """All of a record but the seconds."""
    return record.model_dump(exclude={"train_s", "evaluate_s", "wall_s"})


def held(run: Run, one: Job) -> dict[str, Any]:
    """All that a run knows at its end, but the seconds: weights, averages, optimizer, random streams."""
    return {name: part for name, part in read_checkpoint(one.run_id, run.state(), CPU).items() if name != "seconds"}


def same(first: Any, second: Any) -> bool:
    """Compare nested states bit by bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and list(first) == list(second) and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and (first == second or first != first)


def assert_same_end(first: Run, second: Run, one: Job) -> None:
    assert first.record().status == "completed"
    assert measured(first.record()) == measured(second.record())
    assert same(held(first, one), held(second, one))
    assert first.weights() == second.weights()


@crossed(family=FAMILIES, schedule=["cosine", "constant"], augmentation=[0.7, 0.0])
def test_a_run_interrupted_after_every_epoch_ends_with_the_same_bits(
    digits: Pool, family: str, schedule: str, augmentation: float
) -> None:
    one = job(family, factors={"schedule": schedule, "augmentation": augmentation})
    assert_same_end(undisturbed(one, digits), interrupted(one, digits), one)


@crossed(
    factors=[
        {"norm": "group"}, {"norm": "none"}, {"model": "mlp"}, {"precision": "bfloat16"}, {"label_smoothing": 0.1},
    ],
    family=["base", "sam"],
)  # fmt: skip
def test_whatever_the_network_and_the_loss(digits: Pool, family: str, factors: dict[str, Any]) -> None:
    one = job(family, factors=factors)
    assert_same_end(undisturbed(one, digits), interrupted(one, digits), one)


@pytest.mark.slow
@settings(
    deadline=None, max_examples=12, derandomize=True, phases=[Phase.explicit, Phase.generate],  # shrinking trains
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    seed=st.integers(0, 2**31),
    stops=st.sets(st.integers(1, EPOCHS - 1)),
    starts=st.sets(st.floats(0.05, 0.95), max_size=3),
    schedule=st.sampled_from(["cosine", "constant"]),
    stage=st.sampled_from(["tune", "confirm"]),
)
def test_whatever_the_seed_the_averages_and_the_epochs(
    digits: Pool, family: str, seed: int, stops: set[int], starts: set[float], schedule: str, stage: str
) -> None:
    one = job(family, seed=seed, average_starts=tuple(sorted(starts)), stage=stage, factors={"schedule": schedule})
    assert_same_end(undisturbed(one, digits), interrupted(one, digits, stops), one)


@pytest.mark.slow
def test_probes_and_kept_weights_are_the_same(digits: Pool) -> None:
    one = job("sam", probed=("last", "swa"))
    whole = undisturbed(one, digits)
    assert whole.weights()
    assert_same_end(whole, interrupted(one, digits), one)


@pytest.mark.parametrize("stage", ["tune", "confirm"])
@pytest.mark.parametrize("after", range(1, EPOCHS))
def test_the_best_epoch_is_kept_over_a_break_at_any_epoch(digits: Pool, after: int, stage: str) -> None:
    """Before the best epoch, at it and after it."""
    ends = set()
    for seed in (1, 2, 7):
        one = job(learning_rate=0.1, seed=seed, stage=stage, factors={"schedule": "constant", "label_noise": 0.4})
        whole = undisturbed(one, digits)
        assert_same_end(whole, interrupted(one, digits, [after]), one)
        (best,) = (m for m in whole.record().measurements if m.weights == "best")
        ends.add(best.weights_epoch)
    assert len(ends) > 1


def test_a_checkpoint_holds_the_best_weights_in_confirm_alone(digits: Pool) -> None:
    """In tune they are never looked at again, so nothing is copied."""
    for stage in ("tune", "confirm"):
        one = job(stage=stage)
        run = new_run(one, digits)
        run.advance(0)
        kept = read_checkpoint(one.run_id, run.state(), CPU)
        assert kept["best_state"].keys() == (kept["model"].keys() if stage == "confirm" else set())
        assert all(torch.equal(kept["model"][name], value) for name, value in kept["best_state"].items())


def test_a_run_that_diverges_after_a_break_diverges_alike(digits: Pool) -> None:
    one = job(learning_rate=1e6, factors={"model": "mlp"})
    run = new_run(one, digits)
    assert run.advance()
    again = new_run(one, digits)
    again.restore(new_run(one, digits).state())
    assert again.advance()
    assert run.record().status == "diverged"
    assert {m.weights for m in run.record().measurements} == {"last", "best", *one.averages}
    assert measured(run.record()) == measured(again.record())


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
import torch
from study.records import Job
from study.data import load_data
from study.training.trial import Run
torch.set_num_threads(1)
folder = Path(sys.argv[1])
job = Job.model_validate_json((folder / "job.json").read_text())
run = Run(job, load_data("digits"), "cpu", "0")
run.restore((folder / "state").read_bytes())
assert run.advance()
(folder / "record.json").write_text(run.record().model_dump_json())
(folder / "weights").write_bytes(run.weights())
"""


@pytest.mark.slow
def test_another_process_ends_it_with_the_same_bits(digits: Pool, tmp_path: Path) -> None:
    one = job("sam", probed=("last",), factors={"augmentation": 0.5})
    whole, first_half = undisturbed(one, digits), new_run(one, digits)
    for _ in range(2):
        assert not first_half.advance(0)
    (tmp_path / "job.json").write_text(one.model_dump_json())
    (tmp_path / "state").write_bytes(first_half.state())
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)], check=True)
    record = RunRecord.model_validate_json((tmp_path / "record.json").read_text())
    assert measured(record) == measured(whole.record())
    assert (tmp_path / "weights").read_bytes() == whole.weights()


@pytest.fixture(scope="module")
def state(digits: Pool) -> bytes:
    run = new_run(JOB, digits)
    run.advance(0)
    return run.state()


def test_the_checkpoint_of_another_run_is_refused(digits: Pool, state: bytes) -> None:
    other = job(seed=1001)
    run = new_run(other, digits)
    with pytest.raises(CheckpointError, match=f"belongs to run {JOB.run_id}, not to {other.run_id}"):
        run.restore(state)
    assert run.advance()
    assert measured(run.record()) == measured(undisturbed(other, digits).record())  # it is as it was


@pytest.mark.parametrize("version", [1, CHECKPOINT_VERSION + 1])
def test_the_checkpoint_of_another_version_is_refused(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1 had no best epoch; a run that went on from it would forget those that it has seen."""
    assert CHECKPOINT_VERSION > 1
    monkeypatch.setattr("study.training.checkpoint.CHECKPOINT_VERSION", version)
    other = write_checkpoint("run", {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=rf"version {version}, and this program reads {CHECKPOINT_VERSION}"):
        read_checkpoint("run", other, CPU)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(state: bytes, share: float) -> None:
    with pytest.raises(CheckpointError, match="start the run anew"):
        read_checkpoint(JOB.run_id, state[: int(len(state) * share)], CPU)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.binary(max_size=300))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="start the run anew"):
        read_checkpoint("run", content, CPU)


@settings(
    deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_not_one_flipped_byte_gets_through(state: bytes, position: float, flip: int) -> None:
    damaged = bytearray(state)
    damaged[int(position * len(damaged))] ^= flip
    with pytest.raises(CheckpointError, match="start the run anew"):
        read_checkpoint(JOB.run_id, bytes(damaged), CPU)


class Bomb:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "was-here"
    bomb = {"version": CHECKPOINT_VERSION, "run_id": "run", "state": Bomb(mark)}
    zipped = io.BytesIO()
    torch.save(bomb, zipped)
    sealed = write_checkpoint("run", {"state": Bomb(mark)})
    for content in (zipped.getvalue(), pickle.dumps(bomb), sealed):
        with pytest.raises(CheckpointError):
            read_checkpoint("run", content, CPU)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))  # the bomb itself works
    assert mark.exists()


def test_values_survive_a_checkpoint() -> None:
    content = {"weights": torch.tensor([math.inf, -0.0, 1e-45]), "numbers": [1, 2.5, "text", None, True]}
    assert same(read_checkpoint("run", write_checkpoint("run", content), CPU), content)
