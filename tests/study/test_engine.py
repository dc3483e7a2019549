"""The engine's parts without Ray running: who is retried how, what is killed when, and what travels to workers."""

import os
import socket
import subprocess
import sys
import traceback
from concurrent.futures import Future
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from engine_room import Diary, Jobs, faulty_job

from study.engine.lost_workers import explained, lost_worker, out_of_memory
from study.engine.slots import EngineError, Slots
from study.records import RunRecord

DEPLOY = files("study.deploy")
DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: StudyRun
\tactor_id: 07db86338f9b8ba9664497cc01000000
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called."""
SHORT_OF_MEMORY = """2 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, \
ID: 8258) was {used}GB used / 23.54GB limit (0.951)
OOM kill reason: Memory usage 24030322432B exceeded threshold of 24012684697B (95.0% of 25276510208B limit)
Ray killed 2 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Actor(f0ea): job ID=01, task name=StudyRun.__init__, pid=1, actual memory used=0.04GB, worker ID=1f)
Selected to kill: (Actor(af30): job ID=01, task name=StudyRun.__init__, pid=2, actual memory used={own}GB, worker ID=24)
]
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
2\t{own}\tray::StudyRun.train
"""
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
    assert out_of_memory(failed(f"Traceback (most recent call last):\n  raise MemoryError\n{last_line}\n")) is expected


def test_torchs_own_out_of_memory_is_known() -> None:
    import torch  # noqa: PLC0415

    with pytest.raises(RuntimeError, match="allocate") as caught:
        torch.empty(2**45)
    assert out_of_memory(failed(f"{caught.type.__name__}: {caught.value}".splitlines()[0]))


def test_the_message_names_the_batch_size_and_keeps_the_traceback() -> None:
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


class Watched:
    """Three trials under a watch with a limit of 8 s, on a clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from study.engine import watch as module  # noqa: PLC0415

        self.now_s, self.killed, self.cpu = 0.0, [], dict.fromkeys("abc", 5.0)
        self.looks: list[str] = []
        monkeypatch.setattr(module.ray, "kill", self.killed.append)
        self.watch = module.HangWatch(8, clock=lambda: self.now_s, cpu_seconds_of=self.cpu_seconds_of)
        self.trials = [
            SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=name)) for name in self.cpu
        ]
        for trial in self.trials:
            self.watch.on_trial_start(0, self.trials, trial)

    def cpu_seconds_of(self, actor: str) -> Future[float]:
        self.looks.append(actor)
        answer: Future[float] = Future()
        if self.cpu[actor] >= 0:
            answer.set_result(self.cpu[actor])
        return answer

    def wait(self, seconds: float, share: float = 0.0, every_s: float = 0.25) -> None:
        """Let time pass in which trial a uses a share of a core; all use a little, as Ray's threads do."""
        for _ in range(round(seconds / every_s)):
            self.now_s += every_s
            self.cpu = {name: cpu and cpu + 0.002 * every_s for name, cpu in self.cpu.items()}
            self.cpu["a"] += share * every_s
            self.watch.on_step_end(0, self.trials)


def test_a_trial_that_does_nothing_is_killed_after_the_limit_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Watched(monkeypatch)
    a, _, c = room.trials
    room.wait(6)
    room.watch.on_trial_result(0, room.trials, a, result={})  # a sign of life
    room.watch.on_trial_complete(0, room.trials, c)  # at its end
    room.wait(2)
    assert room.killed == []
    room.wait(2)
    assert room.killed == ["b"]  # once, and b alone
    assert room.watch.why("a") is None
    assert "no sign of life for 8 s" in room.watch.why("b")
    assert room.watch.why("b") is None


def test_a_trial_that_is_slow_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fiftieth of a core is what Ray's worker, which is nice, gets where two others want it, too."""
    room = Watched(monkeypatch)
    room.wait(79, share=0.02)
    assert room.killed == ["b", "c"]
    room.wait(10)  # it stops in the middle
    assert room.killed == ["b", "c", "a"]


def test_a_trial_that_is_busy_without_end_is_killed_much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Watched(monkeypatch)
    room.wait(79.5, share=1.0)
    assert "a" not in room.killed
    room.wait(1, share=1.0)
    assert "a" in room.killed
    assert "it was busy for 80 s without a report (10 × --hang-after)" in room.watch.why("a")


def test_a_trial_whose_cpu_time_nobody_tells_has_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Watched(monkeypatch)
    room.cpu["a"] = -1000.0
    room.wait(79.5)
    assert room.killed == ["b", "c"]
    assert room.looks.count("a") == 1  # the answer is waited for
    room.wait(1)
    assert room.killed == ["b", "c", "a"]


def test_a_driver_that_stood_still_kills_nobody_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk was slow, or it was stopped: the reports of that time wait to be heard, one in each step."""
    room = Watched(monkeypatch)
    room.wait(1000, every_s=1000)
    for trial in room.trials:
        room.watch.on_trial_result(0, room.trials, trial, result={})
    room.wait(8)
    assert room.killed == []


def test_cpu_time_is_that_of_all_that_a_process_has_started() -> None:
    from study.engine.watch import cpu_seconds  # noqa: PLC0415

    burn = "import time; [0 for _ in iter(time.process_time, 0) if time.process_time() > .3 and exit()]"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # its child has ended
        assert cpu_seconds(process.pid) >= 0.2  # it is counted in ticks
        process.communicate(b"\n")
    before = cpu_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", burn.replace("exit()", "input()")], stdin=subprocess.PIPE) as process:
        while cpu_seconds(os.getpid()) < before + 0.2:  # while it lives
            assert process.poll() is None
        process.communicate(b"\n")


def test_where_ray_itself_has_died_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from study.engine import ray_health  # noqa: PLC0415

    raylet = tmp_path / "raylet"
    raylet.symlink_to("/bin/sleep")
    monkeypatch.setattr(ray_health.ray, "is_initialized", lambda: True)
    with subprocess.Popen([raylet, "600"]) as process, subprocess.Popen(["sleep", "600"]) as other:
        with subprocess.Popen([raylet, "600"]) as added:  # of a node that was added, as tests do: it may go
            (part,) = parts = ray_health.vital_parts()  # nothing depends on the others
            added.kill()
        other.kill()
        assert (part.pid, parts[part]) == (process.pid, "raylet")
        ray_health.check_that_ray_lives(parts)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and nobody has asked yet
        for _ in range(2):
            with pytest.raises(EngineError, match=r"Ray's raylet has died .* --resume"):
                ray_health.check_that_ray_lives(parts)
            process.wait()
    monkeypatch.setattr(ray_health.ray, "is_initialized", lambda: False)
    ray_health.check_that_ray_lives(parts)  # it was shut down


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


def lost_trial(folder: Path, name: str, text: str) -> Any:
    """Return a trial of Tune's whose worker was lost, with what Ray said of it in the driver's file."""
    (folder / name).write_text(f"Failure # 1 (occurred at 2026-11-23_10-00-00)\n{text}\n")
    return SimpleNamespace(
        trial_id=name, error_file=str(folder / name),
        run_metadata=SimpleNamespace(metric_analysis={}, metric_n_steps={}),
    )  # fmt: skip


class Losses:
    """A recorder, a run, and the trials in which Ray ends its worker again and again.

    A trial is lost three times, as Tune tries it again twice.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from study.engine import searcher as module  # noqa: PLC0415
        from study.engine.recorder import Recorder  # noqa: PLC0415
        from study.engine.watch import HangWatch  # noqa: PLC0415

        self.now, self.folder, self.diary = 0.0, folder, Diary()
        self.taken: list[RunRecord] = []
        [self.job] = [faulty_job(Path("marks"), 0)]
        self.asked = module.AgendaSearcher(Jobs([self.job]), Slots(1, 0, 2), clock=lambda: self.now)  # type: ignore[arg-type]
        take = lambda record, _: self.taken.append(record)  # noqa: E731
        self.recorder = Recorder(self.asked, HangWatch(1e9), take, [self.diary], "0")

    def lose(self, name: str, text: str) -> dict[str, Any]:
        """Lose one trial for good, and return its configuration."""
        config = self.asked.suggest(name)
        assert isinstance(config, dict)
        trial = lost_trial(self.folder, name, text)
        for _ in range(2):
            self.recorder.on_trial_recover(0, [], trial)
        self.recorder.on_trial_error(0, [], trial)
        return config


def test_memory_that_others_use_is_waited_for_and_no_fault_of_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from study.engine.recorder import PAUSES_S  # noqa: PLC0415

    losses = Losses(tmp_path, monkeypatch)
    text = SHORT_OF_MEMORY.format(used="22.38", own="0.41")
    assert losses.lose("beside others", text)["alone"] == 0
    for number, pause_s in enumerate(PAUSES_S):
        assert losses.lose(f"alone {number}", text)["alone"] == number + 1
        assert losses.asked.suggest("too soon") is None
        losses.now += pause_s
    assert not losses.taken
    assert losses.lose("the last time", text)["alone"]
    [record] = losses.taken
    assert record.error == (
        f"its worker was lost {len(PAUSES_S) + 1} times, with no other run beside it: the memory of its node was short "
        "(22.4 of 23.5 GB in use, 0.4 GB by it); other programs use the memory: end them, and run it again with "
        "--retry-failed."
    )
    assert all("\n" not in why and "22.4 of 23.5 GB" in why for _, why in losses.diary.retries())


def test_losses_for_memory_leave_a_run_its_own_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses(tmp_path, monkeypatch)
    losses.lose("beside others", SHORT_OF_MEMORY.format(used="22.38", own="0.41"))
    assert losses.lose("killed", DIED)["alone"]
    [record] = losses.taken
    assert record.error == "the worker was lost 3 times: its process died"


@pytest.mark.parametrize("text", ["22.38 of which 14.02", "in words of another version"])
def test_a_run_that_alone_uses_most_of_the_memory_fails_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    used, _, own = text.partition(" of which ")
    said = SHORT_OF_MEMORY.format(used=used, own=own) if own else "The worker died: the node running low on memory."
    losses = Losses(tmp_path, monkeypatch)
    losses.lose("beside others", said)
    assert not losses.taken
    losses.lose("alone", said)
    [record] = losses.taken
    cause, what_to_do = (record.error or "").splitlines()
    assert cause.startswith("its worker was lost: the memory of its node was short")
    assert "batch_size = 32" in what_to_do


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("DIED", "its process died"),
        ("", "it died"),
        (
            "The actor died because of an error raised in its creation task, \x1b[36mray::StudyRun.__init__()\x1b[39m "
            "(pid=16554, ip=192.0.2.2)\n           ^^^^^^^^\n"
            "  File \"worker.py\", line 11, in setup\n    import torch\n           ^^^^^\n"
            "ModuleNotFoundError: No module named 'torch'",
            "it could not start: ModuleNotFoundError: No module named 'torch'",
        ),
        (
            "The actor died because of an error raised in its creation task, ray::StudyRun.__init__()\n"
            "RuntimeError: The actor with name StudyRun failed to import on the worker. This may be because:\n\n"
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    import b\n"
            "ImportError: cannot import name 'b'\nand a line more",
            "it could not start: ImportError: cannot import name 'b'",
        ),
        (
            "\x1b[36mray::StudyRun.train()\x1b[39m\n  File \"a.py\", line 1, in f\n    g()\nValueError: no",
            "it failed: ValueError: no",
        ),
        ("The actor died because its node has died. Node Id: 12", "its node died"),
        ("\tclass_name: StudyRun\nThe actor is dead because it was killed by `ray.kill`.", "it was killed"),
        ("words that nobody knows", "words that nobody knows"),
    ],
)  # fmt: skip
def test_what_ray_says_of_a_lost_worker_becomes_a_sentence(text: str, cause: str) -> None:
    loss = lost_worker(DIED if text == "DIED" else text)
    assert (loss.cause, loss.for_memory) == (cause, False)


def test_rays_own_error_of_a_worker_that_could_not_start_is_read() -> None:
    from ray.exceptions import ActorDiedError, RayTaskError  # noqa: PLC0415

    try:
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401, PLC0415
    except ImportError as error:
        raised = RayTaskError("StudyRun.__init__", "".join(traceback.format_exception(error)), error)
    said = str(ActorDiedError(raised))
    assert "Traceback" in said or "File" in said
    assert lost_worker(said).cause == "it could not start: ModuleNotFoundError: No module named 'no_such_module'"


def test_tune_saves_nothing_of_its_own_where_the_storage_has_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.tune.execution import tune_controller  # noqa: PLC0415

    from study.engine.bare_ray import our_tune  # noqa: PLC0415

    saved: list[object] = []
    controller = tune_controller.TuneController
    monkeypatch.setattr(controller, "checkpoint", lambda self, **how: saved.append(self))
    for storage in (str(tmp_path), "s3://bucket", str(tmp_path / "gone")):
        with our_tune(storage, (RuntimeError,)):
            controller.checkpoint(storage)
    assert saved == [str(tmp_path), "s3://bucket"]


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
        env=environment, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = called.read_text()
    assert calls.count("ray start --block --num-cpus=8 --num-gpus=2") == 3
    assert calls.count("--head --node-ip-address=10.0.0.1 --port=20007") == 1
    assert calls.count("--address=10.0.0.1:20007") == 2
    assert "python -m study.run my.toml --out /shared/my study --address 10.0.0.1:20007 --storage" in calls


def test_the_slurm_script_gives_ray_a_short_folder_of_the_job(tmp_path: Path) -> None:
    text = (DEPLOY / "slurm.sh").read_text()
    (line,) = [line for line in text.splitlines() if "RAY_TMPDIR" in line]
    for given, wanted in ({"SLURM_JOB_ID": "7"}, "/tmp/ray-7"), ({"RAY_TMPDIR": "/ssd", "SLURM_JOB_ID": "7"}, "/ssd"):
        command = ["bash", "-euc", f"{line}\nprintenv RAY_TMPDIR"]
        assert subprocess.run(command, env=given, capture_output=True, text=True).stdout.strip() == wanted
    assert text.index(line) < text.index("ray start")


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_too_long_for_sockets_is_told_with_the_remedy(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from study.engine.cluster import cluster  # noqa: PLC0415  # with Ray

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / ("a" * 100)))
    with (
        pytest.raises(EngineError, match=r"a{100}/ray/.* 107 bytes .*; set RAY_TMPDIR to a short"),
        cluster(None),
    ):
        pass


def test_a_workers_start_does_not_import_what_only_the_driver_needs() -> None:
    code = "import sys, study.training.trial; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "torchvision", "ray", "optuna", "scipy.ndimage"} & set(done.stdout.split())


@pytest.mark.parametrize(("told", "tries"), [(["timed out"] * 3, 3), (["timed out", "no room"], 2), (["no room"], 1)])
def test_ray_is_started_again_where_it_had_no_time(
    told: list[str], tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from study.engine.cluster import cluster  # noqa: PLC0415  # with Ray

    asked: list[str] = []

    def init(address: str, **_: Any) -> Any:
        asked.append(address)
        raise Exception(told[len(asked) - 1])  # as Ray does

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(EngineError, match=f"can't be started on this machine: {told[-1]}"), cluster(None):
        pass
    assert asked == ["local"] * tries
