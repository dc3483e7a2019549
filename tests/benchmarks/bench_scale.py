"""What a driver needs for many runs side by side, measured on one machine; and what that means for 1,000 GPUs.

    PYTHONPATH=.:tests python -m benchmarks.bench_scale [--slots 2 8 32] [--nodes 4] [--runs 200] [--gpus 1000]

The runs train nothing: they wait a while and report, so that a machine of two cores can hold many of them and what is
left is the driver's part. Measured: the CPU time of the driver per run and per slice of a long run (a slice ends with a
report and a checkpoint), with different numbers of slots on one node and on logical nodes of a cluster; the size of
everything that a run leaves or sends. From these constants follows what n GPUs need, and where the first wall is.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from benchmarks.conditions import header, python, resident_mb, table
from benchmarks.instant import WaitingRun, spec_of
from benchmarks.process_trees import timed
from ray.cluster_utils import Cluster
from rich.console import Console

from study.driver import conduct
from study.driver.resume import OpenStudy
from study.engine import drive
from study.plan.agenda import Agenda
from study.store.folder import freeze_spec

SLOTS_PER_NODE = 8


@contextmanager
def logical_cluster(nodes: int, slots: int) -> Iterator[str | None]:
    """Start so many Ray nodes on this machine, which share the slots; one node is left to the platform to start."""
    if nodes == 1:
        yield None
        return
    made = Cluster()
    for _ in range(nodes):
        made.add_node(num_cpus=slots // nodes, object_store_memory=80 * 2**20)
    try:
        yield made.address
    finally:
        made.shutdown()


def measure(slots: int, nodes: int, runs: int, wait_s: float, slices: int) -> dict[str, float]:
    """Drive a study of waiting runs in this process; return CPU ms of the driver a run, runs a second, and sizes."""
    spec = spec_of(runs, 50)
    agenda = Agenda(spec)
    real_run, real_init, real_write = drive.run_agenda, ray.init, conduct.write_record
    ends: list[tuple[float, float]] = []

    def waiting(*arguments: Any, **options: Any) -> None:
        real_run(*arguments, **options, trainable=WaitingRun)

    def init(*arguments: Any, **options: Any) -> Any:
        more = {"num_cpus": slots} if nodes == 1 else {}
        return real_init(*arguments, **options, **more)

    def written(folder: Path, record: Any) -> Path:
        path = real_write(folder, record)
        ends.append((time.process_time(), time.perf_counter()))
        return path

    with (
        tempfile.TemporaryDirectory(prefix="scale-") as home,
        # Before the nodes start, whose workers inherit it.
        mock.patch.dict("os.environ", {"BENCH_WAIT_S": str(wait_s), "BENCH_SLICES": str(slices)}),
        logical_cluster(nodes, slots) as address,
        mock.patch.object(drive, "run_agenda", waiting),
        mock.patch.object(ray, "init", init),
        mock.patch.object(conduct, "write_record", written),
    ):
        folder = Path(home) / "study"
        freeze_spec(folder, spec, "")
        asked = conduct.EngineOptions(address=address, storage=str(Path(home) / "ray"))
        with conduct.engine(asked, lambda text: None, ["digits"]) as session:
            conduct.train(OpenStudy(spec, folder, agenda), session, console=Console(quiet=True), quiet=False)
        memory = resident_mb()
        sizes = {name: _bytes(folder / name) / len(ends) for name in ("records", "tensorboard", "optuna.db")}
        sizes["Ray's files"] = _bytes(Path(home) / "ray") / len(ends)
    first = min(len(ends) // 3, 2 * slots)  # the first runs wait for their workers to start
    (cpu0, wall0), (cpu1, wall1) = ends[first], ends[-1]
    number = len(ends) - first - 1
    return {
        "cpu_ms": 1e3 * (cpu1 - cpu0) / number,
        "runs_per_s": number / (wall1 - wall0),
        "memory_mb": memory,
        **{f"bytes of {name}": value for name, value in sizes.items()},
    }


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def real_sizes() -> dict[str, int]:
    """Return the bytes of what a real run of `quick` leaves: its record, a checkpoint, the weights that are kept."""
    # Real runs need torch, which takes seconds to import; the other measurements do without.
    from study.data import load_data  # noqa: PLC0415
    from study.plan.cells import cells, confirm_jobs, searches, tune_job  # noqa: PLC0415
    from study.plan.proposals import propose  # noqa: PLC0415
    from study.plan.selection import Selection  # noqa: PLC0415
    from study.specs.spec import load_spec  # noqa: PLC0415
    from study.training.trial import Run  # noqa: PLC0415

    spec = load_spec("quick")[0].model_copy(update={"probes": True, "probe_budget": 0.001})
    search = searches(spec)[0]
    proposal = propose(spec.search, search, 0, [])
    average = next(one for one in search.contenders if one.average)
    picked = Selection(
        cells(spec)[0].name, 1, average.name, average.method, average.reads, average.lengths, 1.0, 0,
        proposal.learning_rate, 0.0, proposal.average_start, "swa@0.5", None, 0.0, 1, 1, (),
    )  # fmt: skip
    tune = Run(tune_job(spec, search, 0, proposal), load_data("digits"), "cpu", "0" * 64)
    tune.advance(0.0)
    found = {"checkpoint after an epoch": len(tune.state())}
    tune.advance()
    confirm = Run(confirm_jobs(spec, [search], [picked])[0], load_data("digits"), "cpu", "0" * 64)
    confirm.advance()
    return found | {
        "record of a tune run": len(tune.record().model_dump_json(indent=1)),
        "record of a confirm run": len(confirm.record().model_dump_json(indent=1)),
        "weights kept of a confirm run": len(confirm.weights()),
    }


def main() -> None:
    """Print the constants, and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--nodes", type=int, default=4, help="logical nodes of the last row; 1: leave it out")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--one", nargs=5, type=float, metavar=("SLOTS", "NODES", "RUNS", "WAIT", "SLICES"),
                        help=argparse.SUPPRESS)  # fmt: skip
    given = parser.parse_args()
    if given.one:
        slots, nodes, runs, wait_s, slices = given.one
        print(json.dumps(measure(int(slots), int(nodes), int(runs), wait_s, int(slices))))
        return
    print(header(), flush=True)
    cases = [(f"{slots} slots", slots, 1, 1) for slots in given.slots]
    if given.nodes > 1:
        cases.append((f"{given.slots[-1]} slots on {given.nodes} nodes", given.slots[-1], given.nodes, 1))
    cases.append((f"{given.slots[-1]} slots, 5 slices a run", given.slots[-1], 1, 5))
    rows, found = [["runs that wait", "driver CPU ms a run", "runs a second", "driver MB"]], []
    for label, slots, nodes, slices in cases:
        # At this pace the driver is busy a small part of its time, whatever the slots.
        one = _alone(slots, nodes, given.runs, slots / 8, slices)
        found.append(one)
        rows.append([label, f"{one['cpu_ms']:.1f}", f"{one['runs_per_s']:.1f}", f"{one['memory_mb']:.0f}"])
        print(f"  {label}: {one}", flush=True)
    print(f"\n{table(rows)}")
    whole = statistics.median(one["cpu_ms"] for one in found[:-1])
    a_slice = max(0.0, (found[-1]["cpu_ms"] - found[len(given.slots) - 1]["cpu_ms"]) / 4)
    sizes = real_sizes()
    kept = {name.removeprefix("bytes of "): value for name, value in found[0].items() if name.startswith("bytes")}
    print("\nbytes a run: " + ", ".join(f"{name} {value:,.0f}" for name, value in {**sizes, **kept}.items()))
    print(f"CPU of the driver: {whole:.1f} ms a run, {a_slice:.1f} ms a further slice")
    print(f"\n{needs(given.gpus, whole, a_slice, sizes, kept)}")


def needs(gpus: int, run_ms: float, slice_ms: float, sizes: dict[str, int], kept: dict[str, float]) -> str:
    """Return what so many GPUs, one run each, ask of one driver: constants times n, for three lengths of a run."""
    rows = [["a run takes", "runs a second", "share of a core", "slices a second", "records MB/h", "checkpoints MB/s"]]
    for name, seconds in (("10 s", 10.0), ("1 min", 60.0), ("10 min", 600.0), ("2 h", 7200.0)):
        runs = gpus / seconds
        slices = gpus / 60 if seconds > 60 else 0.0
        share = (runs * run_ms + slices * slice_ms) / 1e3
        left = sizes["record of a confirm run"] + kept["tensorboard"] + kept["optuna.db"] + kept["Ray's files"]
        rows.append(
            [
                name, f"{runs:.2f}", f"{share:.0%}", f"{slices:.1f}", f"{runs * left * 3600 / 1e6:.0f}",
                f"{slices * sizes['checkpoint after an epoch'] / 1e6:.1f}",
            ]
        )  # fmt: skip
    wall = gpus * run_ms / 1e3
    return f"{gpus} GPUs, one run each\n{table(rows)}\nthe driver's core is full at runs of {wall:.1f} s"


def _alone(slots: int, nodes: int, runs: int, wait_s: float, slices: int) -> dict[str, float]:
    numbers = [str(number) for number in (slots, nodes, runs, wait_s, slices)]
    took = timed(python("-m", "benchmarks.bench_scale", "--one", *numbers))
    result: dict[str, float] = json.loads(took.output.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
