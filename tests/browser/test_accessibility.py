"""axe-core finds nothing in the report and in the index: on a phone and on a desk, light and dark, all of it opened."""

from importlib import resources
from pathlib import Path

import pytest
from browsing import open_page, wait_until
from playwright.sync_api import Browser, Page
from synthetic import synthetic_lines, synthetic_study

from dashboards.index import build_index
from dashboards.report import build_report
from dashboards.studies import Line
from study.findings import RunCounts, find
from study.store.frame import frame_of

pytestmark = pytest.mark.browser

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# What plotly draws stands under one label of ours, with a table beside it: it is no text of the page.
TWO_FRAMES = "new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
RUN = """() => axe.run({exclude: [".plot > *"]}, {resultTypes: ["violations"]}).then((found) => found.violations
    .map((one) => `${one.id}: ${one.nodes.slice(0, 4).map((node) => node.html.slice(0, 160)).join(" | ")}`))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    claim = {"id": "noise", "claim": "more noise, more gain", "kind": "slope", "method": "SAM", "factor": "label_noise"}
    spec, records = synthetic_study(
        tasks=["digits"],
        factors={"label_noise": [0.0, 0.3]},
        trials=3,
        failed=0.02,
        diverged=0.02,
        hypotheses=[claim | {"expected": "+"}],
    )
    findings, frame = find(spec, records, len(records)), frame_of(records)
    part = records[: len(records) // 2]
    lines = synthetic_lines(records, {("SGD", "SWA"): 0.0, ("SGD", "SAM"): 0.6})
    line = Line(
        "a", question="Does it?", facts={"What": "No."}, counts=RunCounts(3, 3, 0, 0), verdicts={"helps": 1}
    )  # fmt: skip
    texts = {
        "report": build_report(findings, frame, records=records, lines=lines),
        "unfinished": build_report(find(spec, part, len(records)), frame_of(part), records=part, reload_s=600),
        "index": build_index("results", [line, Line("b", error="b/spec.toml can't be parsed; mend it.")]),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def found_in(page: Page) -> list[str]:
    """Return what axe-core finds on light paper and on dark."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {one}" for one in page.evaluate(RUN)]
    return found


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["report", "unfinished", "index"])
def test_nothing_is_found(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    """With every part opened, what stands behind a verdict, and what a word means."""
    page, complaints = open_page(browser, pages[name], viewport={"width": width, "height": 900})
    page.evaluate(AXE)
    if name == "report":
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        page.locator(".entry .open").first.click()
        wait_until(page, "document.querySelectorAll('.behind table').length >= 2")
        for number in range(page.locator(".plot").count()):  # what is opened late is drawn when it comes near
            plot = f"document.querySelectorAll('.plot')[{number}]"
            page.evaluate(f"{plot}.scrollIntoView()")
            wait_until(page, f"{plot}.matches('.js-plotly-plot')")
        wait_until(page, "[...document.querySelectorAll('table[data-packed]')].every((table) => table.tHead)")
        page.evaluate(f"scrollTo(0, 0); {TWO_FRAMES}")  # a scroll closes what a word means
        page.evaluate("document.querySelector('#fact-2 dfn a').click()")
        assert page.locator("#meaning").is_visible()
    assert found_in(page) == []
    assert complaints == []
    page.close()


def test_it_would_find_something(browser: Browser, pages: dict[str, Path]) -> None:
    page, _ = open_page(browser, pages["index"])
    page.evaluate("document.getElementById('theme').textContent = ''")
    page.evaluate(AXE)
    assert [found.partition(":")[0] for found in page.evaluate(RUN)] == ["button-name"]
    page.close()
