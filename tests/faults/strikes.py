"""How each kind of fault is brought about, and what its user must be told on the way.

Each function here makes a `Strike`: it disturbs one study, at the moments given, one after the other, and brings it to
its end as its user would. So a study that is struck at seven moments has survived each of them, and all together.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from faults.laboratory import INLINE, PRODUCT, Ended, FaultError, Laboratory, demand

from study.store.record_files import read_records

MOMENTS = {  # a file that is about to be put in its place, and the number of records that are there
    "spec is written": "/.spec.toml 0",
    "first record": "/records/ 0",
    "in tune": "/records/ 2",
    "between stages": "/records/ 3",
    "in confirm": "/records/ 5",
    "second replicate": "/records/ 8",
    "findings are written": "findings.json 0",
    "report is written": "report.html 0",
}
_making = threading.Lock()  # of the study that several cases begin with
Strike = Callable[[Laboratory, Path, tuple[str, ...]], None]


def go_on(lab: Laboratory, folder: Path, *flags: str, command: tuple[str, ...] | None = None) -> None:
    """Bring a disturbed study to its end as its user would, and check it."""
    ended_well(lab.start(folder, *flags, command=command))
    lab.check(folder)


def driver_dies(how: int | str, code: int) -> Strike:
    """Return a strike at the driver: each start of it is ended at the next moment."""

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        for moment in moments:
            dies(lab, folder, str(int(how) if isinstance(how, int) else how), code, moment)
        go_on(lab, folder)

    return strike


def dies(lab: Laboratory, folder: Path, how: str, code: int, *moments: str) -> None:
    """End the driver once, at the last of the moments."""
    ended = lab.start(folder, FAULT_AT=";".join(MOMENTS[moment] for moment in moments), FAULT_DO=how)
    demand(ended.code == code, f"{moments}: exit code {code}, and not {ended.code}: {ended.errors[-800:]}")
    if code > 0:
        how_to = f"--resume {folder}" if (folder / "spec.toml").exists() else "give the command again"
        demand(how_to in ended.output, f"{moments}: the user is told how to go on: {ended.output}")


def driver_stops(*whats: str) -> Strike:
    """Return a strike that leaves the driver without what it needs: it says so in a sentence, and can go on later."""

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        for what in whats:
            for moment in moments:
                stops(lab, folder, what, moment)
        go_on(lab, folder)

    return strike


def stops(lab: Laboratory, folder: Path, what: str, moment: str, **how: Any) -> Ended:
    """Take from the driver what it needs, once, and put it back."""
    ended = lab.start(folder, FAULT_AT=MOMENTS[moment], FAULT_DO=what, **how)
    demand(ended.code == 2, f"{moment}: the exit code is 2, and not {ended.code}: {ended.errors[-800:]}")
    one_sentence(ended)
    gone = Path(f"{folder}-gone")
    if gone.exists():
        half = list(folder.glob("*"))
        demand(not folder.exists(), f"{moment}: a folder that has vanished does not come back half: {half}")
        gone.rename(folder)
    return ended


def driver_goes_on(what: str, told: str = "") -> Strike:
    """Return what is of no account to the study; its views are right after the next start at the latest."""

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        ended = lab.start(folder, FAULT_AT=";".join(MOMENTS[moment] for moment in moments), FAULT_DO=what)
        struck = Path(f"{folder}-struck").read_text().splitlines()
        demand(len(struck) == len(moments), f"it happens at every moment, and not at {struck} only")
        demand(told in ended.errors, f"the user is told {told!r}, and not: {ended.errors}")
        demand(ended.code in (0, 2), f"the study ends, and not with {ended.code}: {ended.errors[-800:]}")
        go_on(lab, folder)

    return strike


def second_driver(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
    """Start the command once more while it runs."""
    tried_twice(lab, folder, moments)
    lab.check(folder)


def tried_twice(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
    """Bring a study to its end, with another driver knocking at moments."""
    ended_well(lab.start(folder, FAULT_AT=";".join(MOMENTS[m] for m in moments), FAULT_DO="second driver"))
    told = [json.loads(line) for line in Path(f"{folder}-second").read_text().splitlines()]
    demand(len(told) == len(moments), f"it is tried at every moment, and not {len(told)} times")
    for code, first, said in told:
        names_it = f"process {first} on {os.uname().nodename}" in said
        demand(code == 2 and names_it, f"the second is refused and the first one named: {code} {said}")


def trial(fault: str, *flags: str, command: tuple[str, ...] = PRODUCT, told: str = "", **environment: str) -> Strike:
    """Return the loss of a worker, or a user's code that misbehaves: the study ends as if nothing had been.

    Args:
        fault: One or more of `tiny_task`'s, divided by blanks.
        flags, command, environment: What the study is started with.
        told: The user is told this.
    """

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        ended = _with_faulty_trials(lab, folder, fault, moments, *flags, command=command, **environment)
        demand(told in " ".join(ended.output.split()), f"the user is told {told!r}, and not: {ended.output}")
        ended_well(ended)
        lab.check(folder)

    return strike


def trial_fails(fault: str) -> Strike:
    """Return a run that fails: the study ends with exit code 3, and --retry-failed makes it good."""

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        ended = _with_faulty_trials(lab, folder, fault, moments)
        demand(ended.code == 3, f"the exit code is 3, and not {ended.code}: {ended.errors[-800:]}")
        demand("--retry-failed" in ended.errors, "the user is told how to run it again")
        go_on(lab, folder, "--retry-failed")

    return strike


def trial_eats_memory(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
    """Let Ray's monitor of memory kill a run that takes several GB."""
    threshold = little_memory()
    if not threshold:
        raise NotImplementedError("less than 11 GB of memory are free")
    trial("eats", **threshold)(lab, folder, moments)


def little_memory() -> dict[str, str]:
    """Return the environment in which Ray holds memory for short once 5 GB more are used; empty where there is less."""
    total, free = memory_gb()
    return {"RAY_memory_usage_threshold": f"{(total - free + 5) / total:.3f}"} if free >= 11 else {}


def memory_gb() -> tuple[float, float]:
    """Return how much memory there is, and how much of it is free, in GB."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemTotal"].split()[0]) / 1e6, int(lines["MemAvailable"].split()[0]) / 1e6


def diverges(fault: str, command: tuple[str, ...] = INLINE) -> Strike:
    """Return numbers that are none, in every run of the stages: these diverged, and the study ends all the same."""

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        ended_well(_with_faulty_trials(lab, folder, fault, moments, command=command))
        for stage in _stages(moments):
            all_diverged(folder, stage)

    return strike


def all_diverged(folder: Path, stage: str) -> None:
    status = {record.status for record in read_records(folder).values() if record.job.stage == stage}
    demand(status == {"diverged"}, f"all runs of {stage} diverged, and not {status}")


def skips_steps(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
    """Let a finite loss have gradients that are none: the optimizer leaves these steps out, and counts them."""
    ended_well(_with_faulty_trials(lab, folder, "nan-gradient", moments, command=INLINE))
    for stage in _stages(moments):
        all_skipped(folder, stage)


def all_skipped(folder: Path, stage: str) -> None:
    for record in read_records(folder).values():
        if record.job.stage == stage:
            steps = 4 * record.job.epochs
            demand(record.status == "completed", f"a run with its last finite weights is {record.status}")
            demand(0 < record.skipped_steps < steps, f"{record.skipped_steps} of {steps} steps are left out")


def unwritable(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
    """Go on in a folder that can't be written."""
    interrupted(lab, folder)
    refused(lab, folder)
    go_on(lab, folder, command=INLINE)


def refused(lab: Laboratory, folder: Path) -> None:
    """Start a study in a folder that can't be written for the while."""
    if os.getuid():
        folder.chmod(0o500)
    elif subprocess.run(["chattr", "+i", str(folder)], capture_output=True).returncode:
        raise NotImplementedError("root, and a file system without immutable folders")
    try:
        ended = lab.start(folder)
    finally:
        folder.chmod(0o700) if os.getuid() else subprocess.run(["chattr", "-i", str(folder)], check=True)
    demand(ended.code == 2, f"the exit code is 2, and not {ended.code}: {ended.errors[-800:]}")
    one_sentence(ended)


def damaged_views(*names: str) -> Strike:
    """Return files that hold something else than they should: they are made anew."""

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        for _ in range(2):  # first of an unfinished study, then of the finished one
            interrupted(lab, folder)
            damage(folder, *names)
            go_on(lab, folder, command=INLINE)

    return strike


def damage(folder: Path, *names: str) -> None:
    """Put something else into files than they should hold."""
    for name in names:
        (folder / name).write_bytes(b"SQLite format 3\0 and no more")


def damaged_file(pattern: str, *, mended: bool) -> Strike:
    """Return a file that is truncated, then empty, then zeros: it is named each time, and nothing else happens.

    Args:
        pattern: Which file; of several the first.
        mended: It is put back, or else moved away, as the message says.
    """

    def strike(lab: Laboratory, folder: Path, moments: tuple[str, ...]) -> None:
        interrupted(lab, folder)
        path = min(folder.glob(pattern))
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", bytes(len(whole))):
            named(lab, path, damaged)
        if not mended:
            path.rename(f"{folder}-{path.name}")
        go_on(lab, folder, command=INLINE)

    return strike


def named(lab: Laboratory, path: Path, damaged: bytes) -> None:
    """Let a file in a results folder hold something else for a start."""
    folder = next(parent for parent in path.parents if (parent / "spec.toml").exists())
    whole, before = path.read_bytes(), {file: file.read_bytes() for file in folder.rglob("*.json")}
    path.write_bytes(damaged)
    ended = lab.start(folder)
    demand(ended.code == 2 and path.name in ended.errors, f"{path.name} is named: {ended.errors}")
    one_sentence(ended)
    path.write_bytes(whole)
    demand(before == {file: file.read_bytes() for file in folder.rglob("*.json")}, "nothing else has changed")


def interrupted(lab: Laboratory, folder: Path) -> None:
    """Put a study into a folder that was killed in its tune stage, unless there is one."""
    kept = lab.home / "interrupted"
    with _making:
        if not kept.exists():
            ended = lab.start(kept, command=INLINE, FAULT_AT=MOMENTS["in tune"], FAULT_DO=str(int(signal.SIGKILL)))
            demand(ended.code == -signal.SIGKILL, f"it is killed, and does not end with {ended.code}")
    if not folder.exists():
        shutil.copytree(kept, folder)


def ended_well(ended: Ended) -> None:
    demand(ended.code == 0, f"the study ends well, and not with {ended.code}: {ended.errors[-800:]}")


def one_sentence(ended: Ended) -> None:
    said = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
    demand(len(said) == 1, f"one sentence says what is wrong: {ended.errors[-800:]}")


def _with_faulty_trials(
    lab: Laboratory, folder: Path, fault: str, moments: Iterable[str], *flags: str, **how: Any
) -> Ended:
    return with_faulty_trials(lab, folder, dict.fromkeys(_stages(moments), fault), *flags, **how)


def with_faulty_trials(lab: Laboratory, folder: Path, faults: Mapping[str, str], *flags: str, **how: Any) -> Ended:
    """Start a study with faults of its runs, divided by blanks, by stage; each must have happened at its end."""
    each = [f"{what}:{stage}" for stage, whats in faults.items() for what in whats.split()]
    ended = lab.start(folder, *flags, TRIAL_FAULT=" ".join(each), **how)
    missing = [name for name in each if not Path(f"{folder}-{name.replace(':', '-')}").exists()]
    if missing:
        raise FaultError(f"these faults did not happen: {missing}; {ended.code} {ended.errors[-800:]} {ended.output}")
    return ended


def _stages(moments: Iterable[str]) -> list[str]:
    """Return the stages in "in tune" and "in confirm"."""
    return [moment.removeprefix("in ") for moment in moments]
