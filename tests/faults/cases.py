"""The fault matrix: what happens × when it happens, and what must be true afterwards."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from faults.laboratory import Ended, FaultError, Laboratory, demand

MOMENTS = {
    "spec is written": "/.spec.toml 1",
    "first record": "/records/ 1",
    "in tune": "/records/ 3",
    "between stages": "/records/ 4",
    "in confirm": "/records/ 6",
    "findings are written": "findings.json 1",
    "report is written": "report.html 1",
}
TRAINING = ("first record", "in tune", "between stages", "in confirm")
FAST = {  # of each kind of fault one, for continuous integration; tests/test_end_to_end.py kills a driver
    ("SIGTERM of the driver", "in confirm"), ("trial: SIGKILL", "in confirm"), ("full disk", "in tune"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One field of the matrix. ``run`` disturbs a study in a folder and brings it to its end."""

    fault: str
    moment: str
    run: Callable[[Laboratory, Path], None]

    @property
    def inline(self) -> bool:
        """Whether the driver alone is struck."""
        return not self.fault.startswith(("trial", "user's code", "NaN"))

    @property
    def fast(self) -> bool:
        return (self.fault, self.moment) in FAST


def cases() -> Iterator[Case]:
    """Yield the whole matrix."""
    for moment in MOMENTS:
        yield Case("SIGKILL of the driver", moment, _driver_dies(moment, signal.SIGKILL, -signal.SIGKILL))
        yield Case("SIGTERM of the driver", moment, _driver_dies(moment, signal.SIGTERM, 128 + signal.SIGTERM))
        yield Case("Ctrl-C", moment, _driver_dies(moment, "group-ctrl-c", 128 + signal.SIGINT))
    yield Case("SIGHUP of the driver", "in tune", _driver_dies("in tune", signal.SIGHUP, 128 + signal.SIGHUP))
    for stage in ("tune", "confirm"):
        for what in ("SIGKILL", "SIGSEGV", "os._exit"):
            yield Case(f"trial: {what}", f"in {stage}", _trial(f"{what} {stage}"))
        for what in ("prints", "forks", "chdir", "seeds"):
            yield Case(f"user's code {what}", f"in {stage}", _trial(f"{what} {stage}"))
        for what in ("exception", "MemoryError"):
            yield Case(f"trial: {what}", f"in {stage}", _trial_fails(f"{what} {stage}"))
        yield Case("trial: hang", f"in {stage}", _trial(f"hang {stage}", "--hang-after", "10"))
        yield Case("NaN in the loss", f"in {stage}", _diverges(f"NaN {stage}"))
    for moment in ("first record", "in tune", "in confirm", "findings are written"):
        yield Case("full disk", moment, _stops(moment, "full disk"))
        yield Case("folder vanishes", moment, _stops(moment, "vanish"))
    yield Case("full disk for the database", "in tune", _goes_on("in tune", "full disk for the database"))
    yield Case("read-only folder", "on resume", _read_only)
    for moment in TRAINING:
        yield Case("clock goes back a day", moment, _goes_on(moment, "clock"))
    for moment in ("first record", "in confirm", "report is written"):
        yield Case("two drivers", moment, _two_drivers(moment))
    for name in ("optuna.db", "findings.json", "runs.parquet"):
        yield Case(f"damaged {name}", "on resume", _damaged_view(name))
    for what, damage in (
        ("truncated", lambda b: b[: len(b) // 2]),
        ("empty", lambda b: b""),
        ("zeros", lambda b: b"\0" * len(b)),
    ):
        yield Case(f"{what} record", "on resume", _damaged_record(damage))
        yield Case(f"{what} spec", "on resume", _damaged_spec(damage))


def go_on(lab: Laboratory, folder: Path, *flags: str) -> None:
    """Bring a disturbed study to its end as its user would, and check it."""
    started = (folder / "spec.toml").exists()
    done = lab.resume(folder, *flags) if started else lab.start(folder, *flags)
    demand(done.code == 0, f"going on ends well, and not with {done.code}: {done.errors[-800:]}")
    lab.check(folder)


def _driver_dies(moment: str, how: int | str, code: int) -> Callable[[Laboratory, Path], None]:
    def run(lab: Laboratory, folder: Path) -> None:
        ended = lab.start(folder, FAULT_AT=MOMENTS[moment], FAULT_DO=str(int(how) if isinstance(how, int) else how))
        demand(ended.code == code, f"the exit code is {code}, and not {ended.code}: {ended.errors[-800:]}")
        if code > 0:
            demand(f"--resume {folder}" in ended.output, "the user is told how to go on")
        go_on(lab, folder)

    return run


def _trial(fault: str, *flags: str) -> Callable[[Laboratory, Path], None]:
    """A worker is lost once, or a user's code misbehaves: the study ends as if nothing had been."""

    def run(lab: Laboratory, folder: Path) -> None:
        ended = lab.start(folder, *flags, TRIAL_FAULT=fault)
        _happened(folder)
        demand(ended.code == 0, f"the study ends well, and not with {ended.code}: {ended.errors[-800:]}")
        lab.check(folder)

    return run


def _trial_fails(fault: str) -> Callable[[Laboratory, Path], None]:
    """A run fails: the study ends with exit code 3, and --retry-failed makes it good."""

    def run(lab: Laboratory, folder: Path) -> None:
        ended = lab.start(folder, TRIAL_FAULT=fault)
        _happened(folder)
        if ended.code == 3:
            demand("--retry-failed" in ended.errors, "the user is told how to run it again")
            ended = lab.resume(folder, "--retry-failed")
        demand(ended.code == 0, f"the study ends well, and not with {ended.code}: {ended.errors[-800:]}")
        lab.check(folder)

    return run


def _diverges(fault: str) -> Callable[[Laboratory, Path], None]:
    """Every run whose loss is no number is one that diverged; the study ends all the same."""

    def run(lab: Laboratory, folder: Path) -> None:
        ended = lab.start(folder, TRIAL_FAULT=fault)
        demand(ended.code == 0, f"the study ends well, and not with {ended.code}: {ended.errors[-800:]}")
        stage = fault.split()[1]
        from study.records import read_records  # noqa: PLC0415

        status = {record.status for record in read_records(folder).values() if record.job.stage == stage}
        demand(status == {"diverged"}, f"all runs of {stage} diverged, and not {status}")

    return run


def _stops(moment: str, what: str) -> Callable[[Laboratory, Path], None]:
    """The driver can't write: it stops with one sentence, and goes on when there is room again."""

    def run(lab: Laboratory, folder: Path) -> None:
        ended = lab.start(folder, FAULT_AT=MOMENTS[moment], FAULT_DO=what)
        demand(ended.code == 2, f"the exit code is 2, and not {ended.code}: {ended.errors[-800:]}")
        _one_sentence(ended)
        gone = Path(f"{folder}-gone")
        if gone.exists():
            demand(not folder.exists(), f"a folder that has vanished does not come back half: {list(folder.glob('*'))}")
            gone.rename(folder)
        go_on(lab, folder)

    return run


def _goes_on(moment: str, what: str) -> Callable[[Laboratory, Path], None]:
    """What happens is of no account to the study; its views are right after the next start at the latest."""

    def run(lab: Laboratory, folder: Path) -> None:
        ended = lab.start(folder, FAULT_AT=MOMENTS[moment], FAULT_DO=what)
        if "disk" in what:
            demand("optuna.db can't be written" in ended.errors, f"the user is told: {ended.errors}")
        demand(ended.code in (0, 2), f"the study ends, and not with {ended.code}: {ended.errors[-800:]}")
        go_on(lab, folder)

    return run


def _killed(lab: Laboratory, folder: Path) -> None:
    lab.start(folder, FAULT_AT=MOMENTS["in tune"], FAULT_DO=str(int(signal.SIGKILL)))


def _read_only(lab: Laboratory, folder: Path) -> None:
    _killed(lab, folder)
    if os.getuid():
        folder.chmod(0o500)
    elif subprocess.run(["chattr", "+i", str(folder)], capture_output=True).returncode:
        raise NotImplementedError("root, and a file system without immutable folders")
    try:
        ended = lab.resume(folder)
    finally:
        folder.chmod(0o700) if os.getuid() else subprocess.run(["chattr", "-i", str(folder)], check=True)
    demand(ended.code == 2, f"the exit code is 2, and not {ended.code}: {ended.errors[-800:]}")
    _one_sentence(ended)
    go_on(lab, folder)


def _two_drivers(moment: str) -> Callable[[Laboratory, Path], None]:
    def run(lab: Laboratory, folder: Path) -> None:
        ended = lab.start(folder, FAULT_AT=MOMENTS[moment], FAULT_DO="second driver")
        code, pid, said = Path(f"{folder}-second").read_text().split(" ", 2)
        demand(
            code == "2" and f"process {pid} on {os.uname().nodename}" in said, f"the second is refused: {code} {said}"
        )
        demand(ended.code == 0, f"the first is not disturbed: {ended.errors[-800:]}")
        lab.check(folder)

    return run


def _damaged_view(name: str) -> Callable[[Laboratory, Path], None]:
    def run(lab: Laboratory, folder: Path) -> None:
        _killed(lab, folder)
        (folder / name).write_bytes(b"SQLite format 3\0 and no more")
        go_on(lab, folder)

    return run


def _damaged_record(damage: Callable[[bytes], bytes]) -> Callable[[Laboratory, Path], None]:
    def run(lab: Laboratory, folder: Path) -> None:
        _killed(lab, folder)
        path = min((folder / "records").glob("*.json"))
        path.write_bytes(damage(path.read_bytes()))
        ended = lab.resume(folder)
        demand(ended.code == 2 and str(path) in ended.errors, f"the record is named: {ended.errors}")
        _one_sentence(ended)
        path.rename(f"{folder}-record")  # as the message says
        go_on(lab, folder)

    return run


def _damaged_spec(damage: Callable[[bytes], bytes]) -> Callable[[Laboratory, Path], None]:
    def run(lab: Laboratory, folder: Path) -> None:
        _killed(lab, folder)
        path = folder / "spec.toml"
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        ended = lab.resume(folder)
        demand(ended.code == 2 and "spec.toml" in ended.errors, f"the spec is named: {ended.errors}")
        _one_sentence(ended)
        path.write_bytes(whole)
        go_on(lab, folder)

    return run


def _one_sentence(ended: Ended) -> None:
    said = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
    demand(len(said) == 1, f"one sentence says what is wrong: {ended.errors[-800:]}")


def _happened(folder: Path) -> None:
    if not Path(f"{folder}-fault-done").exists():
        raise FaultError("the fault did not happen")
