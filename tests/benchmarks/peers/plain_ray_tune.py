"""The problem with plain Ray Tune at its defaults: a function per trial that reports after every epoch."""

import tempfile
from dataclasses import asdict
from typing import Any

import ray
from benchmarks.peers.problem import Configuration, Scores, solve
from ray import tune


def train(config: dict[str, Any]) -> None:
    """Train one configuration in the trial's process."""
    from benchmarks.peers.plain_torch import fit  # noqa: PLC0415  # torch belongs into the trial

    configuration, seed = config["wanted"]
    scores = fit(Configuration(**configuration), seed, lambda val: tune.report({"val": val}))
    tune.report({"val": max(scores.last, scores.average), "scores": asdict(scores)})


def sweep(wanted: list[tuple[Configuration, int]]) -> list[Scores]:
    """Train a list of configurations with Ray Tune and return their scores in its order."""
    with tempfile.TemporaryDirectory() as home:
        tuner = tune.Tuner(
            train,
            param_space={"wanted": tune.grid_search([(asdict(c), seed) for c, seed in wanted])},
            run_config=tune.RunConfig(storage_path=home, verbose=0),
        )
        results = tuner.fit()
        if results.errors:
            raise results.errors[0]
        by_content = {repr(tuple(result.config["wanted"])): result.metrics["scores"] for result in results}
    return [Scores(**by_content[repr((asdict(c), seed))]) for c, seed in wanted]


if __name__ == "__main__":
    ray.init(log_to_driver=False, logging_level="error")
    solve(sweep)
