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

from study.files import is_temporary
from study.store.record_files import read_records
from study.store.results import load

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SPEC = """\
name = "tiny"
question = "Does a study survive this?"
methods = ["SGD", "SWA", "SAM", "WASAM"]
budgets = ["E"]
primary_budget = "E"
replicates = 2
confirms = 1
[search]
trials = 2
[[problems]]
task = "tiny_task:build"
factors = { train_size = 40, epochs = 4, batch_size = 10 }
"""
PRODUCT = (sys.executable, "-m", "study.run")
INLINE = (sys.executable, str(HERE / "inline.py"))  # without Ray
SLICED = (sys.executable, str(HERE / "sliced.py"))  # every run is saved after each epoch
# They end what never would: how long a command takes on a busy machine is no law. After a SIGKILL two of Ray's agents
# wait for an answer for a minute.
LIMIT_S, GRACE_S = 3600, 600


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

    The undisturbed study is run without Ray, one run after the other: nothing of the engine's can be in its numbers.

    Args:
        home: An empty folder.
        product: What is started where nothing else is asked for: the product, or `INLINE`.
    """

    home: Path
    product: tuple[str, ...] = PRODUCT
    reference: Path = field(init=False)
    longest_end_s: float = field(default=0.0, init=False)  # from the end of the last driver to that of all processes

    def __post_init__(self) -> None:
        shutil.copy(HERE / "tiny_task.py", self.home)
        (self.home / "tiny.toml").write_text(SPEC)
        self.reference = self.home / "undisturbed"
        demand(self.start(self.reference, command=INLINE).code == 0, "the undisturbed study ends")

    def start(self, folder: Path, *flags: str, command: tuple[str, ...] | None = None, **environment: str) -> Ended:
        """Start the study in a folder, or go on where it has been started, with a fault in its environment."""
        going_on = (folder / "spec.toml").exists()
        what = ["--resume", str(folder)] if going_on else ["tiny.toml", "--out", str(folder)]
        return self._run(command or self.product, [*what, *flags], folder, environment)

    def _run(self, command: tuple[str, ...], arguments: list[str], folder: Path, environment: dict[str, str]) -> Ended:
        mark = {"FAULTS_OF": str(folder), "FAULT_FOLDER": str(folder), "OMP_NUM_THREADS": "1"}
        mark["FAULT_COMMAND"] = json.dumps([*command, "--resume", str(folder)])
        driver = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home, start_new_session=True,
            env=os.environ | {"PYTHONPATH": f"{HERE / 'site'}{os.pathsep}{ROOT}"} | mark | environment,
        )  # fmt: skip
        try:
            output, errors = driver.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            raise FaultError(f"the command did not end within {LIMIT_S} s") from None
        # A user's own code may show where it raised; the command itself may not end in a traceback.
        shown = [
            sign for sign in ('run.py", line', "site-packages/ray/", "(raylet)", "\x1b[") if sign in errors + output
        ]
        demand(not shown, f"the command shows no traceback, and nothing of Ray's: {shown} {errors[:5000] + output}")
        return Ended(driver.returncode, output, errors)

    def leaves_nobody(self, folder: Path) -> None:
        """Wait until all that was started for a folder's study has ended, however its drivers did."""
        began = time.monotonic()
        while (left := processes_of(folder)) and time.monotonic() < began + GRACE_S:
            time.sleep(0.2)
        self.longest_end_s = max(self.longest_end_s, time.monotonic() - began)
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
        names, expected = ({path.name for path in of.iterdir()} - {"ray"} for of in (folder, self.reference))
        demand(names == expected, f"the folder holds what an undisturbed one does: {names ^ expected}")
        halves = [path for path in folder.rglob("*") if path.name.endswith(".pt") or is_temporary(path)]
        demand(not halves, f"no half-written file and no checkpoint is left: {halves}")
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
