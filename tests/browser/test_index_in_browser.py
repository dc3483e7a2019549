"""The index in headless Chromium: searched, sorted, compared; and the comparison agrees with SciPy."""

import math
from pathlib import Path

import numpy as np
import pytest
from browsing import open_page, sideways
from playwright.sync_api import Browser, Page
from scipy import stats

from dashboards.index import build_index
from dashboards.studies import Comparison, Line
from study.findings import RunCounts

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"
KEY = ("SAM", "the strongest of SGD last, SGD best", "up to 2× the gradient evaluations")


def line(name: str, units: range, values: np.ndarray, **settings: object) -> Line:
    return Line(
        **{
            "name": name,
            "question": f"Does {name} help? {HOSTILE}",
            "facts": {"What": "SAM helps in all.", "How surely": "Over all of them."},
            "counts": RunCounts(len(units), len(units), 0, 0),
            "verdicts": {"helps": len(units), "inconclusive": 1},
            "comparisons": (
                Comparison(
                    "digits",
                    {"label_noise": 0.3},
                    *KEY,
                    "",
                    tuple(f"0/3/{unit}" for unit in units),
                    tuple(values.round(6).tolist()),
                ),
            ),
        }
        | settings  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    rng = np.random.default_rng(0)
    return [
        line("alpha", range(1000, 1006), rng.normal(0.01, 0.01, 6)),
        line("beta", range(1000, 1006), rng.normal(0.02, 0.003, 6)),
        line("gamma", range(1000, 1003), rng.normal(0.0, 0.02, 3), counts=RunCounts(9, 3, 0, 0)),
        line("long", range(1000, 1040), rng.normal(0.0, 0.02, 40)),
        Line(f"broken {HOSTILE}", error=f"its record can't be read {HOSTILE}"),
        Line("alone", question="?", facts={"What": "No."}, counts=RunCounts(1, 1, 0, 0)),
    ]


@pytest.fixture(scope="module")
def index(lines: list[Line], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "index.html"
    path.write_text(build_index("results", lines), encoding="utf-8")
    return path


def compared(page: Page) -> dict[str, str]:
    heads = page.locator("#comparison-table th[data-csv]").evaluate_all("(all) => all.map((th) => th.dataset.csv)")
    cells = page.locator("#comparison-table tbody tr").first.evaluate(
        "(row) => [...row.cells].map((cell) => cell.dataset.v ?? cell.textContent)"
    )
    return dict(zip(heads, cells, strict=True))


@pytest.mark.parametrize(
    ("first", "second"), [("alpha", "beta"), ("alpha", "gamma"), ("gamma", "long"), ("beta", "long")]
)
def test_the_difference_and_its_interval_are_scipys(
    browser: Browser, index: Path, lines: list[Line], first: str, second: str
) -> None:
    page, complaints = open_page(browser, index, f"#compare?a={first}&b={second}")
    found = compared(page)
    a, b = (next(one for one in lines if one.name == name).comparisons[0] for name in (first, second))
    paired = a.units == b.units
    test = stats.ttest_rel(b.gains, a.gains) if paired else stats.ttest_ind(b.gains, a.gains, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert found["interval"] == ("paired" if paired else "Welch")
    assert found["n"] == ("6 pairs" if paired else f"{len(a.units)} and {len(b.units)}")
    assert math.isclose(float(found["difference"]), np.mean(b.gains) - np.mean(a.gains), rel_tol=1e-8)
    assert math.isclose(float(found["ci95_low"]), low, rel_tol=1e-7)
    assert math.isclose(float(found["ci95_high"]), high, rel_tol=1e-7)
    assert (found["problem"], found["method"], found["baseline"], found["budget"]) == ("digits", *KEY)
    apart = int(low > 0 or high < 0)
    assert page.locator("#pair output").inner_text() == f"In {apart} of 1 comparisons the interval excludes zero."
    assert complaints == []
    page.close()


def test_the_choice_stands_in_the_address_and_the_back_button_undoes_it(browser: Browser, index: Path) -> None:
    page, complaints = open_page(browser, index)
    chosen = "[...document.querySelectorAll('#pair select')].map((select) => select.value)"
    before = page.evaluate(chosen)
    page.locator("#pair [name=b]").select_option("long")
    assert page.evaluate("location.hash") == f"#compare?a={before[0]}&b=long"
    page.locator("#pair [name=b]").select_option(before[0])
    assert page.locator("#pair output").inner_text() == "Choose two different studies."
    page.go_back()
    assert page.evaluate(chosen) == [before[0], "long"]
    page.go_back()
    assert page.evaluate(chosen) == before
    assert complaints == []
    page.close()


def test_studies_are_searched_and_sorted(browser: Browser, index: Path) -> None:
    page, complaints = open_page(browser, index, "#studies?q=beta")
    shown = page.locator("#studies-table tbody tr:not([hidden]) th a, #studies-table tbody tr:not([hidden]) th")
    assert shown.count() == 1
    page.locator("#studies [name=q]").fill("")
    page.locator("#studies [name=state]").select_option("unreadable")
    assert "can't be read" in page.locator("#studies-table tbody tr:not([hidden])").inner_text()
    page.locator("#studies [name=state]").select_option("")
    page.get_by_role("button", name="Verdicts").click()
    page.get_by_role("button", name="Verdicts").click()
    verdicts = page.locator("#studies-table tbody td.verdicts").all_inner_texts()
    assert [" ".join(text.split()) for text in verdicts[:2]] == ["40 helps 1 inconclusive", "6 helps 1 inconclusive"]
    page.get_by_role("button", name="Runs").click()
    runs = page.locator("#studies-table tbody tr td:nth-last-child(3)").all_inner_texts()
    assert runs == ["1", "3 of 9", "6", "6", "40", "–"]
    assert page.locator("#studies-table tbody tr").count() == 6
    assert complaints == []
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen(browser: Browser, index: Path, tmp_path: Path, width: int, scheme: str) -> None:
    page, complaints = open_page(browser, index, viewport={"width": width, "height": 844}, color_scheme=scheme)
    assert sideways(page) <= 0
    page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
    assert complaints == []
    page.close()


def test_it_reads_without_javascript(browser: Browser, index: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page, _ = open_page(context, index)
    assert page.locator("#studies-table tbody tr").count() == 6
    assert page.locator("#studies-table").is_visible()
    assert not page.locator("#pair").is_visible()
    assert page.locator("noscript").is_visible()
    context.close()
