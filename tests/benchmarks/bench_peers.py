"""The same small study with plain Optuna, plain Ray Tune, and Lightning with torch.optim.swa_utils: time and accuracy.

    PYTHONPATH=.:tests python -m benchmarks.bench_peers [--trials 6] [--seeds 3] [--replicates 2] [--turns 3]

Everybody gets the same data, net, learning rates, radii and starts of averaging, tries every configuration and trains
the best one of each method again on fresh seeds, all of that once in each replicate. A useful measurement is a
(configuration, weights, seed) with its score: of a run, a peer has the last weights and one average, which is what its
library keeps; the study has the last weights and an average at each start. Wall time is that of the whole command, from
start to end. Contenders take turns, in an order that rotates; ratios are taken within a turn.

Accuracies are compared run by run: the same configuration, the same seed, the same weights (the last, and the average
from the proposed start); the runs differ in the order of their data alone.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.conditions import HERE, header, python, spread, table
from benchmarks.peers.problem import METHODS, spec_of
from benchmarks.process_trees import Took, timed
from scipy import stats

from study.records import RunRecord
from study.store.results import load

Sizes = tuple[int, int, int]  # trials, seeds, replicates
OURS = "this platform"
PEERS = {
    "plain Optuna, 2 processes": "plain_optuna",
    "plain Ray Tune, defaults": "plain_ray_tune",
    "Lightning + swa_utils, 2 processes": "lightning_swa",
}


def ours(sizes: Sizes) -> tuple[Took, dict[str, Any]]:
    """Run the study; return what it took, and its scores in the form of the peers'."""
    with tempfile.TemporaryDirectory(prefix="peers-") as home:
        folder = Path(home) / "results"
        (Path(home) / "peers.toml").write_text(spec_of(*sizes)[1])
        took = timed(
            python("-m", "study.run", f"{home}/peers.toml", "--out", str(folder), "--no-report", "--quiet",
                   "--max-concurrent", "2")
        )  # fmt: skip
        records = load(folder).records
    tuned = [record for record in records if record.job.stage == "tune"]
    return took, {
        "tuned": [[r.job.replicate, r.job.family, r.job.trial, *_last_and_proposed(r)] for r in tuned],
        "tested": {},
        "runs": len(records),
        "measurements": sum(sum(m.epoch == r.job.epochs for m in r.measurements) for r in records),
    }


def _last_and_proposed(record: RunRecord) -> tuple[float, float]:
    scores = {m.weights: m.val_score or 0.0 for m in record.measurements if m.epoch == record.job.epochs}
    return scores["last"], scores[f"swa@{record.job.average_start!r}"]


def peer(module: str, sizes: Sizes) -> tuple[Took, dict[str, Any]]:
    """Run one peer; return what it took and its scores."""
    trials, seeds, replicates = map(str, sizes)
    command = python("-m", f"benchmarks.peers.{module}", "--trials", trials, "--seeds", seeds,
                     "--replicates", replicates)  # fmt: skip
    paths = f"{HERE.parents[1]}:{HERE.parent}"
    took = timed(command, PYTHONPATH=paths, PYTHONWARNINGS="ignore")
    found = json.loads(took.output.splitlines()[-1])
    return took, found | {"measurements": 2 * found["runs"]}


def difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float, int]:
    """Return our mean validation accuracy minus theirs over equal runs, half its 95 % interval, and how many runs.

    A run counts once, with the mean of its last and its averaged weights: the two are no independent measurements.
    """
    by_run = {tuple(run): scores for *run, last, average in theirs["tuned"] for scores in [(last, average)]}
    gaps = np.array([np.mean(scores) - np.mean(by_run[tuple(run)]) for *run, last, average in mine["tuned"]
                     for scores in [(last, average)]])  # fmt: skip
    if len(gaps) < 2:
        return float(gaps.mean()), math.nan, len(gaps)
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))
    return float(gaps.mean()), float(half), len(gaps)


def main() -> None:
    """Print a row for every contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6, help="configurations of each family")
    parser.add_argument("--seeds", type=int, default=3, help="fresh seeds of each method's best")
    parser.add_argument("--replicates", type=int, default=2, help="repetitions of the whole procedure")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    sizes = given.trials, given.seeds, given.replicates
    names = [OURS, *PEERS]
    print(header(), flush=True)
    took: dict[str, list[Took]] = {name: [] for name in names}
    found: dict[str, dict[str, Any]] = {}
    for turn in range(given.turns):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            row, found[name] = ours(sizes) if name == OURS else peer(PEERS[name], sizes)
            took[name].append(row)
            print(f"  {name}: {row.wall_s:.1f} s, {row.cpu_s:.1f} s CPU", flush=True)
    print(f"\n{_result(names, took, found)}")
    for method in METHODS:
        tested = {name: statistics.mean(found[name]["tested"][method]) for name in names if name != OURS}
        print(f"  {method}: test accuracy " + ", ".join(f"{name} {value:.3f}" for name, value in tested.items()))


def _result(names: list[str], took: dict[str, list[Took]], found: dict[str, dict[str, Any]]) -> str:
    rows = [["contender", "runs", "measurements", "wall s", "CPU s", "CPU s a run", "wall s a measurement",
             "times ours", "accuracy, ours minus theirs"]]  # fmt: skip
    for name in names:
        runs, measurements = found[name]["runs"], found[name]["measurements"]
        wall, cpu = [row.wall_s for row in took[name]], [row.cpu_s for row in took[name]]
        mine = [row.wall_s / found[OURS]["measurements"] for row in took[OURS]]
        times = [own / measurements / base for own, base in zip(wall, mine, strict=True)]
        mean, half, number = difference(found[OURS], found[name])
        rows.append(
            [
                name, str(runs), str(measurements), spread(wall, 1), spread(cpu, 1), spread([s / runs for s in cpu]),
                spread([s / measurements for s in wall], 3), spread(times),
                "–" if name == OURS else f"{mean:+.4f} ± {half:.4f} ({number} runs)",
            ]
        )  # fmt: skip
    return table(rows)


if __name__ == "__main__":
    main()
