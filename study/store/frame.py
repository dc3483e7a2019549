"""The pandas frame of a study: one row per run × weights × epoch kept.

It is built column by column, what belongs to a run once per run, so that 100,000 runs take seconds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from types import SimpleNamespace

import numpy as np
import pandas as pd

from study.garbage import without_collector
from study.records import METRICS, FactorValue, RunRecord, configuration_of, kind_of
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
_NOTHING = SimpleNamespace(weights="last", epoch=0, weights_epoch=None, **dict.fromkeys(METRICS))  # of a failed run


@without_collector()
def frame_of(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return the tidy frame: one row per run × weights × epoch kept.

    A failed run keeps one row, with ``weights`` "last", epoch 0 and empty metrics: it is never missing. What each
    column means, `study.store.columns` says; behind ``search`` stands every factor under its own name (see
    `factor_column`). ``method`` goes by trajectory and kind of weights: ``best`` and ``last`` of the plain trajectory
    are SGD's, its averages SWA's, EMA's and LAWA's.
    """
    runs = list(records)
    found = [run.measurements or (_NOTHING,) for run in runs]
    owner = np.repeat(np.arange(len(runs)), [len(measured) for measured in found])
    measured = [measurement for of_run in found for measurement in of_run]
    last = np.array([run.last_epoch if run.measurements else 0 for run in runs], dtype="int64")
    epoch = np.array([measurement.epoch for measurement in measured], dtype="int64")
    metrics = np.array([*map(attrgetter(*METRICS), measured)], dtype="float64").reshape(-1, len(METRICS))  # None: NaN
    weights = pd.Series([measurement.weights for measurement in measured], dtype="str")
    columns = {
        **_repeated(_head(runs), owner),
        "weights": weights,
        "method": _methods(weights, runs, owner),
        "weights_epoch": np.array(
            [measurement.weights_epoch for measurement in measured], dtype="float64"
        ),  # None: NaN
        "epoch": epoch,
        "final": epoch == last[owner],
        **dict(zip(METRICS, metrics.T, strict=True)),
        **_repeated(_tail(runs), owner),
    }
    floats = dict.fromkeys(("learning_rate", "rho", "average_start", *_TIME_COLUMNS), "float64")
    frame = pd.DataFrame(columns).astype(floats | {"trial": "Int64", "weights_epoch": "Int64"})
    return frame.copy()  # in one piece: of a hundred columns that each stand alone pandas warns whoever adds one


def _methods(weights: pd.Series, runs: Sequence[RunRecord], owner: np.ndarray) -> pd.Series:
    """Return whose row each is: the method that reads such weights; if none does, that of its family's last ones."""
    reading = [methods_reading(run.job) for run in runs]
    whose = [reading[of].get(kind_of(name), reading[of]["last"]) for of, name in zip(owner, weights, strict=True)]
    return pd.Series(whose, dtype="str")


def _repeated(runs: pd.DataFrame, owner: np.ndarray) -> dict[str, pd.Series]:
    """Return every column with a run's value in each of its rows."""
    rows = runs.take(owner)
    rows.index = pd.RangeIndex(len(rows))
    return {str(name): rows[name] for name in rows}


def _head(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Fixed columns in a fixed order, then the factors by name, so that rebuilt frames are identical."""
    jobs = [run.job for run in runs]
    columns = {
        "run_id": [run.run_id for run in runs],
        "configuration": [configuration_of(job).id for job in jobs],
        **_attributes(jobs, _JOB_COLUMNS),
    }
    return pd.concat([_table(columns), _factors(runs)], axis="columns")


def _factors(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Return one row of factors a run."""
    given = [run.job.factors | run.job.searched_factors for run in runs]
    names = sorted({name for own in given for name in own})
    columns = {factor_column(name): _alike([own.get(name) for own in given]) for name in names}
    return pd.DataFrame(columns, index=range(len(runs)))


def _alike(values: Sequence[FactorValue | None]) -> Sequence[object]:
    """Return the values of a factor as a column that a file can hold: those of several kinds of older studies as texts.

    New ones are refused: `study.specs.tasks.check_values`.
    """
    kinds = {kind_of_value(value) for value in values if value is not None}
    if len(kinds) > 1 or "" in kinds:
        return [value if value is None else str(value) for value in values]
    return [math.nan if value is None else value for value in values]


def _tail(runs: Sequence[RunRecord]) -> pd.DataFrame:
    return _table(_attributes(runs, (*_RUN_COLUMNS, *_TIME_COLUMNS, "device")))


def _attributes(objects: Iterable[object], names: Sequence[str]) -> dict[str, Sequence[object]]:
    """Return columns of attributes; of no objects, empty ones."""
    columns = list(zip(*map(attrgetter(*names), objects), strict=True)) or [()] * len(names)
    return dict(zip(names, columns, strict=True))


def _table(columns: Mapping[str, Sequence[object]]) -> pd.DataFrame:
    """Return columns as a table; where there are no runs pandas would take them all for numbers."""
    return pd.DataFrame(columns, dtype=None if columns[next(iter(columns))] else "object")
