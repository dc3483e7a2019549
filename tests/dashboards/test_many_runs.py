"""A hundred thousand runs make a page of bounded size, in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_PAGE_BYTES, MOST_RSS_BYTES = 5_000_000, 1 << 30


@pytest.mark.slow
def test_a_hundred_thousand_runs_make_a_small_page_in_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "many_runs.py"), "100000"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["runs"] >= 100_000
    assert found["page_bytes"] <= MOST_PAGE_BYTES
    assert found["peak_rss_bytes"] <= MOST_RSS_BYTES
