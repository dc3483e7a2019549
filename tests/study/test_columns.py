"""Every column of the frame has a meaning, and every meaning a column."""

import re
from pathlib import Path

import pandas as pd
import pytest
from synthetic import synthetic_study

from study.records import RunRecord
from study.specs.tasks import RESERVED
from study.store.columns import COLUMNS, columns_in_words
from study.store.frame import frame_of

README = Path(__file__).parents[2] / "study" / "README.md"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Runs that ended in every way."""
    _, records = synthetic_study(tasks=("digits",), factors={}, trials=2, replicates=2)
    last = records[-1]
    ended_badly = [
        last.model_copy(update={"status": "failed", "error": "no", "measurements": ()}),
        RunRecord.model_validate(last.model_dump() | {"status": "diverged"}),
    ]
    return frame_of([*records, *ended_badly])


def test_the_table_names_the_columns_of_the_frame_in_their_order(frame: pd.DataFrame) -> None:
    factors = [name for name in frame.columns if name not in COLUMNS]
    assert [name for name in frame.columns if name not in factors] == list(COLUMNS)
    assert {"momentum", "epochs", "schedule"} <= set(factors)
    assert COLUMNS.keys() <= RESERVED
    assert list(frame_of([]).columns) == list(COLUMNS)


def test_columns_are_empty_where_the_table_says_so_and_nowhere_else(frame: pd.DataFrame) -> None:
    may_be_empty = {name for name, column in COLUMNS.items() if column.empty}
    hollow = {name for name in COLUMNS if (frame[name].isna() | (frame[name].astype(str) == "")).any()}
    assert hollow <= may_be_empty
    assert {"trial", "search", "weights_epoch", "error", "test_score", "stream"} <= hollow


def test_the_readme_holds_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    held = re.search(r"<!-- columns -->\n(.*)\n<!-- /columns -->", text, re.DOTALL)
    assert held is not None
    assert held[1] == columns_in_words(), "print it with `python -m study.store.columns`"
