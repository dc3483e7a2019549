"""Rows of tables, to classify or to regress."""

from collections.abc import Mapping
from functools import partial

from study.data.pool import Pool
from study.data.tables import Table
from study.models import build_model
from study.records import FactorValue
from study.specs.factors import factor_of
from study.streams import stream
from study.tasks.pool import draw_split
from study.tasks.task import Task, classification, regression


def pool_table_task(pool: Pool, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return one seed's classification of rows: its split, its noisy labels, its initial weights."""
    split = draw_split(pool, factors, seed)
    return classification(
        build_model(factors, pool.inputs.shape[1:], pool.classes, seed),
        (split.train_inputs, split.train_labels),
        (split.val_inputs, split.val_labels),
        partial(pool.open_test, "confirm"),
        classes=pool.classes,
        label_smoothing=float(factor_of(factors, "label_smoothing")),
    )


def table_task(table: Table, factors: Mapping[str, FactorValue], seed: int) -> Task:
    """Return one seed's regression: its split and its initial weights."""
    order = stream(seed, "split").permutation(len(table.targets))
    val, rest = order[: table.validation_size], order[table.validation_size :]
    train = rest[: int(factors["train_size"])]
    return regression(
        build_model(factors, table.inputs.shape[1:], 1, seed),
        (table.inputs[train], table.targets[train]),
        (table.inputs[val], table.targets[val]),
        table.open_test,
        variance=1.0,
    )
