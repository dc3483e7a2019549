"""The page of results that exist already, in headless Chromium: nothing complains, and a verdict opens its runs."""

from pathlib import Path

import pytest
from browsing import open_page, sideways, wait_until
from matrices import crossed
from playwright.sync_api import Browser
from run_tables import frame, table

from study.judge import judge

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAM shares its seeds with SGD, Lion shares none."""
    rows = [
        row | {"seed": f"{'lion' if row['optimizer'] == 'Lion' else 'seed'} {row['seed']}", "flops": 1.0}
        for row in table()
    ]
    return judge(frame(rows), baseline="SGD", cost="flops").save(tmp_path_factory.mktemp("judged")) / "report.html"


@crossed(width=(1280, 390), scheme=("light", "dark"))
def test_nothing_complains_and_a_verdict_opens_its_runs(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    page, complaints = open_page(browser, report, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.wait_for_selector("html[data-charts=drawn]")
    page.locator(".entry .open[data-method=SAM]").first.click()
    wait_until(page, "document.querySelectorAll('#behind table').length > 0")
    behind = page.locator("#behind").inner_text()
    assert "over 8 paired runs" in behind
    assert "seed 0" in behind
    assert "runs.parquet" not in behind
    page.locator(".entry .open[data-method=Lion]").first.click()
    wait_until(page, "document.querySelector('#behind')?.innerText.includes('Welch')")
    assert sideways(page) <= 0
    assert complaints == []
    page.close()
