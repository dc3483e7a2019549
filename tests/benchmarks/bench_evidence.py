"""What a verdict costs beside the naive way, on the same cells and seeds, with the same number of configurations seen.

    PYTHONPATH=.:tests python -m benchmarks.bench_evidence [--trials 4] [--seeds 5] [--cells 1] [--turns 1]

The naive way has one sweep per method and one start of averaging per training, so every (proposal, start) pair is a
training; every training gets a new process; and, as in the public example of WASAM, its weights are evaluated after
every epoch, averages after a BatchNorm pass. The savings are then made one after the other; the last row is the
platform itself, the command ``python -m study.run``. All rows use Ray on the same slots and the same code for tasks,
nets, steps and averages. A configuration is a (proposal, weights) pair with its validation score: one base and one
perturbed run of the study see each proposal with the last weights, at the grid of starts and at the proposed one.

Every row is a process of its own; the wall time is that of its process, from start to end, Ray's start included; CPU
time is that of all processes that it starts. ``--training-alone`` leaves Ray out and compares the CPU time of the
trainings, one after the other on one thread: what is left of the factors where starting processes costs nothing.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.conditions import header, python, spread, table
from benchmarks.noisy_digits import noisy_digits
from benchmarks.process_trees import Took, timed

from study.plan.cells import Cell, Search, cells, confirm_jobs, searches, tune_job
from study.plan.proposals import propose
from study.plan.selection import Selection
from study.records import Job
from study.specs.methods import METHODS
from study.specs.spec import StudySpec
from study.store.results import load

SLOTS = 2


@dataclass(frozen=True, slots=True)
class Way:
    """Which savings are made; see the module's docstring."""

    name: str
    every_epoch: bool = True
    reuse_actors: bool = False
    many_starts: bool = False
    shared: bool = False


WAYS = (
    Way("naive"),
    Way("measure at the end only", False),
    Way("reuse actors", False, True),
    Way("all starts in one run", False, True, True),
    Way("methods share runs", False, True, True, True),
)
PLATFORM = "one agenda: the platform"


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a sweep: its job, the weights that are read from it, and for which methods."""

    job: Job
    weights: tuple[str, ...]


def spec_of(trials: int, seeds: int, epochs: int, cells_wanted: int) -> tuple[StudySpec, str]:
    """Return the study of the benchmark and its text."""
    return noisy_digits(
        "evidence", "What does a verdict cost?",
        trials=trials, seeds=seeds, epochs=epochs, schedule=["cosine", "constant"][:cells_wanted],
    )  # fmt: skip


def sweeps(spec: StudySpec, cell: Cell, way: Way) -> dict[tuple[str, ...], list[Training]]:
    """Return the trainings of every sweep of a cell by the methods that it serves."""
    groups = [("SGD", "SWA"), ("SAM", "WASAM")] if way.shared else [(method,) for method in spec.methods]
    return {
        group: [training for trial, training in _sweep(spec, cell, way, group)]
        for group in groups
    }  # fmt: skip


def _sweep(spec: StudySpec, cell: Cell, way: Way, methods: tuple[str, ...]) -> Iterable[tuple[int, Training]]:
    search = _search(spec, cell, methods)
    for trial in range(search.trials):
        proposal = propose(spec.search, search, trial, [])
        job = tune_job(spec, search, trial, proposal)
        averages = job.averages
        if way.many_starts:
            last = ("last",) if any(METHODS[method].weights == "last" for method in methods) else ()
            rest = averages if any(METHODS[method].weights == "swa" for method in methods) else ()
            yield trial, Training(job, last + rest)
        elif METHODS[methods[0]].weights == "last":
            yield trial, Training(_alone(job, proposal.average_start), ("last",))
        else:
            for start, name in zip(job.starts, averages, strict=True):
                yield trial, Training(_alone(job, start), (name,))


def _search(spec: StudySpec, cell: Cell, methods: tuple[str, ...]) -> Search:
    """Return the study's search of a family, for these methods alone."""
    family = METHODS[methods[0]].family
    [search] = [found for found in searches(spec) if (found.cell.name, found.family) == (cell.name, family)]
    return replace(search, contenders=tuple(one for one in search.contenders if one.method in methods))


def _alone(job: Job, start: float) -> Job:
    """Return a job that keeps one average instead of the study's."""
    return job.model_copy(update={"average_starts": (), "average_start": start})


def confirmations(
    spec: StudySpec, cell: Cell, way: Way, methods: tuple[str, ...], tuned: list[tuple[Training, dict[str, Any]]]
) -> list[Training]:
    """Return the trainings of the best configuration of each method of a sweep, on fresh seeds."""
    search = _search(spec, cell, methods)
    contender = {one.method: one for one in search.contenders}
    wanted: dict[tuple[float, float], tuple[Job, dict[str, None]]] = {}
    for method in methods:
        kind = METHODS[method].weights
        found = [
            (scores[name]["val"], -index, name, training.job)
            for index, (training, scores) in enumerate(tuned)
            for name in scores
            if name.partition("@")[0] == kind
        ]
        _, _, name, job = max(found, key=lambda entry: entry[:2])
        start = job.average_start if name == "last" else float(name.partition("@")[2])
        one = contender[method]
        picked = Selection(
            cell.name, search.replicate.number, one.name, method, one.reads, one.lengths, 1.0, job.trial or 0,
            job.learning_rate, job.rho, start, name, None, 0.0, 0, 0, (),
        )  # fmt: skip
        first = confirm_jobs(spec, [search], [picked])[0]
        wanted.setdefault((job.learning_rate, job.rho), (first, {}))[1][name] = None
    trainings = []
    for first, names in wanted.values():
        starts = tuple(float(name.partition("@")[2]) for name in names if name != "last")
        for seed in search.replicate.confirm:
            job = first.model_copy(
                update={
                    "seed": seed,
                    "reads": ("last", "swa") if starts else ("last",),
                    "average_starts": starts,
                    "average_start": starts[0] if starts else first.average_start,
                }
            )
            trainings.append(Training(job, tuple(names)))
    return trainings


Fit = Callable[[list[Training]], list[dict[str, Any]]]


def walk(spec: StudySpec, way: Way, fit: Fit) -> dict[str, Any]:
    """Train everything in one way, sweep after sweep, and return what there was and how the methods scored."""
    trained = pairs = 0
    scores: dict[str, list[float]] = {}
    for cell in cells(spec):
        for methods, trainings in sweeps(spec, cell, way).items():
            found = fit(trainings)
            pairs += sum(len(training.weights) for training in trainings)
            again = confirmations(spec, cell, way, methods, list(zip(trainings, found, strict=True)))
            tested = fit(again)
            trained += len(trainings) + len(again)
            for training, result in zip(again, tested, strict=True):
                for name in training.weights:
                    method = next(m for m in methods if METHODS[m].weights == name.partition("@")[0])
                    scores.setdefault(method, []).append(result[name]["test"])
    return {"trainings": trained, "pairs": pairs, "test": {m: statistics.mean(v) for m, v in scores.items()}}


def with_ray(spec: StudySpec, way: Way) -> dict[str, Any]:
    """Walk with Ray Tune, a sweep after the other."""
    import ray  # noqa: PLC0415  # takes seconds, and only the processes of the rows need it
    from benchmarks.one_by_one import OneByOneActor  # noqa: PLC0415  # Ray takes seconds to import

    from study.engine.cluster import cluster  # noqa: PLC0415  # Ray takes seconds to import

    with tempfile.TemporaryDirectory(prefix="evidence-") as home, cluster(None):
        actor = ray.tune.with_parameters(OneByOneActor, data=_data(spec))
        return walk(spec, way, lambda trainings: fit(actor, trainings, way, Path(home)))


def trained_alone(spec: StudySpec, way: Way) -> dict[str, Any]:
    """Walk in this process, one training after the other on one thread; add its CPU seconds."""
    import torch  # noqa: PLC0415  # takes seconds, and only the processes of the rows need it
    from benchmarks.one_by_one import OneByOne  # noqa: PLC0415  # needs Ray

    torch.set_num_threads(1)
    data = _data(spec)
    began = time.process_time()
    found = walk(
        spec,
        way,
        lambda trainings: [
            OneByOne(t.job, data[t.job.task], "cpu", "0").scores(t.weights, way.every_epoch) for t in trainings
        ],
    )
    return found | {"cpu_s": time.process_time() - began}


def _data(spec: StudySpec) -> dict[str, Any]:
    from study.data import load_data  # noqa: PLC0415  # only some rows load data

    return {problem.task: load_data(problem.task) for problem in spec.problems}


def fit(actor: Any, trainings: list[Training], way: Way, storage: Path) -> list[dict[str, Any]]:
    """Run one sweep with Ray Tune and return the scores in the order of the trainings."""
    from ray import tune  # noqa: PLC0415  # Ray takes seconds to import

    configurations = [
        {"job": t.job.model_dump(mode="json"), "weights": list(t.weights), "every_epoch": way.every_epoch}
        for t in trainings
    ]
    tuner = tune.Tuner(
        actor,
        param_space={"training": tune.grid_search(configurations)},
        tune_config=tune.TuneConfig(max_concurrent_trials=SLOTS, reuse_actors=way.reuse_actors),
        run_config=tune.RunConfig(
            storage_path=str(storage), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise RuntimeError(f"a training failed: {results.errors[0]}")
    by_content = {
        json.dumps(result.config["training"], sort_keys=True): json.loads(result.metrics["scores"])
        for result in results
    }
    return [by_content[json.dumps(configuration, sort_keys=True)] for configuration in configurations]


def platform(home: Path, text: str) -> tuple[Took, dict[str, Any]]:
    """Run the study itself; return what it took, and the same as `walk`."""
    (home / "evidence.toml").write_text(text)
    folder = home / "results"
    took = timed(
        python("-m", "study.run", str(home / "evidence.toml"), "--out", str(folder), "--no-report", "--quiet",
               "--max-concurrent", str(SLOTS))
    )  # fmt: skip
    records = load(folder).records
    pairs = sum(len(record.measurements) for record in records if record.job.stage == "tune")
    return took, {"trainings": len(records), "pairs": pairs, "test": {}}


def main() -> None:
    """Print a row for every saving, and the product of their factors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4, help="proposals of each family")
    parser.add_argument("--seeds", type=int, default=5, help="confirm seeds; a verdict needs five")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--cells", type=int, default=1, choices=(1, 2))
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--ends", action="store_true", help="the naive way and the platform alone")
    parser.add_argument(
        "--training-alone", action="store_true", help="CPU time of the trainings alone, in one process, without Ray"
    )
    parser.add_argument("--way", choices=[way.name for way in WAYS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    spec, text = spec_of(given.trials, given.seeds, given.epochs, given.cells)
    if given.way:
        print(json.dumps(with_ray(spec, next(way for way in WAYS if way.name == given.way))))
        return
    print(header(), flush=True)
    if given.training_alone:
        print(f"\n{_alone_rows(spec)}")
        return
    sizes = ("--trials", given.trials, "--seeds", given.seeds, "--epochs", given.epochs, "--cells", given.cells)
    names = [WAYS[0].name, PLATFORM] if given.ends else [*(way.name for way in WAYS), PLATFORM]
    took: dict[str, list[Took]] = {name: [] for name in names}
    found: dict[str, dict[str, Any]] = {}
    for turn in range(given.turns):
        for name in names if turn % 2 == 0 else reversed(names):
            row, found[name] = _row(name, text, sizes)
            took[name].append(row)
            print(f"  {name}: {row.wall_s:.0f} s, {row.cpu_s:.0f} s CPU, {found[name]}", flush=True)
    print(f"\n{_result(names, took, found)}")


def _result(names: list[str], took: dict[str, list[Took]], found: dict[str, dict[str, Any]]) -> str:
    rows = [["saving", "trainings", "configurations", "wall s", "CPU s", "wall, factor", "CPU, factor", "CPU, in all"]]
    for before, name in zip([names[0], *names], names, strict=False):
        wall = [row.wall_s for row in took[name]]
        cpu = [row.cpu_s for row in took[name]]
        rows.append(
            [
                name, str(found[name]["trainings"]), str(found[name]["pairs"]), spread(wall, 0), spread(cpu, 0),
                _factor([row.wall_s for row in took[before]], wall), _factor([row.cpu_s for row in took[before]], cpu),
                _factor([row.cpu_s for row in took[names[0]]], cpu),
            ]
        )  # fmt: skip
    in_all = _factor([row.wall_s for row in took[names[0]]], [row.wall_s for row in took[names[-1]]])
    return f"{table(rows)}\n\nin all {in_all} x less wall time"


def _alone_rows(spec: StudySpec) -> str:
    rows, spent = [["saving", "trainings", "configurations", "CPU s of training", "factor", "so far"]], []
    for way in WAYS:
        if way.reuse_actors and not way.many_starts:
            continue  # it saves processes, and here is only one
        found = trained_alone(spec, way)
        spent.append(found["cpu_s"])
        rows.append(
            [
                way.name, str(found["trainings"]), str(found["pairs"]), f"{spent[-1]:.1f}",
                f"{spent[max(0, len(spent) - 2)] / spent[-1]:.2f}", f"{spent[0] / spent[-1]:.2f}",
            ]
        )  # fmt: skip
        print(f"  {way.name}: {found}", flush=True)
    return table(rows)


def _factor(before: list[float], after: list[float]) -> str:
    return spread([a / b for a, b in zip(before, after, strict=True)])


def _row(name: str, text: str, sizes: tuple[object, ...]) -> tuple[Took, dict[str, Any]]:
    if name == PLATFORM:
        with tempfile.TemporaryDirectory(prefix="evidence-") as home:
            return platform(Path(home), text)
    took = timed(python("-m", "benchmarks.bench_evidence", "--way", name, *map(str, sizes)))
    return took, json.loads(took.output.splitlines()[-1])


if __name__ == "__main__":
    main()
