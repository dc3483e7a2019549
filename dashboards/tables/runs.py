"""Every run as one row of the page's last table."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from dashboards import theme
from dashboards.cells import LabelledCell
from dashboards.provenance import without_home
from dashboards.score import score_in, score_of
from dashboards.tables import columns
from dashboards.tables.beside_verdicts import weights_in_words
from dashboards.tables.table import Table, capped
from study.findings import Findings

MOST_ROWS = 2000
_RANKED = {
    "status": pd.CategoricalDtype(["failed", "diverged", "pruned", "completed"], ordered=True),
    "stage": pd.CategoricalDtype(["confirm", "tune"], ordered=True),
}
_ORDER = ["status", "stage", "cell", "replicate", "method", "epochs_factor", "trial", "seed", "run_id"]
_LONGEST_ERROR = 160


def run_table(
    findings: Findings, frame: pd.DataFrame, cells: Mapping[str, LabelledCell], limit: int = MOST_ROWS
) -> Table:
    """Return one row a run: troubled runs first, then confirm, then tune, so that a cap cuts the least."""
    last = frame.loc[(frame["weights"] == "last") & frame["final"], _ORDER].astype(_RANKED)
    kept = frame.loc[last.sort_values(_ORDER).index[:limit]]
    runs = kept.merge(_preferred(frame, kept["run_id"]), on="run_id", how="left")
    problems = [cells[name] for name in runs["cell"]]
    by_task = {cell.task: score_in(findings, cell.task) for cell in cells.values()}
    score, own = score_of(findings), [by_task[cell.task] for cell in problems]
    lengths = list(zip(problems, runs["epochs_factor"].tolist(), strict=True))
    weights, messages = (
        list(map(_weights, runs["best"].tolist(), runs["best_epoch"].tolist())),
        list(map(_message, runs["error"])),
    )
    table = columns.table_of(
        "runs",
        f"One row a run; {score.name} at its last epoch, of the weights that validation prefers{score.direction}.",
        (
            columns.words("Run", "run_id", [run[:8] for run in runs["run_id"]], runs["run_id"].tolist()),
            columns.marked("Status", "status", runs["status"], map(theme.STATUS_ICONS.__getitem__, runs["status"])),
            columns.words("Stage", "stage", runs["stage"]),
            columns.words("Problem", "problem", [cell.label for cell in problems], prose=True),
            columns.methods("Method", "method", runs["method"].tolist()),
            columns.counts("Repl.", "replicate", runs["replicate"].tolist()),
            columns.numbers(
                "Epochs",
                "epochs",
                [factor * cell.epochs or None for cell, factor in lengths],
                texts=[_epochs(cell, factor) for cell, factor in lengths],
            ),
            columns.hidden("epochs_factor", runs["epochs_factor"].tolist()),
            columns.numbers("Rate", "learning_rate", runs["learning_rate"].tolist()),
            columns.numbers("rho", "rho", runs["rho"].tolist()),
            columns.counts("Seed", "seed", runs["seed"].tolist()),
            columns.words("Weights", "preferred", weights, runs["best"].fillna("").tolist()),
            columns.scores(score, "Val.", "val_score", runs["best_val"].tolist(), own),
            columns.scores(score, "Test", "test_score", runs["best_test"].tolist(), own),
            *(
                columns.hidden(
                    f"{name}_last", [one.measured(v) for one, v in zip(own, runs[name].tolist(), strict=True)]
                )
                for name in ("val_score", "test_score")
            ),
            columns.units(own),
            columns.hidden("gradient_evaluations", runs["gradient_evaluations"].tolist()),
            columns.words(
                "Message", "error", [text for text, _ in messages], [whole for _, whole in messages], prose=True
            ),
        ),
        total=len(last),
    )
    if not any(text for text, _ in messages):
        table = replace(table, columns=(*table.columns[:-1], replace(table.columns[-1], hidden=True)))
    return capped(table, limit, "troubled ones first; all of them are in runs.parquet.")


def _preferred(frame: pd.DataFrame, run_ids: pd.Series) -> pd.DataFrame:
    """Return what validation prefers of each run at its end, as `study.plan.selection.preferred_of_two` does."""
    ends = frame[frame["final"] & frame["val_score"].notna() & frame["run_id"].isin(run_ids)]
    ends = ends.assign(stands=ends["weights_epoch"].fillna(ends["epoch"]), averaged=ends["weights"] != "last")
    ends = ends.sort_values(
        ["val_score", "stands", "val_loss", "averaged", "weights"], ascending=[False, False, True, True, True]
    )
    names = {"weights": "best", "weights_epoch": "best_epoch", "val_score": "best_val", "test_score": "best_test"}
    return ends.drop_duplicates("run_id")[["run_id", *names]].rename(columns=names)


def _weights(name: object, epoch: object) -> str:
    if not isinstance(name, str):
        return "–"
    return weights_in_words(name, int(epoch) if isinstance(epoch, int | float) and theme.known(epoch) else None)


def _epochs(cell: LabelledCell, factor: float) -> str:
    return f"{factor * cell.epochs:.4g}" if cell.epochs else f"{factor:g}×"


def _message(error: object) -> tuple[str, str]:
    """Return a run's message on one line, short for the page, and whole."""
    if not isinstance(error, str) or not error:
        return "", ""
    line = without_home(" ".join(error.split()))
    return line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}…", line
