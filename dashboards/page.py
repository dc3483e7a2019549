"""What makes a page one file: templates, data that cannot break out, and a policy that forbids all but one script.

plotly.js and the figures are gzipped, base64-encoded and inflated by the browser once. One inline script does that;
the Content-Security-Policy names its hash, so that nothing else runs and nothing is ever requested.
"""

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2
from jinja2 import pass_context
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from dashboards import theme
from dashboards.figures.kit.chart import Chart
from dashboards.words import cited, explained

CONFIG = {"displayModeBar": False, "doubleClick": False}  # of all charts; the page has its own buttons


def render(template: str, scripts: Sequence[str], styles: Sequence[str], **values: object) -> str:
    """Fill in a page's template.

    Args:
        template: Name of the template's file.
        scripts: Names of the script files, joined in this order into the one that the page's policy allows.
        styles: Names of the style sheets, joined likewise.
        **values: What the template asks for beside ``csp``, ``script`` and ``css``.
    """
    script = "\n".join(map(part, scripts))
    ours = {"script": Markup(script), "css": Markup("\n".join(map(part, styles)))}
    return filled(template, csp=policy(script), **ours, **values)


def filled(template: str, **values: object) -> str:
    """Return a template filled in, its values escaped."""
    return _templates().get_template(template).render(**values).lstrip()


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"style_of": theme.style_of, "dark": theme.DARK, "icons": theme.VERDICT_ICONS}
    environment.filters["cited"] = cited
    environment.filters["explained"] = pass_context(lambda given, text: explained(text, given["glossary"]))
    return environment


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


def figures(charts: Iterable[Chart]) -> dict[str, object]:
    """Return all figures, what they share, and the colours that the page swaps in the dark, as plain data."""
    return {
        "config": CONFIG,
        "dark": theme.DARK,
        "template": theme.TEMPLATE.to_plotly_json(),
        "charts": {
            chart.id: {"data": chart.figure.data, "layout": chart.figure.layout, "narrow": chart.figure.narrow}
            for chart in charts
        },
    }


def styles_of(methods: Iterable[str]) -> dict[str, list[str]]:
    """Return marker and colours, on light and on dark paper, of everything that may stand in a packed table."""
    styles = {method: theme.style_of(method) for method in sorted(methods)}
    return {name: [s.symbol, s.color, s.dark] for name, s in styles.items()}
