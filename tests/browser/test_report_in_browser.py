"""The report in headless Chromium: nothing complains, everything is drawn, and every control does what it says."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from browsing import open_page, sideways, wait_until
from matrices import crossed
from playwright.sync_api import Browser, Locator, Page
from synthetic import synthetic_lines, synthetic_plane, synthetic_study

from dashboards.report import build_report
from study.findings import find
from study.store.frame import frame_of

pytestmark = pytest.mark.browser

LIGHT_PAPER, DARK_PAPER = "rgb(255, 255, 255)", "rgb(18, 18, 18)"
DRAWN = "html[data-charts=drawn]"
FIRST_PAINT_MS = 3000  # a wide margin over what is measured, as machines are shared


# What a reader meets: figures, screens, and where on the page the first verdict and the first score stand.
IN_SIGHT = """() => ({
  figures: [...document.querySelectorAll('.plot')].filter((plot) => plot.checkVisibility()).length,
  screens: document.documentElement.scrollHeight / innerHeight,
  verdict: document.querySelector('#fact-1 dd').getBoundingClientRect().bottom / innerHeight,
})"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    claim = {"id": "noise", "claim": "more noise, more gain <b>", "kind": "slope", "method": "SAM"}
    hypotheses = [claim | {"factor": "label_noise", "expected": "+", "source": "Somebody 2020"}]
    spec, records = synthetic_study(tasks=["digits"], trials=6, failed=0.02, diverged=0.02, hypotheses=hypotheses)
    findings = find(spec, records, len(records))
    hostile = replace(findings, question=f"{findings.question} <img src=x onerror=alert(1)>")
    frame = frame_of(records)
    frame.loc[frame["status"] == "failed", "error"] = '=cmd("x")'
    path = tmp_path_factory.mktemp("report") / "report.html"
    lines = synthetic_lines(records, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    planes = [synthetic_plane(cell) for cell in sorted({effect.cell for effect in findings.effects})]
    path.write_text(build_report(hostile, frame, records=records, lines=lines, planes=planes), encoding="utf-8")
    return path


@dataclass
class Pages:
    """The report, once per width and colour scheme, with all of its parts open; tests leave it as they found it."""

    browser: Browser
    report: Path
    opened: dict[tuple[int, str], tuple[Page, list[str]]] = field(default_factory=dict)
    seen: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)  # before anything was opened

    def at(self, width: int, scheme: str) -> tuple[Page, list[str]]:
        if (width, scheme) not in self.opened:
            page, complaints = open_page(
                self.browser,
                self.report,
                viewport={"width": width, "height": 844 if width < 1000 else 900},
                color_scheme=scheme,
            )
            page.wait_for_selector(DRAWN)
            self.seen[width, scheme] = page.evaluate(IN_SIGHT)
            page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            wait_until(page, "[...document.querySelectorAll('.plot')].every((p) => p.matches('.js-plotly-plot'))")
            wait_until(page, "[...document.querySelectorAll('table[data-packed]')].every((t) => t.tHead)")
            self.opened[width, scheme] = (page, complaints)
        return self.opened[width, scheme]


@pytest.fixture(scope="module")
def pages(browser: Browser, report: Path) -> Pages:
    return Pages(browser, report)


@pytest.fixture
def opened(pages: Pages) -> Iterator[Page]:
    page, complaints = pages.at(1280, "light")
    yield page
    assert complaints == []


@crossed(width=[390, 1280], scheme=["light", "dark"])
def test_everything_is_drawn_without_a_complaint(pages: Pages, width: int, scheme: str) -> None:
    page, complaints = pages.at(width, scheme)
    assert page.locator(".plot.js-plotly-plot").count() == page.locator(".plot").count() > 6
    assert sideways(page) <= 0
    assert papers(page) == {LIGHT_PAPER if scheme == "light" else DARK_PAPER}
    clipped = page.evaluate("""() => [...document.querySelectorAll('.plot')].filter((plot) => {
      const box = plot.getBoundingClientRect();
      return [...plot.querySelectorAll('.ytick text, .xtick text, .annotation-text, .g-ytitle text')].some((text) => {
        const b = text.getBoundingClientRect();
        return b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1;
      });
    }).map((plot) => plot.dataset.chart)""")
    assert clipped == []
    assert complaints == []


def test_the_space_of_a_chart_is_kept_before_it_is_drawn(opened: Page) -> None:
    heights = opened.evaluate("""() => [...document.querySelectorAll('.plot')].map(
        (plot) => [plot.clientHeight, plot.querySelector('.main-svg').getBoundingClientRect().height])""")
    assert all(abs(kept - drawn) <= 1 for kept, drawn in heights)


@crossed(width=[390, 1280], scheme=["light", "dark"])
def test_the_answer_and_what_it_rests_on_are_met_first(pages: Pages, width: int, scheme: str) -> None:
    """Of a study of quick's size: the answer with a score in it on the first screen, few figures, few screens."""
    page, _ = pages.at(width, scheme)
    seen = pages.seen[width, scheme]
    assert seen["figures"] <= 6
    assert seen["screens"] <= (8 if width > 1000 else 14)
    assert seen["verdict"] < 1
    assert "test accuracy" in page.locator("#fact-1 dd").inner_text()


@crossed(width=[1280, 390], tasks=[["digits", "diabetes"]])
def test_of_several_metrics_the_first_is_in_sight_and_the_others_open_on_request(
    browser: Browser, tmp_path: Path, width: int, tasks: list[str]
) -> None:
    factors = {"schedule": ["cosine", "constant"]}
    spec, records = synthetic_study(tasks=[*tasks, "mnist1d"], factors=factors, trials=3)
    told = {"metric": "MAE", "unit": "k$", "higher_is_better": False}
    records = [r.model_copy(update=told) if r.job.task == "mnist1d" else r for r in records]
    (tmp_path / "report.html").write_text(build_report(find(spec, records), frame_of(records), records=records))
    page, complaints = open_page(browser, tmp_path / "report.html", viewport={"width": width, "height": 900})
    page.wait_for_selector(DRAWN)
    assert page.evaluate(IN_SIGHT)["figures"] <= 6
    told = page.locator("#when .further > summary").all_inner_texts()
    assert told == ["The same for R² (diabetes)", "The same for MAE, k$, lower is better (mnist1d)"]
    page.locator(".further:has(#forest-3) > summary").click()
    wait_until(page, "document.querySelector('#forest-3 .main-svg')?.checkVisibility()")
    page.evaluate("location.hash = '#curves-2'")
    wait_until(page, "document.querySelector('#curves-2 .main-svg')?.checkVisibility()")
    assert sideways(page) <= 0
    assert complaints == []
    page.close()


def opens_its_evidence(page: Page, press: Callable[[Locator], None]) -> None:
    """From a verdict to its replicates, and from there to a single run."""
    verdict = page.locator(".matrix.shown .open").nth(2)
    cell, method = verdict.get_attribute("data-cell"), verdict.get_attribute("data-method")
    press(verdict)
    wait_until(page, "document.querySelectorAll('.behind table').length >= 2")
    assert verdict.get_attribute("aria-expanded") == "true"
    address = parse_qs(page.evaluate("location.hash").partition("?")[2])
    assert address == {"problem": [cell], "method": [method]}
    assert page.locator(".behind .gains circle").count() == 6  # replicates
    assert page.locator(".behind tbody tr").first.locator("td").nth(3).inner_text().startswith("rate ")
    link = page.locator(".behind a[href^='#runs?q=']").first
    run = link.inner_text()
    press(link)
    wait_until(page, "document.querySelectorAll('#runs-table tbody tr:not([hidden])').length === 1")
    assert page.locator("#runs-table tbody tr:not([hidden]) th").inner_text() == run
    wait_until(page, "Math.abs(document.getElementById('runs').getBoundingClientRect().top) < innerHeight")
    page.go_back()
    wait_until(page, "document.querySelectorAll('.behind table').length >= 2")


@pytest.mark.parametrize("by", ["mouse", "touch", "keyboard"])
def test_a_verdict_leads_to_its_replicates_and_a_replicate_to_its_runs(browser: Browser, report: Path, by: str) -> None:
    width = 390 if by == "touch" else 1280
    context = browser.new_context(viewport={"width": width, "height": 844}, has_touch=by == "touch")
    page, complaints = open_page(context, report)

    def press(what: Locator) -> None:
        if by == "keyboard":
            what.focus()
            page.keyboard.press("Enter")
        else:
            (what.tap if by == "touch" else what.click)()

    opens_its_evidence(page, press)
    assert sideways(page) <= 0
    assert complaints == []
    context.close()


def test_the_budget_switch_changes_matrix_evidence_and_address(pages: Pages) -> None:
    page, complaints = open_page(pages.browser, pages.report, viewport={"width": 1280, "height": 900})
    words = "[...document.querySelectorAll('.matrix.shown .entry')].map((entry) => entry.innerText).join()"
    primary = page.evaluate(words)
    page.locator(".matrix.shown .open").nth(1).click()
    wait_until(page, "document.querySelectorAll('.behind table').length >= 2")
    page.get_by_role("button", name="equal epochs").click()
    wait_until(page, "document.querySelectorAll('.matrix.shown .behind table').length >= 2")
    assert page.evaluate(words) != primary
    assert "at=E" in page.evaluate("location.hash")
    address = page.evaluate("location.hash")
    again, _ = open_page(pages.browser, pages.report, address, viewport={"width": 1280, "height": 900})
    wait_until(again, "document.querySelectorAll('.matrix.shown .behind table').length >= 2")
    assert again.evaluate("document.querySelector('.matrix.shown').dataset.budget") == "E"
    assert again.locator(".behind h3").inner_text() == page.locator(".behind h3").inner_text()
    again.close()
    assert complaints == []
    page.close()


def test_a_word_explains_itself_where_it_stands_by_the_keyboard(pages: Pages) -> None:
    page, complaints = open_page(pages.browser, pages.report, viewport={"width": 390, "height": 844})
    word = page.locator("#fact-2 dfn a").first
    word.focus()
    page.keyboard.press("Enter")
    meaning = page.locator("#meaning")
    assert meaning.is_visible()
    box = meaning.bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert page.locator(word.get_attribute("href") + " dd").text_content() in meaning.inner_text()
    page.keyboard.press("Escape")
    assert not meaning.is_visible()
    assert complaints == []
    page.close()


def test_the_first_paint_is_soon(opened: Page) -> None:
    paints = opened.evaluate("performance.getEntriesByName('first-contentful-paint').map((p) => p.startTime)")
    assert paints[0] < FIRST_PAINT_MS


def papers(page: Page) -> set[str]:
    return set(
        page.evaluate("""() => [...document.querySelectorAll('.plot')].map(
        (plot) => getComputedStyle(plot.querySelector('.main-svg')).backgroundColor)""")
    )


def test_the_theme_button_recolours_page_and_charts(opened: Page) -> None:
    opened.get_by_role("button", name="Dark").click()
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == DARK_PAPER
    assert papers(opened) == {DARK_PAPER}
    opened.get_by_role("button", name="Light").click()
    assert papers(opened) == {LIGHT_PAPER}


def test_a_turned_phone_gets_the_wide_arrangement(pages: Pages) -> None:
    page, complaints = pages.at(390, "light")
    narrow = page.locator("#two-by-two .main-svg").first.bounding_box()
    page.set_viewport_size({"width": 844, "height": 390})
    wait_until(page, "document.querySelector('#two-by-two .main-svg').getBoundingClientRect().width > 700")
    wide = page.locator("#two-by-two .main-svg").first.bounding_box()
    assert narrow
    assert wide
    assert narrow["height"] > wide["height"]
    assert sideways(page) <= 0
    assert complaints == []


def test_printing_keeps_what_is_open_and_uses_light_paper(pages: Pages, tmp_path: Path) -> None:
    page, complaints = pages.at(1280, "dark")
    page.evaluate("""addEventListener('beforeprint', () => {
      const drawn = [...document.querySelectorAll('.plot .main-svg')];
      window.printed = drawn.map((svg) => getComputedStyle(svg).backgroundColor);
    })""")
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert LIGHT_PAPER in page.evaluate("window.printed")
    assert DARK_PAPER not in page.evaluate("window.printed")
    assert papers(page) == {DARK_PAPER}
    page.set_viewport_size({"width": 720, "height": 1000})
    page.emulate_media(media="print")
    page.screenshot(path=tmp_path / "print.png", full_page=True)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == LIGHT_PAPER
    assert complaints == []


def test_a_deep_link_opens_its_section(opened: Page) -> None:
    opened.evaluate("document.querySelectorAll('details.section').forEach((section) => { section.open = false; })")
    opened.evaluate("location.hash = '#rho'")
    opened.wait_for_selector("#tuning[open]", state="attached")
    assert not opened.evaluate("document.getElementById('runs').open")
    assert abs(opened.evaluate("document.getElementById('rho').getBoundingClientRect().top")) < 400
    opened.evaluate("document.querySelectorAll('details.section').forEach((section) => { section.open = true; })")


def test_sections_fold_from_the_keyboard(opened: Page) -> None:
    summary = opened.locator("#glossary > summary")
    summary.focus()
    opened.keyboard.press("Enter")
    assert not opened.evaluate("document.getElementById('glossary').open")
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.getElementById('glossary').open")


def test_runs_are_sorted_by_their_full_values(opened: Page) -> None:
    header = opened.locator("#runs-table thead th", has_text="Rate")
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
    opened.locator(".filters [name=method]").select_option("SAM")
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


def test_what_is_shown_of_the_runs_stands_in_the_address(pages: Pages) -> None:
    opened, complaints = open_page(pages.browser, pages.report)
    shown = "[...document.querySelectorAll('#runs-table tbody tr:not([hidden])')].map((row) => row.cells[0].dataset.v)"
    opened.locator("#runs > summary").click()
    wait_until(opened, "document.querySelectorAll('#runs-table tbody tr').length > 10")
    everything = opened.evaluate(shown)
    opened.locator(".filters [name=stage]").select_option("confirm")
    opened.locator("#runs-table thead").get_by_role("button", name="Seed").click()
    opened.locator("#runs-table thead").get_by_role("button", name="Seed").click()
    opened.locator(".filters [name=q]").press_sequentially("clean")
    address = opened.evaluate("location.hash")
    assert address == "#runs?q=clean&stage=confirm&sort=-seed"
    wanted = opened.evaluate(shown)
    assert 0 < len(wanted) < len(everything)
    elsewhere, _ = open_page(pages.browser, pages.report, address, viewport={"width": 1280, "height": 844})
    wait_until(elsewhere, "document.querySelectorAll('#runs-table tbody tr').length > 10")
    assert elsewhere.evaluate(shown) == wanted
    assert elsewhere.locator(".filters [name=stage]").input_value() == "confirm"
    assert elsewhere.evaluate("Math.abs(document.getElementById('runs').getBoundingClientRect().top)") < 200
    elsewhere.close()
    opened.go_back()  # the letters of one search are one step
    assert opened.evaluate("location.hash") == "#runs?stage=confirm&sort=-seed"
    assert opened.locator(".filters [name=q]").input_value() == ""
    opened.go_back()
    opened.go_back()
    assert opened.evaluate("location.hash") == "#runs?stage=confirm"
    assert opened.locator("#runs-table [aria-sort]").count() == 0
    opened.go_back()
    assert opened.evaluate(shown) == everything
    assert complaints == []
    opened.close()


@pytest.mark.parametrize(
    "address",
    [
        "#runs?stage=%3Cimg%3E&q=%%%&sort=nothing",
        "#runs?&&&=",
        "#%E0%A4%A?x",
        "#?",
        "#verdicts?at=X&problem=%3Cimg%3E&method=SAM",
    ],
)
def test_a_broken_address_breaks_nothing(pages: Pages, address: str) -> None:
    page, complaints = open_page(pages.browser, pages.report, address)
    page.evaluate("document.getElementById('runs').open = true")
    wait_until(page, "document.querySelectorAll('#runs-table tbody tr').length > 10")
    assert page.locator(".filters [name=stage]").input_value() == ""
    assert complaints == []
    page.close()


def test_the_page_of_a_running_study_comes_back_to_where_it_was(browser: Browser, tmp_path: Path) -> None:
    spec, records = synthetic_study(tasks=["digits"], factors={}, trials=3, runs=8)
    path = tmp_path / "report.html"

    def write(part: int, reload_s: int) -> None:
        measured = records[:part]
        text = build_report(find(spec, measured, 30), frame_of(measured), records=measured, reload_s=reload_s)
        path.write_text(text, encoding="utf-8")

    write(4, reload_s=1)
    page, complaints = open_page(browser, path, "#runs?stage=tune", viewport={"width": 1280, "height": 600})
    for _ in range(20):  # a visit that had begun before the focus takes `here` away
        wait_until(page, "document.querySelector('.filters [name=q]')?.focus() ?? (window.here = true)")
        page.wait_for_timeout(1500)
        if page.evaluate("window.here"):
            break
    write(8, reload_s=0)
    page.wait_for_timeout(2500)
    assert page.evaluate("window.here")  # nobody is disturbed while they type
    page.evaluate("""document.getElementById('glossary').open = true;
        scrollTo(0, 1234);
        document.activeElement.blur()""")
    wait_until(page, "document.querySelector('.banner')?.textContent.includes('So far 8 of 30')")
    wait_until(page, "scrollY === 1234")  # once the charts above are drawn
    assert page.evaluate("document.getElementById('glossary').open")
    assert page.locator(".filters [name=stage]").input_value() == "tune"
    assert complaints == []
    page.close()


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
    assert page.locator(".matrix").count() == 2  # every budget: nothing switches between them
    assert all(page.locator(".matrix").nth(i).is_visible() for i in range(2))
    assert page.locator(".panel [role=row]").count() > 20
    assert page.locator("#fact-1 dd").inner_text().endswith(".")
    page.locator("#fact-2 dfn a").first.click()  # a footnote
    term = page.url.partition("#")[2]
    assert term.startswith("term-")
    assert page.locator(f"#{term} dd").is_visible()
    assert not page.locator(".filters").is_visible()
    assert page.locator("[data-chart=forest]").text_content().startswith("This chart is drawn by JavaScript")
    context.close()


def test_what_can_be_clicked_has_a_name_and_what_is_drawn_a_label(opened: Page) -> None:
    nameless = opened.evaluate("""() => [...document.querySelectorAll(
        'button, a, input, select, summary, [role=img], [role=region]')]
        .filter((e) => !(e.getAttribute('aria-label') ?? e.textContent).trim() && !e.labels?.length)
        .map((e) => e.outerHTML)""")
    assert nameless == []
