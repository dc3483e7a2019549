"""What trackers and tuners leave behind: W&B's tables of runs, MLflow's exports and folders, Optuna's databases."""

import ast
import json
import math
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

# Groups under which trackers write what a run was given and what it measured.
GROUPS = ("config", "summary", "params", "metrics", "tags", "user_attrs", "study_attrs")
SETTINGS = ("config", "params")  # of them, those that say how a run was made
_NESTED = {"summaryMetrics": "summary", "summary_metrics": "summary", "rawconfig": "config"}
_WRITTEN = (*GROUPS, *_NESTED)
_STATUS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}  # in MLflow's meta.yaml
_PLAIN = re.compile(r"(?m)^(\w+):[ \t]*(.*?)[ \t]*$")


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


def known_export(columns: Collection[str]) -> str:
    """Return whose export has such columns; "" for nobody's.

    Raises:
        TableError: the export of a chart, which holds one column a run and no settings.
    """
    if any(column.endswith(("__MIN", "__MAX")) for column in columns):
        raise TableError(
            "this is the export of a W&B chart, with a column a run and none of their settings; export the table of "
            "runs instead (in the table view: Export → CSV)."
        )
    if {"Name", "State"} <= {*columns} and {"Created", "Runtime", "User", "Sweep", "ID"} & {*columns}:
        return "W&B export"
    if any(c.startswith("config.") for c in columns) and any(c.startswith("summary.") for c in columns):
        return "W&B export"
    if "run_id" in columns and any(column.startswith("metrics.") for column in columns):
        return "MLflow export"
    return ""


def mlflow_rows(folder: Path) -> list[dict[str, Any]]:
    """Read the runs of MLflow's file store; of a metric that was logged several times the last one counts.

    Raises:
        TableError: a folder without such a store.
    """
    root = folder / "mlruns" if (folder / "mlruns").is_dir() else folder
    rows = [row for experiment in sorted(root.iterdir()) for row in _experiment(experiment)]
    if rows:
        return rows
    if (folder / "spec.toml").exists():
        raise TableError(f"{folder} is the results folder of a study, whose verdicts are in its findings.json.")
    raise TableError(f"{folder} holds no run of MLflow; give the folder mlruns, or a file.")


def _experiment(folder: Path) -> Iterator[dict[str, Any]]:
    if not (folder / "meta.yaml").is_file():
        return
    name = _meta(folder).get("name", folder.name)
    for run in sorted(folder.iterdir()):
        if not (run / "meta.yaml").is_file() or (not (run / "metrics").is_dir() and not (run / "params").is_dir()):
            continue
        meta = _meta(run)
        if meta.get("lifecycle_stage", "active") == "active":
            status = meta.get("status", "")
            row = {"run_id": run.name, "experiment": name, "status": _STATUS.get(status, status)}
            row |= {f"params.{key}": text for key, text in _texts(run / "params")}
            row |= {f"metrics.{key}": _last(text) for key, text in _texts(run / "metrics")}
            yield row | {f"tags.{key}": text for key, text in _texts(run / "tags")}


def _meta(folder: Path) -> dict[str, str]:
    """Read the plain ``key: value`` lines of a ``meta.yaml``."""
    text = (folder / "meta.yaml").read_text(encoding="utf-8")
    return {key: value.strip("'\"") for key, value in _PLAIN.findall(text)}


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of every file below a folder; names may have slashes."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")


def _last(text: str) -> str:
    """Return the value of the last step; lines are ``time value step``."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    ordered = sorted(lines, key=lambda parts: (int(parts[2]) if len(parts) > 2 else 0, int(parts[0])))
    return ordered[-1][1] if ordered else ""


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
