"""Every run as one row of the page's last table."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from dashboards import theme
from dashboards.cells import Cell
from dashboards.provenance import without_home
from dashboards.score import Score
from dashboards.tables.evidence import weights_in_words
from dashboards.tables.table import Column, Entry, Table, hidden, number_entry, numeric

MOST_ROWS = 2000
_RANKED = {
    "status": pd.CategoricalDtype(["failed", "diverged", "pruned", "completed"], ordered=True),
    "stage": pd.CategoricalDtype(["confirm", "tune"], ordered=True),
}
_ORDER = ["status", "stage", "cell", "replicate", "method", "epochs_factor", "trial", "seed", "run_id"]
_LONGEST_ERROR = 160


def run_table(frame: pd.DataFrame, cells: Mapping[str, Cell], score: Score, limit: int = MOST_ROWS) -> Table:
    """Return one row a run: troubled runs first, then confirm, then tune, so that a cap cuts the least."""
    last = frame.loc[(frame["weights"] == "last") & frame["final"], _ORDER].astype(_RANKED)
    shown = frame.loc[last.sort_values(_ORDER).index[:limit]]
    troubled = bool(shown["error"].notna().any())
    table = Table(
        "runs",
        f"One row a run; {score.name} at its last epoch, of the weights that validation prefers.",
        (
            Column("Run", "run_id"),
            Column("Status", "status"),
            Column("Stage", "stage"),
            Column("Problem", "problem", prose=True),
            Column("Method", "method"),
            numeric("Repl.", "replicate"),
            numeric("Epochs", "epochs"),
            *hidden("epochs_factor"),
            numeric("Rate", "learning_rate"),
            numeric("rho", "rho"),
            numeric("Seed", "seed"),
            Column("Weights", "preferred"),
            numeric(score.head("Val."), "val_score"),
            numeric(score.head("Test"), "test_score"),
            *hidden("val_score_last", "test_score_last", "unit", "gradient_evaluations"),
            Column("Message", "error", prose=True, hidden=not troubled),
        ),
        tuple(_rows(shown, _preferred(frame, shown["run_id"]), cells, score)),
    )
    if len(last) > limit:
        note = f"{limit:,} of {len(last):,} runs are shown, troubled ones first; all of them are in runs.parquet."
        return replace(table, caption=f"{table.caption} {note}", note=note)
    return table


def _preferred(frame: pd.DataFrame, run_ids: pd.Series) -> dict[str, dict[str, object]]:
    """Return what validation prefers of each run at its end, as `study.plan.selection.preferred_of_two` does."""
    ends = frame[frame["final"] & frame["val_score"].notna() & frame["run_id"].isin(run_ids)]
    ends = ends.assign(stands=ends["weights_epoch"].fillna(ends["epoch"]), averaged=ends["weights"] != "last")
    ends = ends.sort_values(
        ["val_score", "stands", "val_loss", "averaged", "weights"], ascending=[False, False, True, True, True]
    )
    best = ends.drop_duplicates("run_id")[["run_id", "weights", "weights_epoch", "val_score", "test_score"]]
    return {str(row["run_id"]): row for row in best.to_dict("records")}  # type: ignore[misc]


def _rows(
    shown: pd.DataFrame, preferred: Mapping[str, Mapping[str, object]], cells: Mapping[str, Cell], score: Score
) -> list[tuple[Entry, ...]]:
    rows: list[tuple[Entry, ...]] = []
    for run in shown.to_dict("records"):
        run_id, status = str(run["run_id"]), str(run["status"])
        best = preferred.get(run_id, {})
        rows.append(
            (
                Entry(run_id[:8], run_id),
                Entry(status, icon=theme.STATUS_ICONS[status]),
                Entry(str(run["stage"])),
                Entry(cells[run["cell"]].label),
                Entry(str(run["method"]), method=str(run["method"])),
                Entry(str(run["replicate"]), int(run["replicate"])),
                Entry(_epochs(cells[run["cell"]], float(run["epochs_factor"]))),
                Entry("", float(run["epochs_factor"])),
                Entry(theme.number(run["learning_rate"]), run["learning_rate"]),
                Entry(theme.number(run["rho"]), run["rho"]),
                Entry(str(run["seed"]), int(run["seed"])),
                Entry(_weights(best), str(best.get("weights", ""))),
                _entry(best.get("val_score"), score),
                _entry(best.get("test_score"), score),
                *(number_entry(_measured(run[name], score)) for name in ("val_score", "test_score")),
                Entry("", score.csv_unit),
                Entry("", int(run["gradient_evaluations"])),
                _message(run["error"]),
            )
        )
    return rows


def _weights(best: Mapping[str, object]) -> str:
    epoch = best.get("weights_epoch")
    return weights_in_words(str(best["weights"]), epoch if isinstance(epoch, int) else None) if best else "–"


def _epochs(cell: Cell, factor: float) -> str:
    return f"{factor * cell.epochs:.4g}" if cell.epochs else f"{factor:g}×"


def _measured(value: object, score: Score) -> float | None:
    return score.measured(float(value)) if isinstance(value, float | int) and theme.known(value) else None


def _entry(value: object, score: Score) -> Entry:
    found = _measured(value, score)
    return Entry("–", "") if found is None else Entry(score.text(score.measured(found)), found)


def _message(error: object) -> Entry:
    if not isinstance(error, str) or not error:
        return Entry("", "")
    line = without_home(" ".join(error.split()))
    return Entry(line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}…", line)
