"""Tables of the shapes of UCI's with drawn rows: for tests of what is done with a table, wherever the real ones are."""

import numpy as np

from study.data.mlbench import TABLES
from study.data.pool import Pool
from study.specs.tasks import TASKS


def drawn_table(name: str) -> Pool:
    """Return the data of a task of `study.data.mlbench`, as many rows as the real one has."""
    table, rng = TABLES[name], np.random.default_rng(0)
    rows = TASKS[name].max_train_size + table.validation_size + table.test_size
    inputs, classes = rng.normal(size=(rows, table.columns)), rng.integers(table.classes, size=rows)
    return Pool(inputs, classes, table.validation_size, table.classes, table.test_size, columns=True)
