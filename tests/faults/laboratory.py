"""Disturb a study on purpose: start it with a fault, go on with it, and compare with one that nobody disturbed."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from study.records import read_records
from study.results import load

HERE = Path(__file__).parent
SPEC = """\
name = "tiny"
question = "Does a study survive this?"
methods = ["SGD", "SWA", "SAM", "WASAM"]
budgets = ["E"]
primary_budget = "E"
confirm_seeds = 2
[search]
trials = 2
[[problems]]
task = "tiny_task:build"
factors = { train_size = 40, epochs = 4, batch_size = 10 }
"""
INLINE = (sys.executable, str(HERE / "inline.py"))
LIMIT_S, GRACE_S = 600, 90  # Ray takes a while to notice that its driver is gone


class FaultError(AssertionError):
    """A law that a disturbed study has broken."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str


@dataclass(slots=True)
class Laboratory:
    """A folder with the tiny task in it, where studies are started.

    Args:
        home: An empty folder.
        command: What is started: the product, or `inline`.
    """

    home: Path
    command: tuple[str, ...] = (sys.executable, "-m", "study.run")
    reference: Path = field(init=False)

    def __post_init__(self) -> None:
        shutil.copy(HERE / "tiny_task.py", self.home)
        (self.home / "tiny.toml").write_text(SPEC)
        self.reference = self.home / "undisturbed"
        demand(self.start(self.reference).code == 0, "the undisturbed study ends")

    def start(self, folder: Path, *flags: str, **environment: str) -> Ended:
        """Start the study in a new folder, with a fault in its environment."""
        return self._run(["tiny.toml", "--out", str(folder), *flags], folder, environment)

    def resume(self, folder: Path, *flags: str) -> Ended:
        """Go on with a study, without a fault."""
        return self._run(["--resume", str(folder), *flags], folder, {})

    def _run(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> Ended:
        mark = {"FAULTS_OF": str(folder), "FAULT_FOLDER": str(folder), "TRIAL_FAULT_DONE": f"{folder}-fault-done"}
        mark["FAULT_COMMAND"] = json.dumps([*self.command, "--resume", str(folder)])
        driver = subprocess.Popen(
            [*self.command, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(HERE / "site"), "OMP_NUM_THREADS": "1"} | mark | environment,
        )  # fmt: skip
        try:
            output, errors = driver.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            raise FaultError(f"the command did not end within {LIMIT_S} s") from None
        # A user's own code may show where it raised; the command itself may not end in a traceback.
        demand('run.py", line' not in errors + output, f"the command shows no traceback: {(errors + output)[-1500:]}")
        self._no_orphans(folder)
        return Ended(driver.returncode, output, errors)

    def _no_orphans(self, folder: Path) -> None:
        deadline = time.monotonic() + GRACE_S
        while (left := processes_of(folder)) and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in left:
            os.kill(process, signal.SIGKILL)
        demand(not left, f"no process is left behind after {GRACE_S} s: {left}")

    def check(self, folder: Path) -> None:
        """Hold a finished study against the undisturbed one: same runs, same bits, same findings, nothing beside."""
        ours, theirs = read_records(folder), read_records(self.reference)
        demand(ours.keys() == theirs.keys(), f"the runs are those of the undisturbed study: {set(ours) ^ set(theirs)}")
        for run_id, record in ours.items():
            demand(record.measurements == theirs[run_id].measurements, f"run {run_id} has the same measurements")
            demand(record.status == theirs[run_id].status, f"run {run_id} has the same status")
        demand(findings_of(folder) == findings_of(self.reference), "the findings are the same")
        names = {path.name for path in folder.iterdir()}
        expected = {path.name for path in self.reference.iterdir()}
        demand(names == expected, f"the folder holds what an undisturbed one does: {names ^ expected}")
        halves = [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".building"))]
        demand(not halves, f"no half-written file is left: {halves}")
        demand(
            trials_in(folder / "optuna.db") == trials_in(self.reference / "optuna.db"), "optuna.db has every trial once"
        )
        load(folder)


def findings_of(folder: Path) -> object:
    return json.loads((folder / "findings.json").read_text())


def trials_in(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute("select count(*) from trials").fetchone()[0])


def processes_of(folder: Path) -> list[int]:
    """Return the processes that were started, however indirectly, for a folder's study."""
    mark, found = f"FAULTS_OF={folder}\0".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                environment, state = (entry / "environ").read_bytes(), (entry / "stat").read_text().rpartition(") ")[2]
            except OSError:
                continue
            if mark in environment + b"\0" and not state.startswith("Z"):
                found.append(int(entry.name))
    return found


def demand(holds: bool, law: str) -> None:
    if not holds:
        raise FaultError(law)
