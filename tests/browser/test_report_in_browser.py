"""The report in headless Chromium: nothing complains, everything is drawn, and every control does what it says."""

import csv
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from synthetic import synthetic_study

from dashboards.report import build_report
from study.findings import find
from study.records import frame_of

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
DRAWN = "html[data-charts=drawn]"
FIRST_PAINT_MS = 3000  # a wide margin over what is measured, as machines are shared


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        reason = "no Chromium on PATH (chromium, chromium-browser or google-chrome): the report is not opened"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec, records = synthetic_study(tasks=["digits"], trials=6, failed=0.02, diverged=0.02)
    findings = find(spec, records, len(records))
    hostile = replace(findings, question=f"{findings.question} <img src=x onerror=alert(1)>")
    frame = frame_of(records)
    frame.loc[frame["status"] == "failed", "error"] = '=cmd("x")'
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(build_report(hostile, frame), encoding="utf-8")
    return path


def open_page(
    browser: Browser | BrowserContext, report: Path, hash: str = "", **settings: object
) -> tuple[Page, list[str]]:
    page = browser.new_page(**settings)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "blob:", "data:")) else None
    )
    page.goto(report.as_uri() + hash)
    return page, complaints


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Path) -> Iterator[Page]:
    page, complaints = open_page(browser, report, viewport={"width": 1280, "height": 900})
    page.wait_for_selector(DRAWN)
    yield page
    assert complaints == []
    page.close()


def wait_until(page: Page, expression: str, attempts: int = 200) -> None:
    """Poll from here: the page's policy forbids the eval that Playwright's own waiting needs."""
    while not page.evaluate(expression):
        attempts -= 1
        assert attempts, f"never came true: {expression}"
        page.wait_for_timeout(50)


def sideways(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_drawn_without_a_complaint(
    browser: Browser, report: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page, complaints = open_page(browser, report, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.wait_for_selector(DRAWN)
    charts = page.evaluate("Object.keys(JSON.parse(document.getElementById('figures').textContent).charts).length")
    assert page.locator(".plot.js-plotly-plot").count() == page.locator(".plot").count() == charts > 0
    assert sideways(page) <= 0
    paper = page.evaluate("getComputedStyle(document.querySelector('.plot .main-svg')).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[scheme]
    clipped = page.evaluate("""() => [...document.querySelectorAll('.plot')].filter((plot) => {
      const box = plot.getBoundingClientRect();
      return [...plot.querySelectorAll('.ytick text, .xtick text, .annotation-text, .g-ytitle text')].some((text) => {
        const b = text.getBoundingClientRect();
        return b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1;
      });
    }).map((plot) => plot.dataset.chart)""")
    assert clipped == []
    page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
    assert complaints == []
    page.close()


def test_the_space_of_a_chart_is_kept_before_it_is_drawn(opened: Page) -> None:
    heights = opened.evaluate("""() => [...document.querySelectorAll('.plot')].map(
        (plot) => [plot.clientHeight, plot.querySelector('.main-svg').getBoundingClientRect().height])""")
    assert all(abs(kept - drawn) <= 1 for kept, drawn in heights)


def test_the_first_paint_is_soon(opened: Page) -> None:
    paints = opened.evaluate("performance.getEntriesByName('first-contentful-paint').map((p) => p.startTime)")
    assert paints[0] < FIRST_PAINT_MS


def test_the_theme_button_recolours_page_and_charts(browser: Browser, report: Path) -> None:
    page, complaints = open_page(browser, report, color_scheme="light")
    page.wait_for_selector(DRAWN)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"
    papers = page.evaluate("""() => [...document.querySelectorAll('.plot')].map(
        (plot) => getComputedStyle(plot.querySelector('.main-svg')).backgroundColor)""")
    assert set(papers) == {"rgb(18, 18, 18)"}
    assert page.get_by_role("button", name="Light").count() == 1
    assert complaints == []
    page.close()


def test_a_turned_phone_gets_the_wide_arrangement(browser: Browser, report: Path) -> None:
    page, _ = open_page(browser, report, viewport={"width": 390, "height": 844})
    page.wait_for_selector(DRAWN)
    narrow = page.locator("#slopes .main-svg").first.bounding_box()
    page.set_viewport_size({"width": 844, "height": 390})
    wait_until(page, "document.querySelector('#slopes .main-svg').getBoundingClientRect().width > 700")
    wide = page.locator("#slopes .main-svg").first.bounding_box()
    assert narrow
    assert wide
    assert narrow["height"] > wide["height"]
    assert sideways(page) <= 0
    page.close()


def test_printing_opens_sections_and_uses_light_paper(browser: Browser, report: Path, tmp_path: Path) -> None:
    page, complaints = open_page(browser, report, color_scheme="dark")
    page.wait_for_selector(DRAWN)
    page.evaluate("document.getElementById('tuning').open = false")
    page.evaluate("addEventListener('beforeprint', () => { window.papers = [...document.querySelectorAll('.plot')].map("
                  "(p) => getComputedStyle(p.querySelector('.main-svg')).backgroundColor); })")  # fmt: skip
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert set(page.evaluate("window.papers")) == {"rgb(255, 255, 255)"}
    assert page.evaluate("document.getElementById('tuning').open")
    page.set_viewport_size({"width": 720, "height": 1000})
    page.emulate_media(media="print")
    page.screenshot(path=tmp_path / "print.png", full_page=True)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert complaints == []
    page.close()


def test_a_deep_link_opens_its_section(browser: Browser, report: Path) -> None:
    page, _ = open_page(browser, report)
    page.evaluate("document.querySelectorAll('details.section').forEach((section) => { section.open = false; })")
    page.evaluate("location.hash = '#rho'")
    page.wait_for_selector("#tuning[open]", state="attached")
    page.wait_for_selector("#rho .main-svg")
    assert not page.evaluate("document.getElementById('cost').open")
    assert abs(page.evaluate("document.getElementById('rho').getBoundingClientRect().top")) < 400
    page.close()


def test_sections_fold_from_the_keyboard(opened: Page) -> None:
    summary = opened.locator("#glossary > summary")
    summary.focus()
    opened.keyboard.press("Enter")
    assert not opened.evaluate("document.getElementById('glossary').open")
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.getElementById('glossary').open")


def test_runs_are_sorted_by_their_full_values(opened: Page) -> None:
    header = opened.locator("#runs-table thead th", has_text="Learning rate")
    column = header.evaluate("(th) => th.cellIndex")
    read = f"[...document.getElementById('runs-table').tBodies[0].rows].map((r) => Number(r.cells[{column}].dataset.v))"
    header.get_by_role("button").click()
    rates = opened.evaluate(read)
    assert rates == sorted(rates)
    assert header.get_attribute("aria-sort") == "ascending"
    header.get_by_role("button").click()
    assert opened.evaluate(read) == sorted(rates, reverse=True)
    assert opened.locator("#runs-table [aria-sort]").count() == 1


def test_runs_are_filtered_by_word_and_by_column(opened: Page) -> None:
    rows = opened.locator("#runs-table tbody tr")
    total = rows.count()
    opened.locator(".filters [name=stage]").select_option("confirm")
    opened.locator(".filters [name=family]").select_option("sam")
    shown = opened.locator("#runs-table tbody tr:not([hidden])")
    assert 0 < shown.count() < total
    assert set(opened.locator("#runs-table tbody tr:not([hidden]) td:nth-child(3)").all_inner_texts()) == {"confirm"}
    assert opened.locator(".filters output").inner_text() == f"{shown.count()} of {total} rows"
    opened.locator(".filters [name=q]").fill("nothing like this")
    assert shown.count() == 0
    opened.evaluate("document.querySelector('.filters').reset()")
    opened.locator(".filters [name=q]").fill("")
    opened.locator(".filters [name=q]").dispatch_event("input")
    assert shown.count() == total


def test_a_csv_holds_full_values_and_no_formula(opened: Page) -> None:
    with opened.expect_download() as download:
        opened.locator("[data-download=runs-table]").click()
    text = download.value.path().read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert download.value.suggested_filename == "synthetic-runs.csv"
    assert len(rows) == opened.locator("#runs-table tbody tr").count()
    assert {len(row["run_id"]) for row in rows} == {16}
    assert {row["error"] for row in rows} == {"", '\'=cmd("x")'}
    with opened.expect_download() as download:
        opened.locator("[data-download=forest-table]").click()
    gains = [
        float(row["gain"]) for row in csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8")))
    ]
    assert gains
    assert all(abs(gain) < 1 for gain in gains)


def test_an_image_of_a_chart_is_saved(opened: Page) -> None:
    with opened.expect_download() as download:
        opened.locator("[data-image=forest]").click()
    assert download.value.suggested_filename == "synthetic-forest.svg"
    assert download.value.path().read_text(encoding="utf-8").startswith("<svg")


def test_the_page_reads_without_javascript(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    page, _ = open_page(context, report)
    assert page.locator("#verdicts-table").is_visible()
    assert page.locator("#verdicts-table tbody tr").count() > 5
    assert page.locator("#runs-table").is_visible()
    assert page.locator(".answer").inner_text().endswith(".")
    assert not page.locator(".filters").is_visible()
    assert page.locator("[data-chart=forest]").inner_text().startswith("This chart is drawn by JavaScript")
    context.close()


def test_what_can_be_clicked_has_a_name_and_what_is_drawn_a_label(opened: Page) -> None:
    assert (
        opened.evaluate(
            """() => [...document.querySelectorAll('button, a, input, select, summary, [role=img], [role=region]')].filter((e) => !(e.getAttribute('aria-label') ?? e.textContent).trim() && !e.labels?.length).length"""
        )
        == 0
    )
