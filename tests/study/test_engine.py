"""The engine's parts without Ray running: who is retried how, what is killed when, and what travels to workers."""

import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from engine_room import Diary, Jobs, faulty_job

from study.engine.slots import EngineError, Slots
from study.records import RunRecord

DEPLOY = files("study.deploy")
pytestmark = pytest.mark.slow  # Ray takes seconds to import


def failed(error: str) -> RunRecord:
    job = faulty_job(Path("marks"), 0)
    return RunRecord(run_id=job.run_id, spec_hash="0", job=job, status="failed", error=error)


@pytest.mark.parametrize(
    ("last_line", "expected"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.", True),
        ("MemoryError", True),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array", True),
        (
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.",
            True,
        ),
        ("the worker was lost 3 times: Task was killed due to the node running low on memory.", True),
        ("ValueError: Expected more than 1 value per channel", False),
    ],
)
def test_out_of_memory_is_told_by_the_last_line(last_line: str, expected: bool) -> None:
    from study.engine.recorder import out_of_memory  # noqa: PLC0415

    assert out_of_memory(failed(f"Traceback (most recent call last):\n  raise MemoryError\n{last_line}\n")) is expected


def test_torchs_own_out_of_memory_is_known() -> None:
    import torch  # noqa: PLC0415

    from study.engine.recorder import out_of_memory  # noqa: PLC0415

    with pytest.raises(RuntimeError, match="allocate") as caught:
        torch.empty(2**45)
    assert out_of_memory(failed(f"{caught.type.__name__}: {caught.value}".splitlines()[0]))


def test_the_message_names_the_batch_size_and_keeps_the_traceback() -> None:
    from study.engine.recorder import explained  # noqa: PLC0415

    error = explained(failed("Traceback\nMemoryError")).error or ""
    assert error.startswith("Traceback\nMemoryError\n")
    assert "batch_size = 32" in error.splitlines()[-1]


def searcher(count: int) -> Any:
    from study.engine.searcher import AgendaSearcher  # noqa: PLC0415

    jobs = [faulty_job(Path("marks"), seed) for seed in range(count)]
    return AgendaSearcher(Jobs(jobs), Slots(1, 0, 2)), jobs  # type: ignore[arg-type]  # as much of an agenda as is used


def test_a_run_that_must_be_alone_waits_for_the_others_and_they_for_it() -> None:
    asked, jobs = searcher(3)
    assert [asked.suggest(name)["job"]["seed"] for name in ("a", "b")] == [0, 1]
    asked.again_alone(asked.end("a"))
    assert asked.suggest("c") is None  # b is under way
    asked.end("b")
    again = asked.suggest("c")
    assert (again["job"]["seed"], again["alone"], asked.ran_alone("c")) == (0, True, True)
    assert asked.suggest("d") is None  # c is alone
    assert asked.end("c") == jobs[0]
    last = asked.suggest("d")
    assert (last["job"]["seed"], last["alone"]) == (2, False)


def test_the_search_is_finished_when_every_run_has_its_record() -> None:
    asked, [job] = searcher(1)
    asked.suggest("a")
    assert asked.suggest("b") is None
    asked.end("a")
    asked._agenda.complete(failed("").model_copy(update={"run_id": job.run_id}))
    assert asked.suggest("b") == "FINISHED"


def test_a_trial_is_killed_after_the_limit_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from study.engine import watch as module  # noqa: PLC0415

    now, killed = [0.0], []
    monkeypatch.setattr(module.ray, "kill", killed.append)
    watch = module.HangWatch(limit_s=10, clock=lambda: now[0])
    trials = [SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=name)) for name in "abc"]
    a, _, c = trials
    for trial in trials:
        watch.on_trial_start(0, trials, trial)
    now[0] = 6
    watch.on_trial_result(0, trials, a, result={})  # a sign of life
    watch.on_trial_complete(0, trials, c)  # at its end
    now[0] = 10
    watch.on_step_end(0, trials)
    assert killed == []
    now[0] = 12
    watch.on_step_end(0, trials)
    watch.on_step_end(0, trials)
    assert killed == ["b"]  # once, and b alone
    assert watch.why("a") is None
    assert "no sign of life for 10 s" in watch.why("b")
    assert watch.why("b") is None


def test_where_ray_itself_has_died_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from study.engine import cluster  # noqa: PLC0415

    parts = {name: [SimpleNamespace(process=SimpleNamespace(poll=lambda: None))] for name in ("raylet", "gcs_server")}
    parts["log_monitor"] = [SimpleNamespace(process=SimpleNamespace(poll=lambda: 1))]  # nothing depends on it
    monkeypatch.setattr(cluster.worker, "_global_node", SimpleNamespace(all_processes=parts))
    cluster.check_that_ray_lives()
    parts["raylet"][0].process.poll = lambda: -9
    with pytest.raises(EngineError, match=r"raylet has died .* --resume"):
        cluster.check_that_ray_lives()


def test_a_run_goes_on_that_can_be_neither_saved_nor_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    from study.engine.worker import StudyRun, tune  # noqa: PLC0415

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    worker: Any = object.__new__(StudyRun)
    worker._storage, worker._run = None, "half restored"
    monkeypatch.setattr(tune.Trainable, "save", fails)
    assert worker.save().checkpoint is None
    assert "can't be saved (No space left on device)" in worker._note
    monkeypatch.setattr(tune.Trainable, "restore", fails)
    worker.restore("a checkpoint")
    assert worker._run is None
    assert "starts anew, because [Errno 28]" in worker._note


def test_a_users_modules_travel_and_installed_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from study.engine.cluster import module_paths  # noqa: PLC0415

    (tmp_path / "one_file.py").touch()
    (tmp_path / "whole_package" / "inner").mkdir(parents=True)
    (tmp_path / "whole_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    tasks = ["digits", "one_file:build", "whole_package.inner.module:build", "one_file:other", "numpy.random:build"]
    assert module_paths(tasks) == [tmp_path / "one_file.py", tmp_path / "whole_package"]
    with pytest.raises(EngineError, match="no module 'nowhere'"):
        module_paths(["nowhere:build"])


@pytest.mark.parametrize(
    ("ids", "cuda", "share", "device", "allowed"),
    [
        ((), True, 0.0, "cpu", []),  # a trial without a GPU sees the node's all the same
        (("0",), False, 1.0, "cpu", []),  # a GPU that is but a number
        (("3",), True, 0.5, "cuda:0", [0.5]),
        (("0", "1"), True, 2.0, "cuda:0", [1.0]),
    ],
)
def test_the_device_and_its_memory_are_what_was_assigned(
    ids: tuple[str, ...], cuda: bool, share: float, device: str, allowed: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: PLC0415

    from study.engine.worker import _prepared_device  # noqa: PLC0415

    fractions: list[float] = []
    precisions: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", fractions.append)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", precisions.append)
    assert _prepared_device(ids, share) == device
    assert fractions == allowed
    assert precisions == (["high"] if device == "cuda:0" else [])


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    from study.engine.cluster import cluster  # noqa: PLC0415

    with (
        pytest.raises(EngineError, match="no Ray cluster answers there"),
        cluster("127.0.0.1:1"),
    ):
        pass


class Controller:
    """As much of Tune's controller as the scheduler asks for."""

    def __init__(self) -> None:
        from ray.tune.utils.object_cache import _ObjectCache  # noqa: PLC0415

        self._actor_cache = _ObjectCache(may_keep_one=True)

    def kept(self) -> int:
        """Return how many of two actors that end at the same time, with nothing waiting, are kept."""
        for number in range(2):
            self._actor_cache.cache_object("CPU", number)
        list(self._actor_cache.flush_cached_objects())
        kept = self._actor_cache.num_cached_objects
        while self._actor_cache.pop_cached_object("CPU") is not None:
            pass
        return kept


def test_actors_without_work_are_kept_unless_a_run_goes_alone() -> None:
    from study.engine.searcher import KeepsActors  # noqa: PLC0415

    together, alone = (
        SimpleNamespace(config={"alone": number}, placement_group_factory=request)
        for number, request in ((0, "CPU"), (1, "CPU and memory"))
    )
    scheduler, controller = KeepsActors(most=2), Controller()
    assert controller.kept() == 1  # Tune's own way
    for _ in range(2):
        scheduler.on_trial_complete(controller, together, {})
        assert controller.kept() == 2
        scheduler.on_trial_add(controller, alone)
        assert controller.kept() == 1
        scheduler.on_trial_complete(controller, alone, {})
        assert controller.kept() == 1  # the next may go alone, too
    assert scheduler.choose_trial_to_run(controller) is None
    KeepsActors(most=0).on_trial_complete(controller, together, {})
    assert controller.kept() == 1


def test_a_run_whose_kept_actor_had_died_is_handed_out_again() -> None:
    """Tune then counts one loss twice and gives the trial up; three losses fail a run, as ever."""
    from study.engine.recorder import RETRIES, Recorder  # noqa: PLC0415
    from study.engine.watch import HangWatch  # noqa: PLC0415

    asked, jobs = searcher(1)
    diary, taken = Diary(), []
    recorder = Recorder(asked, HangWatch(1.0), lambda record, _: taken.append(record), [diary], "0")
    for number in range(RETRIES):
        trial = SimpleNamespace(
            trial_id=str(number), error_file=None,
            run_metadata=SimpleNamespace(metric_analysis={}, metric_n_steps={}),
        )  # fmt: skip
        assert asked.suggest(trial.trial_id)["job"]["seed"] == jobs[0].seed
        recorder.on_trial_recover(0, [], trial)
        assert not taken
        recorder.on_trial_error(0, [], trial)
    assert [record.status for record in taken] == ["failed"]
    assert "lost 3 times" in taken[0].error
    assert not asked.under_way
    assert len(diary.retries()) == RETRIES + 1


def test_what_workers_import_ahead_does_not_look_for_gpus() -> None:
    """A worker's GPUs are known when it gets a run: asking CUDA before that would fix those that it sees."""
    from study.engine.start import PRELOADED  # noqa: PLC0415

    code = f"""
import importlib, torch
def refuse(*_): raise SystemExit("CUDA was asked")
for name in ("_cuda_getDeviceCount", "_cuda_init"):
    if hasattr(torch._C, name):
        setattr(torch._C, name, refuse)
for name in {PRELOADED!r}:
    importlib.import_module(name)
assert not torch.cuda.is_initialized()
print("quiet")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "quiet\n"


def test_a_tasks_module_that_is_not_there_is_one_sentence() -> None:
    from study.engine.cluster import cluster  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as somebody:
        address = f"127.0.0.1:{somebody.getsockname()[1]}"
        with pytest.raises(EngineError, match="there is no module 'nowhere'"), cluster(address, ["nowhere:build"]):
            pass


def test_rays_own_schema_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config  # noqa: PLC0415

    config = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    validate_config(prepare_config(config))
    assert config["available_node_types"]["gpu"]["min_workers"] == config["max_workers"]


def test_the_slurm_script_is_valid_bash_and_starts_the_study(tmp_path: Path) -> None:
    """Run it with stand-ins for Slurm and Ray, which write down how they were called."""
    called = tmp_path / "called"
    for name, body in {
        "scontrol": "printf 'n1\\nn2\\nn3\\n'",
        "srun": f'echo "srun $*" >> {called}; case "$*" in *hostname*) echo "10.0.0.1 10.0.0.2";; esac',
        "python": 'case "$*" in *token_hex*) echo t0ken;; *ray.init*) echo 3;; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURM_CPUS_PER_TASK": "8", "SLURM_GPUS_ON_NODE": "2",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(DEPLOY / "slurm.sh"), "my.toml", "--out", "/shared/my study"],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = called.read_text()
    assert calls.count("ray start --block --num-cpus=8 --num-gpus=2") == 3
    assert calls.count("--head --node-ip-address=10.0.0.1 --port=20007") == 1
    assert calls.count("--address=10.0.0.1:20007") == 2
    assert "python -m study.run my.toml --out /shared/my study --address 10.0.0.1:20007 --storage" in calls


def test_a_workers_start_does_not_import_what_only_the_driver_needs() -> None:
    code = "import sys, study.training.trial; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "torchvision", "ray", "optuna", "scipy.ndimage"} & set(done.stdout.split())
