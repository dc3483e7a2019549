"""Every run as one row of the page's last table."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from dashboards import theme
from dashboards.cells import Cell
from dashboards.provenance import without_home
from dashboards.score import Score
from dashboards.tables.evidence import weights_in_words
from dashboards.tables.table import Column, Entry, Table, numeric

MOST_ROWS = 1000
_RANKED = {
    "status": pd.CategoricalDtype(["failed", "diverged", "pruned", "completed"], ordered=True),
    "stage": pd.CategoricalDtype(["confirm", "tune"], ordered=True),
}
_ORDER = ["status", "stage", "cell", "family", "epochs_factor", "trial", "seed", "run_id"]
_LONGEST_ERROR = 160


def run_table(frame: pd.DataFrame, cells: Mapping[str, Cell], score: Score, limit: int = MOST_ROWS) -> Table:
    """Return one row a run: troubled runs first, then confirm, then tune, so that a cap cuts the least."""
    last = frame.loc[(frame["weights"] == "last") & frame["final"], _ORDER].astype(_RANKED)
    shown = frame.loc[last.sort_values(_ORDER).index[:limit]]
    table = Table(
        "runs",
        f"One row a run; {score.name} at its last epoch.",
        (
            Column("Run", "run_id"),
            Column("Status", "status"),
            Column("Stage", "stage"),
            Column("Problem", "problem"),
            Column("Family", "family"),
            numeric("Epochs", "epochs_factor"),
            numeric("Learning rate", "learning_rate"),
            numeric("rho", "rho"),
            numeric("Seed", "seed"),
            numeric(score.head("Val., last"), "val_score_last"),
            numeric(score.head("Val., best average"), "val_score_averaged"),
            Column("Average", "average"),
            numeric(score.head("Test, last"), "test_score_last"),
            numeric(score.head("Test, average"), "test_score_averaged"),
            numeric("Gradients", "gradient_evaluations"),
            Column("Message", "error"),
        ),
        tuple(_rows(shown, _best_averages(frame, shown["run_id"]), cells, score)),
    )
    if len(last) > limit:
        note = f"{limit:,} of {len(last):,} runs are shown, troubled ones first; all of them are in runs.parquet."
        return replace(table, caption=f"{table.caption} {note}", note=note)
    return table


def _best_averages(frame: pd.DataFrame, run_ids: pd.Series) -> dict[str, dict[str, object]]:
    """Return each run's average with the best validation score at its last epoch; ties go to the first name."""
    averages = frame[
        (frame["weights"] != "last") & frame["final"] & frame["val_score"].notna() & frame["run_id"].isin(run_ids)
    ].sort_values(["val_score", "weights"], ascending=[False, True])
    best = averages.drop_duplicates("run_id")[["run_id", "weights", "val_score", "test_score"]]
    return {str(row["run_id"]): row for row in best.to_dict("records")}  # type: ignore[misc]


def _rows(
    shown: pd.DataFrame, averages: Mapping[str, Mapping[str, object]], cells: Mapping[str, Cell], score: Score
) -> list[tuple[Entry, ...]]:
    rows: list[tuple[Entry, ...]] = []
    for run in shown.to_dict("records"):
        run_id, status = str(run["run_id"]), str(run["status"])
        average = averages.get(run_id, {})
        rows.append(
            (
                Entry(run_id[:8], run_id),
                Entry(status, icon=theme.STATUS_ICONS[status]),
                Entry(str(run["stage"])),
                Entry(cells[run["cell"]].label),
                Entry(str(run["family"])),
                Entry(f"{run['epochs_factor']:g}×", float(run["epochs_factor"])),
                Entry(theme.number(run["learning_rate"]), run["learning_rate"]),
                Entry(theme.number(run["rho"]), run["rho"]),
                Entry(str(run["seed"]), int(run["seed"])),
                _entry(run["val_score"], score),
                _entry(average.get("val_score"), score),
                Entry(weights_in_words(str(average["weights"])) if average else "–", str(average.get("weights", ""))),
                _entry(run["test_score"], score),
                _entry(average.get("test_score"), score),
                Entry(theme.large(run["gradient_evaluations"]), int(run["gradient_evaluations"])),
                _message(run["error"]),
            )
        )
    return rows


def _entry(value: object, score: Score) -> Entry:
    fraction = float(value) if isinstance(value, float | int) else None
    return Entry(score.text(fraction), fraction if theme.known(fraction) else "")


def _message(error: object) -> Entry:
    if not isinstance(error, str) or not error:
        return Entry("", "")
    line = without_home(" ".join(error.split()))
    return Entry(line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}…", line)
