"""What all browser tests share: Chromium, opening a page that must not complain, waiting from outside of it."""

import shutil
import time
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Error, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_MS = 600_000  # ends what never would; how long a page takes on a busy machine is no law
SWITCHES = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def open_page(
    browser: Browser | BrowserContext, report: Path, hash: str = "", **settings: object
) -> tuple[Page, list[str]]:
    page = browser.new_page(**settings)
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "blob:", "data:")) else None
    )
    page.goto(report.as_uri() + hash)
    return page, complaints


def wait_until(page: Page, expression: str) -> None:
    """Poll from here: the page's policy forbids the eval that Playwright's own waiting needs."""
    give_up = time.monotonic() + PATIENCE_MS / 1000
    while not _holds(page, expression):
        assert time.monotonic() < give_up, f"never came true: {expression}"
        page.wait_for_timeout(50)


def _holds(page: Page, expression: str) -> bool:
    try:
        return bool(page.evaluate(expression))
    except Error:  # the page is just being loaded anew
        return False


def sideways(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")
