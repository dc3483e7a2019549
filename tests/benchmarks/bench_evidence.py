"""What a replicated verdict costs beside the naive way, on the same cells, replicates and seeds.

    PYTHONPATH=.:tests python -m benchmarks.bench_evidence [--trials 4] [--replicates 2] [--cells 1] [--turns 1]

The naive way has, in every replicate, a sweep per method, and in it a training per proposal, length and start of
averaging; every training gets a new process; and, as in the public example of WASAM, its weights are evaluated after
every epoch, averages after a BatchNorm pass. The savings are then made one after the other; the last row is the
platform itself, the command ``python -m study.run``. All rows use Ray on the same slots and the same code for tasks,
nets, steps, averages and for what validation picks, so that they differ in what is trained how often and where.

Every row is a process of its own; the wall time is that of its process, from start to end, Ray's start included; CPU
time is that of all processes that it starts. ``--training-alone`` leaves Ray out and compares the CPU time of the
trainings, one after the other on one thread: what is left of the factors where starting processes costs nothing. The
test scores of all contenders, seed by seed, are held against the naive way's.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.conditions import header, python, spread, table
from benchmarks.noisy_digits import noisy_digits
from benchmarks.process_trees import Took, timed

from study.plan.cells import Search, confirm_jobs, searches, tune_job
from study.plan.proposals import propose
from study.plan.selection import preferred_of, select
from study.records import Job, RunRecord, configuration_of, kind_of
from study.specs.contenders import contenders
from study.specs.spec import StudySpec
from study.store.results import load

SLOTS = 2
Scores = dict[str, list[float | None]]  # of every contender in every replicate, a test score for each confirm seed


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
    Way("measure where somebody looks", False),
    Way("reuse actors", False, True),
    Way("all starts in one run", False, True, True),
    Way("methods share runs", False, True, True, True),
)
PLATFORM = "one agenda: the platform"
Fit = Callable[[list[Job]], list[RunRecord]]


def spec_of(trials: int, replicates: int, epochs: int, cells_wanted: int) -> tuple[StudySpec, str]:
    """Return the study of the benchmark and its text: four methods, budgets E and G, last weights and best epoch."""
    return noisy_digits(
        "evidence", "What does a verdict cost?",
        trials=trials, seeds=3, epochs=epochs, schedule=["cosine", "constant"][:cells_wanted], replicates=replicates,
    )  # fmt: skip


def sweeps(spec: StudySpec, way: Way) -> list[list[Search]]:
    """Return the searches of every sweep: those of one method, or of one family, in one replicate of one cell."""
    found: dict[tuple[object, ...], list[Search]] = {}
    for search in searches(spec):
        for name in [search.family] if way.shared else dict.fromkeys(one.method for one in search.contenders):
            own = tuple(one for one in search.contenders if name in (one.method, one.family))
            key = search.replicate.number, search.cell.name, name
            found.setdefault(key, []).append(replace(search, contenders=own))
    return list(found.values())


def trainings(job: Job, way: Way) -> list[Job]:
    """Return the trainings that a job takes: one, or one for every start of averaging."""
    if way.many_starts or "swa" not in job.reads:
        return [job]
    return [job.model_copy(update={"average_starts": (), "average_start": start}) for start in job.starts]


def one_record(job: Job, records: Sequence[RunRecord]) -> RunRecord:
    """Return the records of a job's trainings as that of one run: what it measures stands there once."""
    measured = {(m.weights, m.epoch): m for record in records for m in record.measurements}
    return records[0].model_copy(update={"job": job, "measurements": tuple(measured.values())})


def walk(spec: StudySpec, way: Way, fit: Fit) -> dict[str, Any]:
    """Train everything in one way, sweep after sweep, and return how many trainings there were and the scores."""
    trained, scores = 0, Scores()

    def run(jobs: Sequence[Job]) -> list[RunRecord]:
        nonlocal trained
        parts = [trainings(job, way) for job in jobs]
        records = iter(fit([training for part in parts for training in part]))
        trained += sum(map(len, parts))
        return [one_record(job, [next(records) for _ in part]) for job, part in zip(jobs, parts, strict=True)]

    for sweep in sweeps(spec, way):
        tuned = run(
            [tune_job(spec, s, trial, propose(spec.search, s, trial, [])) for s in sweep for trial in range(s.trials)]
        )
        some = dict.fromkeys(one for search in sweep for one in search.contenders)
        picks = [
            chosen
            for one in some
            if (chosen := select(one, [r for r in tuned if r.job.epochs_factor in one.lengths], spec.search))
        ]
        scores |= scores_of(spec, [*tuned, *run(confirm_jobs(spec, sweep, picks))])
    return {"trainings": trained, "scores": scores}


def scores_of(spec: StudySpec, records: Iterable[RunRecord]) -> Scores:
    """Return the test scores of the contenders whose configuration the records confirm."""
    by_stage: dict[tuple[str, str, int], list[RunRecord]] = {}
    for record in records:
        by_stage.setdefault((record.job.stage, record.job.cell, record.job.replicate), []).append(record)
    found = Scores()
    for (stage, cell, replicate), some in by_stage.items():
        for one in contenders(spec) if stage == "tune" else ():
            tuned = [r for r in some if (r.job.family, r.job.epochs_factor) in {(one.family, n) for n in one.lengths}]
            chosen = select(one, tuned, spec.search)
            tested = [
                record
                for record in by_stage.get(("confirm", cell, replicate), ())
                if chosen and configuration_of(record.job) == configuration_of(chosen)
                and {*one.reads} <= {kind_of(m.weights) for m in record.measurements}
            ]  # fmt: skip
            best = [preferred_of(record).of(one.reads) for record in sorted(tested, key=lambda r: r.job.seed)]
            if best:
                found[f"{cell}, {replicate}: {one.name} {one.lengths}"] = [m.test_score for m in best if m]
    return found


def with_ray(spec: StudySpec, way: Way) -> dict[str, Any]:
    """Walk with Ray Tune, a sweep after the other."""
    import ray  # noqa: PLC0415  # takes seconds, and only the processes of the rows need it
    from benchmarks.one_by_one import OneByOneActor  # noqa: PLC0415  # Ray takes seconds to import

    from study.engine.cluster import cluster  # noqa: PLC0415  # Ray takes seconds to import

    with tempfile.TemporaryDirectory(prefix="evidence-") as home, cluster(None):
        actor = ray.tune.with_parameters(OneByOneActor, data=_data(spec))
        return walk(spec, way, lambda jobs: fit(actor, jobs, way, Path(home)))


def trained_alone(spec: StudySpec, way: Way) -> dict[str, Any]:
    """Walk in this process, one training after the other on one thread; add its CPU seconds."""
    import torch  # noqa: PLC0415  # takes seconds, and only the processes of the rows need it
    from benchmarks.one_by_one import train  # noqa: PLC0415  # needs Ray

    torch.set_num_threads(1)
    data = _data(spec)
    began = time.process_time()
    found = walk(spec, way, lambda jobs: [train(job, data[job.task], way.every_epoch) for job in jobs])
    return found | {"cpu_s": time.process_time() - began}


def _data(spec: StudySpec) -> dict[str, Any]:
    from study.data import load_data  # noqa: PLC0415  # only some rows load data

    return {problem.task: load_data(problem.task) for problem in spec.problems}


def fit(actor: Any, jobs: Sequence[Job], way: Way, storage: Path) -> list[RunRecord]:
    """Run some trainings with Ray Tune and return their records in the order of the jobs."""
    from ray import tune  # noqa: PLC0415  # Ray takes seconds to import

    tuner = tune.Tuner(
        actor,
        param_space={
            "job": tune.grid_search([job.model_dump_json() for job in jobs]),
            "every_epoch": way.every_epoch,
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=SLOTS, reuse_actors=way.reuse_actors),
        run_config=tune.RunConfig(
            storage_path=str(storage), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise RuntimeError(f"a training failed: {results.errors[0]}")
    by_id = {record.run_id: record for r in results for record in [RunRecord.model_validate_json(r.metrics["record"])]}
    return [by_id[job.run_id] for job in jobs]


def platform(home: Path, spec: StudySpec, text: str) -> tuple[Took, dict[str, Any]]:
    """Run the study itself; return what it took, and the same as `walk`."""
    (home / "evidence.toml").write_text(text)
    folder = home / "results"
    took = timed(
        python("-m", "study.run", str(home / "evidence.toml"), "--out", str(folder), "--no-report", "--quiet",
               "--max-concurrent", str(SLOTS))
    )  # fmt: skip
    records = load(folder).records
    return took, {"trainings": len(records), "scores": scores_of(spec, records)}


def main() -> None:
    """Print a row for every saving, and the product of their factors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4, help="proposals of each family")
    parser.add_argument("--replicates", type=int, default=2, help="repetitions of the whole procedure")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--cells", type=int, default=1, choices=(1, 2))
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--ends", action="store_true", help="the naive way and the platform alone")
    parser.add_argument(
        "--training-alone", action="store_true", help="CPU time of the trainings alone, in one process, without Ray"
    )
    parser.add_argument("--way", choices=[way.name for way in WAYS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    spec, text = spec_of(given.trials, given.replicates, given.epochs, given.cells)
    if given.way:
        print(json.dumps(with_ray(spec, next(way for way in WAYS if way.name == given.way))))
        return
    print(header(), flush=True)
    if given.training_alone:
        print(f"\n{_alone_rows(spec)}")
        return
    sizes = ("--trials", given.trials, "--replicates", given.replicates, "--epochs", given.epochs,
             "--cells", given.cells)  # fmt: skip
    names = [WAYS[0].name, PLATFORM] if given.ends else [*(way.name for way in WAYS), PLATFORM]
    took: dict[str, list[Took]] = {name: [] for name in names}
    found: dict[str, dict[str, Any]] = {}
    for turn in range(given.turns):
        for name in names if turn % 2 == 0 else reversed(names):
            row, found[name] = _row(name, spec, text, sizes)
            took[name].append(row)
            print(f"  {name}: {row.wall_s:.0f} s, {row.cpu_s:.0f} s CPU, {found[name]['trainings']}", flush=True)
    print(f"\n{_result(names, took, found)}")


def _result(names: list[str], took: dict[str, list[Took]], found: Mapping[str, dict[str, Any]]) -> str:
    rows = [["saving", "trainings", "wall s", "CPU s", "wall, factor", "CPU, factor", "CPU, in all", "equal scores"]]
    for before, name in zip([names[0], *names], names, strict=False):
        wall = [row.wall_s for row in took[name]]
        cpu = [row.cpu_s for row in took[name]]
        rows.append(
            [
                name, str(found[name]["trainings"]), spread(wall, 0), spread(cpu, 0),
                _factor([row.wall_s for row in took[before]], wall), _factor([row.cpu_s for row in took[before]], cpu),
                _factor([row.cpu_s for row in took[names[0]]], cpu),
                equal_scores(found[names[0]]["scores"], found[name]["scores"]),
            ]
        )  # fmt: skip
    in_all = _factor([row.wall_s for row in took[names[0]]], [row.wall_s for row in took[names[-1]]])
    return f"{table(rows)}\n\nin all {in_all} x less wall time"


def equal_scores(one: Scores, other: Scores) -> str:
    """Return how many of the test scores of all contenders are the same numbers."""
    pairs = [(a, b) for name in one | other for a, b in _paired(one.get(name, []), other.get(name, []))]
    return f"{sum(a == b for a, b in pairs)} of {len(pairs)}"


def _paired(one: Sequence[float | None], other: Sequence[float | None]) -> Iterator[tuple[object, object]]:
    for index in range(max(len(one), len(other))):
        yield tuple(some[index] if index < len(some) else "missing" for some in (one, other))  # type: ignore[misc]


def _alone_rows(spec: StudySpec) -> str:
    rows, spent, first = [["saving", "trainings", "CPU s of training", "factor", "so far", "equal scores"]], [], None
    for way in WAYS:
        if way.reuse_actors and not way.many_starts:
            continue  # it saves processes, and here is only one
        found = trained_alone(spec, way)
        spent.append(found["cpu_s"])
        first = first or found["scores"]
        rows.append(
            [
                way.name, str(found["trainings"]), f"{spent[-1]:.1f}",
                f"{spent[max(0, len(spent) - 2)] / spent[-1]:.2f}",
                f"{spent[0] / spent[-1]:.2f}", equal_scores(first, found["scores"]),
            ]
        )  # fmt: skip
        print(f"  {way.name}: {found['trainings']} trainings, {found['cpu_s']:.1f} s", flush=True)
    return table(rows)


def _factor(before: list[float], after: list[float]) -> str:
    return spread([a / b for a, b in zip(before, after, strict=True)])


def _row(name: str, spec: StudySpec, text: str, sizes: tuple[object, ...]) -> tuple[Took, dict[str, Any]]:
    if name == PLATFORM:
        with tempfile.TemporaryDirectory(prefix="evidence-") as home:
            return platform(Path(home), spec, text)
    took = timed(python("-m", "benchmarks.bench_evidence", "--way", name, *map(str, sizes)))
    return took, json.loads(took.output.splitlines()[-1])


if __name__ == "__main__":
    main()
