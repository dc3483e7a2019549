"""The pandas frame of a study: one row per run × weights × epoch kept.

It is built column by column, what belongs to a run once per run, so that 100,000 runs take seconds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from study.garbage import without_collector
from study.records import METRICS, FactorValue, Job, RunRecord, configuration_of, kind_of
from study.specs.methods import methods_reading
from study.specs.tasks import factor_column, kind_of_value

_RUN_COLUMNS = (
    "metric",
    "unit",
    "higher_is_better",
    "val_examples",
    "stream",
    "inexact_resume",
    "status",
    "error",
    "gradient_evaluations",
    "forward_evaluations",
    "skipped_steps",
)
_TIME_COLUMNS = ("train_s", "evaluate_s", "wall_s")
_JOB_COLUMNS = (
    "stage", "cell", "task", "replicate", "family", "epochs_factor", "learning_rate", "rho", "average_start",
    "seed", "trial", "search",
)  # fmt: skip
_MEASURED = ("weights_epoch", "epoch", *METRICS)
_NOTHING = SimpleNamespace(weights="last", epoch=0, weights_epoch=None, **dict.fromkeys(METRICS))  # of a failed run
# What no values, or None among them, would make something else of.
_TYPES = dict.fromkeys(("learning_rate", "rho", "average_start", *_TIME_COLUMNS), "float64") | {"trial": "Int64"}


@without_collector()
def frame_of(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return the tidy frame: one row per run × weights × epoch kept.

    A failed run keeps one row, with ``weights`` "last", epoch 0 and empty metrics: it is never missing. What each
    column means, `study.store.columns` says; behind ``search`` stands every factor under its own name (see
    `factor_column`). ``method`` goes by trajectory and kind of weights: ``best`` and ``last`` of the plain trajectory
    are SGD's, its averages SWA's, EMA's and LAWA's.
    """
    runs = list(records)
    jobs = [run.job for run in runs]
    found = [run.measurements or (_NOTHING,) for run in runs]
    owner = np.repeat(np.arange(len(runs)), [*map(len, found)])
    measured = _measured([*chain.from_iterable(found)], jobs, owner)
    of_runs = _head(runs, jobs), _attributes(runs, (*_RUN_COLUMNS, *_TIME_COLUMNS, "device"))
    head, tail = (table.take(owner).set_axis(measured.index) for table in of_runs)
    return pd.concat([head, measured, tail], axis=1)


def _measured(found: Sequence[Any], jobs: Sequence[Job], owner: np.ndarray) -> pd.DataFrame:
    """Return the columns of what was measured; a run's last measurement is of its last epoch, see `RunRecord`."""
    flat = [*chain.from_iterable(map(attrgetter(*_MEASURED), found))]
    numbers = pa.array(flat, pa.float64()).to_numpy(zero_copy_only=False).reshape(-1, len(_MEASURED))  # None: NaN
    measured = pd.DataFrame(numbers, columns=list(_MEASURED)).astype({"weights_epoch": "Int64", "epoch": "int64"})
    of_weights, names = pd.factorize(np.array([one.weights for one in found], dtype="object"))
    measured.insert(0, "weights", _named(names, of_weights))
    measured.insert(1, "method", _methods(jobs, owner, of_weights, names))
    measured.insert(4, "final", measured["epoch"] == measured["epoch"].groupby(owner).transform("max"))
    return measured


def _named(names: Any, numbers: np.ndarray) -> pd.Series:
    """Return names by their numbers, each of them made once."""
    return pd.Series(pd.array(names, dtype="str").take(numbers))


def _methods(jobs: Sequence[Job], owner: np.ndarray, of_weights: np.ndarray, names: np.ndarray) -> pd.Series:
    """Return whose row each is: the method that reads such weights; if none does, that of its family's last ones.

    Trajectories and names of weights are few: what each pair of them belongs to is looked up once.
    """
    trajectories = [(job.family, *(job.own_methods.items() if job.own_family else ())) for job in jobs]
    tables = [methods_reading(job) for job in dict(zip(trajectories, jobs, strict=True)).values()]
    number = {trajectory: place for place, trajectory in enumerate(dict.fromkeys(trajectories))}
    whose = [table.get(kind_of(name), table["last"]) for table in tables for name in names]
    of_run = np.array([number[trajectory] for trajectory in trajectories], dtype="int64")
    return _named(whose, of_run[owner] * len(names) + of_weights)


def _head(runs: Sequence[RunRecord], jobs: Sequence[Job]) -> pd.DataFrame:
    """Fixed columns in a fixed order, then the factors by name, so that rebuilt frames are identical."""
    names = {"run_id": [run.run_id for run in runs], "configuration": [configuration_of(job).id for job in jobs]}
    return pd.concat([_table(names), _attributes(jobs, _JOB_COLUMNS), _factors(jobs)], axis=1)


def _factors(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return one row of factors a run."""
    given = [job.factors | job.searched_factors for job in jobs]
    columns = {
        factor_column(name): _alike([own.get(name) for own in given]) for name in sorted({*chain.from_iterable(given)})
    }
    return pd.DataFrame(columns, index=range(len(jobs)))


def _alike(values: Sequence[FactorValue | None]) -> Sequence[object]:
    """Return the values of a factor as a column that a file can hold: those of several kinds of older studies as texts.

    New ones are refused: `study.specs.tasks.check_values`.
    """
    distinct = {*zip(map(type, values), values, strict=True)}  # 1, 1.0 and True are equal
    kinds = {kind_of_value(value) for _, value in distinct if value is not None}
    if len(kinds) > 1 or "" in kinds:
        return [value if value is None else str(value) for value in values]
    return [math.nan if value is None else value for value in values]


def _attributes(objects: Sequence[object], names: Sequence[str]) -> pd.DataFrame:
    """Return columns of attributes; of no objects, empty ones."""
    columns = list(zip(*map(attrgetter(*names), objects), strict=True)) or [()] * len(names)
    return _table(dict(zip(names, columns, strict=True)))


def _table(columns: Mapping[str, Sequence[object]]) -> pd.DataFrame:
    """Return columns as a table; where there are no runs pandas would take them all for numbers."""
    table = pd.DataFrame(columns, dtype=None if columns[next(iter(columns))] else "object")
    return table.astype({name: kind for name, kind in _TYPES.items() if name in columns})
