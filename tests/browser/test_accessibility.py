"""axe-core finds nothing serious in the report and in the index, light and dark."""

from importlib import resources
from pathlib import Path

import pytest
from browsing import open_page
from playwright.sync_api import Browser
from synthetic import synthetic_lines, synthetic_study

from dashboards.index import build_index
from dashboards.report import build_report
from dashboards.studies import Line
from study.findings import find
from study.store.frame import frame_of

pytestmark = pytest.mark.browser

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# What plotly draws stands under one label of ours, with a table beside it: it is no text of the page.
RUN = """() => axe.run({exclude: [".plot > *"]}, {resultTypes: ["violations"]}).then((found) => found.violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
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
    line = Line("a", question="Does it?", answer="No.", ended=3, planned=3, methods=("SGD",), verdicts=(("helps", 1),))
    texts = {
        "report": build_report(findings, frame, records=records, lines=lines),
        "unfinished": build_report(find(spec, part, len(records)), frame_of(part), records=part, reload_s=600),
        "index": build_index("results", [line, Line("b", error="b/spec.toml can't be parsed; mend it.")]),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("report", "light"), ("report", "dark"), ("unfinished", "dark"), ("index", "light"), ("index", "dark")],
)
def test_nothing_serious_is_found(browser: Browser, pages: dict[str, Path], name: str, scheme: str) -> None:
    page, complaints = open_page(browser, pages[name], viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.evaluate(AXE)
    assert page.evaluate(RUN) == []
    assert complaints == []
    page.close()


def test_it_would_find_something(browser: Browser, pages: dict[str, Path]) -> None:
    page, _ = open_page(browser, pages["index"])
    page.evaluate("document.getElementById('theme').textContent = ''")
    page.evaluate(AXE)
    assert [found.partition(":")[0] for found in page.evaluate(RUN)] == ["button-name"]
    page.close()
