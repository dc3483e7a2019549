"""What trackers and tuners leave behind: W&B's tables of runs, MLflow's exports, Optuna's databases."""

import ast
import json
import math
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

# Groups under which trackers write what a run was given and what it measured.
GROUPS = ("config", "summary", "params", "metrics", "tags", "user_attrs", "study_attrs")
SETTINGS = ("config", "params")  # of them, those that say how a run was made
_NESTED = {"summaryMetrics": "summary", "summary_metrics": "summary", "rawconfig": "config"}
_WRITTEN = (*GROUPS, *_NESTED)


class TableError(ValueError):
    """A table that can't be judged: what was given, what is allowed, what to do."""


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with nested settings and measurements under dotted names: ``config.optimizer``.

    W&B's API gives a run's ``config`` and ``summary`` as objects, which a CSV or JSON holds as text; the settings of a
    raw config are wrapped as ``{"value": …}``.
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, str) and name in _WRITTEN and value.lstrip().startswith("{"):
            value = _object(name, value)
        _put(found, _NESTED.get(name, name), value)
    return found


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, Mapping) and "value" in value and value.keys() <= {"value", "desc"}:
        value = value["value"]
    if isinstance(value, Mapping):
        for inner, part in value.items():
            _put(found, f"{name}.{inner}", part)
    else:
        found[name] = value


def _object(name: str, text: str) -> Any:
    """Read an object that stands in a cell, as JSON or as Python writes it, where NaN is ``nan``."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(_Numbers().visit(ast.parse(text.strip(), mode="eval")))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise TableError(f"a cell of the column {name!r} can't be read as an object: {text[:60]!r}.") from error


class _Numbers(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        number = {"nan": math.nan, "inf": math.inf}.get(node.id)
        return node if number is None else ast.copy_location(ast.Constant(number), node)


def check_export(columns: Collection[str]) -> None:
    """Refuse the export of a W&B chart.

    Raises:
        TableError: columns that are runs, without any settings.
    """
    if any(column.endswith(("__MIN", "__MAX")) for column in columns):
        raise TableError(
            "this is the export of a W&B chart, with a column a run and none of their settings; export the table of "
            "runs instead (in the table view: Export → CSV)."
        )


def optuna_rows(url: str) -> list[dict[str, Any]]:
    """Read the trials of all studies of an Optuna database; the values of several objectives are numbered.

    Raises:
        TableError: it can't be opened, or is not Optuna's.
    """
    if url.startswith("sqlite:///"):
        _check_optuna(Path(url.removeprefix("sqlite:///")))
    import optuna  # noqa: PLC0415  # takes a second, and nothing else here needs it

    try:
        storage = optuna.storages.RDBStorage(url)
        studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    except Exception as error:  # the database's own errors, of whatever driver
        raise TableError(f"{url} can't be opened: {str(error).partition(chr(10))[0]}") from error
    rows = []
    for study in studies:
        directions = [direction.name.lower() for direction in study.directions]
        for trial in study.get_trials(deepcopy=False):
            row: dict[str, Any] = {"study": study.study_name, "number": trial.number, "state": trial.state.name}
            values = trial.values or [None] * len(directions)
            names = ["value"] if len(directions) == 1 else [f"value.{number}" for number in range(len(directions))]
            row |= dict(zip(names, values, strict=True))
            row |= {f"direction{name.removeprefix('value')}": d for name, d in zip(names, directions, strict=True)}
            row |= {"params": trial.params, "user_attrs": trial.user_attrs, "study_attrs": study.user_attrs}
            rows.append(flat(row))
    return rows


def _check_optuna(path: Path) -> None:
    """Optuna would make its tables in a database that has none, and a database where there is no file."""
    if not path.is_file():
        raise TableError(f"{path} was given as a database; there is no such file.")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise TableError(f"{path} is no SQLite database: {error}.") from error
    if not {"studies", "trials"} <= tables:
        remedy = ", but MLflow's: export it with `mlflow experiments csv -x ID -o runs.csv`"
        raise TableError(f"{path} is no database of Optuna{remedy if 'latest_metrics' in tables else ''}.")
