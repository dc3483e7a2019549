"""Tables of runs as people have them: one content, written by everything that writes such tables."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

SEEDS = 8
Row = dict[str, Any]


def table(
    gains: Mapping[str, float] | None = None,
    *,
    problems: Sequence[str] = ("digits", "letters"),
    seeds: int = SEEDS,
    seed: int = 0,
) -> list[Row]:
    """Return rows of methods with a gain over SGD; runs of one seed share most of their noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for problem in problems:
        for number in range(seeds):
            level = rng.normal(0.9, 0.01)
            for method, gain in ({"SGD": 0.0, "SAM": 0.012, "Lion": -0.0005} if gains is None else gains).items():
                score = round(float(level + gain + rng.normal(0, 0.002)), 4)
                rows.append({"optimizer": method, "dataset": problem, "seed": number, "test_acc": score})
    return rows


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def as_csv(rows: list[Row], folder: Path) -> str:
    return written(folder / "runs.csv", frame(rows).to_csv(index=False))


def as_semicolons(rows: list[Row], folder: Path) -> str:
    return written(folder / "runs.csv", "\ufeff" + frame(rows).to_csv(index=False, sep=";", lineterminator="\r\n"))


def as_tabs(rows: list[Row], folder: Path) -> str:
    return written(folder / "runs.tsv", frame(rows).to_csv(index=False, sep="\t"))


def as_json(rows: list[Row], folder: Path) -> str:
    return written(folder / "runs.json", json.dumps(rows))


def as_parquet(rows: list[Row], folder: Path) -> str:
    frame(rows).set_index(["dataset", "seed"]).to_parquet(folder / "runs.parquet")
    return str(folder / "runs.parquet")


def as_wandb_table(rows: list[Row], folder: Path) -> str:
    """The export of the table of runs: bookkeeping first, then settings and measurements."""
    made = [
        {"Name": f"sunny-sweep-{k}", "State": "finished", "Notes": "-", "User": "me", "Tags": "", "Created":
         "2026-01-01T00:00:00.000Z", "Runtime": "61", "Sweep": ""} | row | {"epoch": 9, "train_loss": 0.1}
        for k, row in enumerate(rows)
    ]  # fmt: skip
    frame(made).to_csv(folder / "wandb_export.csv", index=False, quoting=csv.QUOTE_ALL)
    return str(folder / "wandb_export.csv")


def wandb_runs(rows: list[Row]) -> list[Row]:
    return [
        {
            "name": f"run-{k}",
            "config": {"optimizer": row["optimizer"], "dataset": row["dataset"], "seed": row["seed"], "lr": 0.1},
            "summary": {"test_acc": row["test_acc"], "_runtime": 61.5, "_wandb": {"runtime": 61}, "bad": math.nan},
        }
        for k, row in enumerate(rows)
    ]


def as_wandb_documented(rows: list[Row], folder: Path) -> str:
    """What W&B's documented lines write: a DataFrame of dicts, as CSV."""
    frame(wandb_runs(rows)).to_csv(folder / "project.csv")
    return str(folder / "project.csv")


def as_wandb_json(rows: list[Row], folder: Path) -> str:
    """Runs as the API has them: raw settings are wrapped, objects may be texts."""
    runs = [
        {"name": run["name"], "state": "finished", "summaryMetrics": json.dumps(run["summary"]),
         "config": json.dumps({name: {"desc": None, "value": value} for name, value in run["config"].items()})}
        for run in wandb_runs(rows)
    ]  # fmt: skip
    return written(folder / "runs.json", json.dumps({"runs": runs}))


def as_mlflow_csv(rows: list[Row], folder: Path) -> str:
    """What ``mlflow experiments csv`` and ``mlflow.search_runs`` give."""
    made = [
        {"run_id": f"{k:032x}", "experiment_id": "1", "status": "FINISHED", "artifact_uri": "s3://b", "start_time":
         "2026-01-01", "end_time": "2026-01-01", "metrics.test_acc": row["test_acc"], "metrics.loss": 0.3,
         "params.optimizer": row["optimizer"], "params.dataset": row["dataset"], "params.seed": str(row["seed"]),
         "tags.mlflow.runName": f"run {k}", "tags.mlflow.user": "me"}
        for k, row in enumerate(rows)
    ]  # fmt: skip
    return written(folder / "runs.csv", frame(made).to_csv(index=False))


def as_optuna(rows: list[Row], folder: Path) -> str:
    """One study a data set; the method is a parameter, the seed an attribute."""
    url = f"sqlite:///{folder / 'optuna.db'}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    choices = {"optimizer": optuna.distributions.CategoricalDistribution(["SGD", "SAM", "Lion"])}
    for problem in dict.fromkeys(row["dataset"] for row in rows):
        study = optuna.create_study(storage=url, study_name=problem, direction="maximize")
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={"optimizer": row["optimizer"]}, distributions=choices, value=row["test_acc"],
                    user_attrs={"seed": row["seed"], "dataset": problem},
                )
                for row in rows
                if row["dataset"] == problem
            ]
        )  # fmt: skip
    return url


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


FORMATS: dict[str, Callable[[list[Row], Path], str]] = {
    "CSV": as_csv, "semicolons": as_semicolons, "tabs": as_tabs, "JSON": as_json,
    "Parquet": as_parquet, "W&B's table": as_wandb_table, "W&B's documented lines": as_wandb_documented,
    "W&B's JSON": as_wandb_json, "MLflow's CSV": as_mlflow_csv, "Optuna": as_optuna,
}  # fmt: skip
