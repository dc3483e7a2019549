"""Ray's own dashboard during a study, in headless Chromium: it asks for the token and then shows our actors.

The study trains a task of the user's own from the folder that it is started in, and is ended with Ctrl-C.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import PATIENCE_MS
from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.ray]
TOKEN = "a-token-of-this-test-alone-0123456789"
SPEC = """
name = "watched"
question = "Is it seen?"
methods = ["SGD", "SAM"]
budgets = ["E"]
primary_budget = "E"
replicates = 2
confirms = 1
[search]
trials = 20
[[problems]]
task = "faulty:build"
factors.train_size = 64
factors.batch_size = 32
factors.epochs = 50
factors.fault = "none"
factors.marks = "."
"""


@pytest.fixture
def dashboard_url(tmp_path: Path) -> Iterator[str]:
    """Start a study that takes its time, read from its output where the dashboard is, and interrupt it at the end."""
    shutil.copy(Path(__file__).parent.parent / "cluster" / "code" / "faulty.py", tmp_path)
    (tmp_path / "watched.toml").write_text(SPEC)
    (tmp_path / "slow").touch()
    driver = subprocess.Popen(
        [sys.executable, "-m", "study.run", "watched.toml", "--no-report"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert driver.stdout
        said = ""
        while not (found := re.search(r"Ray dashboard: (http://\S+)", said)):
            line = driver.stdout.readline()
            assert line, f"the study ended: {said}"
            said += line
        yield found[1]
        while not list(tmp_path.glob("results/watched/records/*.json")):
            assert driver.poll() is None
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGINT)
        output, _ = driver.communicate(timeout=PATIENCE_MS / 1000)
    assert driver.returncode == 130, output
    assert "--resume results/watched" in output
    kept = [json.loads(path.read_text()) for path in tmp_path.glob("results/watched/records/*.json")]
    assert {record["status"] for record in kept} == {"completed"}
    assert " failed (" not in output


def test_the_dashboard_asks_for_the_token_and_names_our_actors(browser: Browser, dashboard_url: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)  # Ray collects what it shows every few seconds
    page.goto(f"{dashboard_url}/#/actors")
    page.get_by_text("Authentication Token Required").wait_for()
    assert page.get_by_text("StudyRun").count() == 0
    page.get_by_role("dialog").locator("input").fill(TOKEN)
    page.get_by_role("dialog").get_by_role("button", name="Submit").click()
    page.get_by_text("StudyRun").first.wait_for()
    page.close()
