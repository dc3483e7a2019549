"""Tables of the shapes of UCI's with drawn rows: for tests of what is done with a table, wherever the real ones are."""

import numpy as np

from study.data.mlbench import TABLES
from study.data.pool import Pool, table_pool
from study.specs.tasks import TASKS

VALIDATION = {"letters": 1000, "satellite": 1000, "dna": 500, "shuttle": 1000, "vowel": 150}


def drawn_table(name: str) -> Pool:
    """Return the data of a task of `study.data.mlbench`, as many rows as the real one has."""
    entry, rng = TASKS[name], np.random.default_rng(0)
    rows = entry.max_train_size + VALIDATION[name] + entry.test_size
    inputs, classes = rng.normal(size=(rows, TABLES[name].columns)), rng.integers(entry.classes, size=rows)
    return table_pool(name, inputs, classes, "")
