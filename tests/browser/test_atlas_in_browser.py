"""The atlas's page in headless Chromium: it fits every screen, complains of nothing, and axe-core finds nothing."""

from importlib import resources
from pathlib import Path

import pytest
from browsing import open_page, sideways, wait_until
from playwright.sync_api import Browser
from simulated_atlas import TASKS, write_simulated

from dashboards.atlas import build_atlas

pytestmark = pytest.mark.browser

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
RUN = """() => axe.run({exclude: [".plot > *"]}, {resultTypes: ["violations"]}).then((found) => found.violations
    .map((one) => `${one.id}: ${one.nodes.slice(0, 4).map((node) => node.html.slice(0, 160)).join(" | ")}`))"""


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_simulated(tmp_path_factory.mktemp("parts"))
    write_simulated(folder, study_seed=1, seed=1, tasks=TASKS[:1])
    path = folder / "atlas.html"
    path.write_text(build_atlas(folder), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen_and_nothing_is_wrong_with_it(
    browser: Browser, atlas: Path, width: int, scheme: str
) -> None:
    page, complaints = open_page(browser, atlas, viewport={"width": width, "height": 844}, color_scheme=scheme)
    wait_until(page, "document.documentElement.dataset.charts === 'drawn'")
    assert page.locator(".plot .main-svg").count() > 0
    assert sideways(page) <= 0
    page.evaluate(AXE)
    assert page.evaluate(RUN) == []
    assert complaints == []
    page.close()


def test_it_reads_without_javascript(browser: Browser, atlas: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page, _ = open_page(context, atlas)
    assert page.locator("#factors-table tbody tr").count() == 16
    assert page.locator("#gains-table").is_visible()
    context.close()


def test_tables_are_downloaded_with_their_intervals(browser: Browser, atlas: Path) -> None:
    page, complaints = open_page(browser, atlas)
    with page.expect_download() as caught:
        page.locator('[data-download="gains-table"]').click()
    lines = Path(caught.value.path()).read_text().splitlines()
    assert lines[0].startswith("method,budget,cells,tasks,mean_over_tasks,mean_over_tasks_low,mean_over_tasks_high,")
    assert len(lines) == 1 + 8
    assert complaints == []
    page.close()
