"""One Chromium for all browser tests."""

import os
from collections.abc import Iterator

import pytest
from browsing import CHROMIUM, PATIENCE_MS, SWITCHES
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        reason = "no Chromium on PATH (chromium, chromium-browser or google-chrome): the report is not opened"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES, timeout=PATIENCE_MS)
        yield browser
        browser.close()
