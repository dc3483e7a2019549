"""How soon a page opens in headless Chromium: when its text is painted, it is loaded, and its first figure stands."""

from pathlib import Path

from benchmarks.conditions import spread
from browsing import CHROMIUM, SWITCHES, wait_until
from playwright.sync_api import Browser, sync_playwright

SCREENS = ((1280, 900), (390, 844))
NOTE_FIRST_FIGURE = """new MutationObserver((_, seeing) => {
  if (!document.querySelector(".plot .main-svg")) return;
  seeing.disconnect();
  requestAnimationFrame(() => { window.firstFigure = performance.now(); });
}).observe(document, { subtree: true, childList: true });"""
TIMES = """[
  performance.getEntriesByName("first-contentful-paint")[0].startTime,
  performance.getEntriesByType("navigation")[0].loadEventEnd,
  window.firstFigure,
]"""


def opening(page: Path, rounds: int = 5) -> str:
    """Open a page that often on each screen, anew each time; say so, a line a screen.

    The CPU time of the page's own thread until all figures in sight stand depends little on what else the machine does.
    """
    if CHROMIUM is None:
        return "no Chromium on PATH: how soon the page opens is not measured"
    lines = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        for screen in SCREENS:
            times = [_times(browser, page, screen) for _ in range(rounds)]
            paint, load, figure, cpu = (spread(seconds) for seconds in zip(*times, strict=True))
            size = f"opened at {screen[0]} × {screen[1]}"
            told = f"first paint {paint} s, loaded {load} s, first figure {figure} s; all figures {cpu} s of CPU"
            lines.append(f"{size:24} {told}")
        browser.close()
    return "\n".join(lines)


def _times(browser: Browser, page: Path, screen: tuple[int, int]) -> list[float]:
    context = browser.new_context(viewport={"width": screen[0], "height": screen[1]})
    opened = context.new_page()
    opened.add_init_script(NOTE_FIRST_FIGURE)
    devtools = context.new_cdp_session(opened)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    opened.goto(page.as_uri())
    wait_until(opened, "document.documentElement.dataset.charts === 'drawn'")
    times: list[float] = opened.evaluate(TIMES)
    spent = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    context.close()
    return [*(time / 1000 for time in times), spent["TaskDuration"]]
