"""What makes the page one file: plotly.js packed in, data that cannot break out, a policy that forbids the rest.

plotly.js and the figures are gzipped, base64-encoded and inflated by the browser once. One inline script does that;
the Content-Security-Policy names its hash, so that nothing else runs and nothing is ever requested.
"""

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from plotly.offline import get_plotlyjs

from dashboards import theme
from dashboards.figures.kit.chart import Chart

CONFIG: dict[str, object] = {
    "displaylogo": False,
    "displayModeBar": False,
    "responsive": False,  # the page decides between its wide and its narrow arrangement itself
    "scrollZoom": False,
    "doubleClick": False,
    "showTips": False,
}


def packed(text: str) -> str:
    """Return a text gzipped, without a time stamp, and base64-encoded: figures take a sixth of their space so."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


@functools.cache
def packed_plotly() -> str:
    """Return plotly.js, packed."""
    return packed(get_plotlyjs())


@functools.cache
def part(name: str) -> str:
    """Return the text of one of the page's source files."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """Return the Content-Security-Policy of a page whose only inline script is ``script``."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def json_text(value: object) -> str:
    """Return JSON that can stand in a script element: no ``<``, no ``&``, no NaN, keys in the order given."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def figures_json(charts: Iterable[Chart]) -> str:
    """Return all figures, what they share, and the colours that the page swaps in the dark, as JSON."""
    return json_text(
        {
            "config": CONFIG,
            "dark": theme.DARK,
            "template": theme.TEMPLATE.to_plotly_json(),
            "charts": {
                chart.id: {"data": chart.figure.data, "layout": chart.figure.layout, "narrow": chart.narrow}
                for chart in charts
            },
        }
    )
