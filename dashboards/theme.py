"""How things look: colour, marker and dash of every method, light and dark, and how a number is written.

Colour is never the only carrier: a method always has its own marker and dash, a verdict its own word and icon.
Everything outside this module holds scores as they are; points, the hundredths of a fraction, exist only in the
functions below, and only inside `writing` of a study whose scores are fractions.
"""

import html
import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

import plotly.graph_objects as go

from study.specs.methods import BUILT_IN, Methods

T = TypeVar("T")

FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif'

INK, MUTED, GRID, PAPER, ACCENT = "#1A1D21", "#5B6470", "#E3E7EB", "#FFFFFF", "#0B5CAD"
BAND = "#EEF1F4"  # the region of practical equivalence
UNKNOWN = "#767C84"
GAIN, LOSS = "#1B7F8C", "#B5472F"  # the two ends of the diverging scale; its middle is the paper

# Figures are written in the light colours; the page swaps these for the dark ones. Colours that are not named
# here (all methods but the base) keep a contrast of at least 3:1 on both papers.
DARK: dict[str, str] = {
    INK: "#E8E8E6",
    MUTED: "#A6ADB7",
    GRID: "#2C3036",
    PAPER: "#121212",
    ACCENT: "#7DB7F0",
    BAND: "#23272C",
    "#333333": "#E6E6E6",
    UNKNOWN: "#8C939C",
}


@dataclass(frozen=True, slots=True)
class Style:
    """What marks one method everywhere: its colour, plotly marker symbol and line dash."""

    color: str
    symbol: str
    dash: str

    @property
    def dark(self) -> str:
        """The colour on dark paper."""
        return DARK.get(self.color, self.color)


# Averages lean to cool hues, last weights to warm ones; no two methods share a marker, so that any pick of them tells
# apart without colour. Dashes repeat beyond the sixth method.
STYLE: dict[str, Style] = {
    "SGD": Style("#333333", "circle", "solid"),
    "SWA": Style("#0072B2", "square", "dash"),
    "EMA": Style("#CC79A7", "hexagon", "dot"),
    "LAWA": Style("#7A6FE0", "pentagon", "dashdot"),
    "SAM": Style("#D55E00", "triangle-up", "longdash"),
    "WASAM": Style("#009E73", "diamond", "longdashdot"),
    "SAM+EMA": Style("#C2479B", "hourglass", "dot"),
    "SAM+LAWA": Style("#9A5BC9", "bowtie", "dashdot"),
    "ASAM": Style("#A66F00", "triangle-down", "dashdot"),
    "ASAM+SWA": Style("#6F8A00", "cross", "longdashdot"),
    "SAM-ON": Style("#E0485A", "x", "dash"),
    "SAM-ON+SWA": Style("#0E8C98", "hexagram", "dot"),
    "m-SAM": Style("#A5483C", "triangle-se", "solid"),
    "m-SAM+SWA": Style("#4E8F3A", "diamond-wide", "dash"),
    "late SAM": Style("#A8744F", "triangle-sw", "dot"),
    "late SAM+SWA": Style("#3D84C6", "diamond-tall", "longdashdot"),
    "AdamW": Style("#6B7785", "octagon", "longdash"),
    "AdamW+SWA": Style("#5A7FA6", "star-square", "solid"),
    "AdamW+EMA": Style("#B0718F", "hexagon2", "dash"),
    "AdamW+SAM": Style("#BC7A3A", "triangle-nw", "dashdot"),
    "AdamW+WASAM": Style("#3E8E7E", "star-diamond", "solid"),
}
_UNKNOWN_STYLE = Style(UNKNOWN, "star", "dot")

# Of methods that are not built in, in the order of the study's table.
_OWN_COLORS = ("#B4528E", "#3D7EA6", "#8A7A1F", "#5F6FD1", "#3F8F5B", "#C05B4D", "#8E63B3", "#7B7263")
_OWN_SYMBOLS = (
    "triangle-left", "star-triangle-up", "circle-cross", "triangle-right", "square-x", "star-triangle-down",
    "triangle-ne", "diamond-cross",
)  # fmt: skip
_OWN_DASHES = ("dash", "dot", "longdash", "dashdot", "longdashdot", "solid")

# Names of icons in the page's sprite. The words always stand beside them.
VERDICT_ICONS: dict[str, str] = {
    "helps": "up",
    "hurts": "down",
    "no material effect": "equal",
    "inconclusive": "question",
    "insufficient data": "dots",
    "not yet": "clock",  # see `dashboards.comparisons`
}
OUTCOME_ICONS: dict[str, str] = {"reproduced": "check", "contradicted": "cross", "inconclusive": "question"}
STATUS_ICONS: dict[str, str] = {"completed": "", "pruned": "", "diverged": "burst", "failed": "cross"}
EDGE_ICON = "flag"

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "colorway": [style.color for style in STYLE.values()],
        "xaxis": {
            "gridcolor": GRID, "zeroline": False, "linecolor": GRID, "tickcolor": GRID, "ticks": "outside",
            "ticklen": 4, "nticks": 6, "fixedrange": True,
            "title": {"standoff": 8, "font": {"color": MUTED, "size": 12}},
            "tickfont": {"color": MUTED, "size": 12},
        },
        "yaxis": {
            "gridcolor": GRID, "zeroline": False, "linecolor": GRID, "nticks": 6, "fixedrange": True,
            "title": {"standoff": 8, "font": {"color": MUTED, "size": 12}},
            "tickfont": {"color": MUTED, "size": 12},
        },
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": {"family": FONT, "size": 12, "color": INK}},
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "yref": "container",
            "font": {"size": 12, "color": INK}, "itemclick": False, "itemdoubleclick": False, "tracegroupgap": 0,
        },
        "annotationdefaults": {"showarrow": False, "font": {"color": INK, "size": 13}},
        "hovermode": "closest",
        "dragmode": False,
    }
)  # fmt: skip


def style_of(method: str) -> Style:
    """Return the method's style, also under a baseline's role (``SGD best``); an unknown one is grey with a star.

    One that is not built in has that of its place among the study's own: marker and dash differ among the first 24.
    """
    own = [name for name in (*methods(), *_SHOWN.get()[1]) if name not in STYLE]
    for name in (method, method.removesuffix(" last").removesuffix(" best")):
        if name in STYLE:
            return STYLE[name]
        if name in own:
            return own_style(own.index(name))
    return _UNKNOWN_STYLE


def own_style(number: int) -> Style:
    """Return the style of a study's own method, by its place among these, from 0."""
    turn, place = divmod(number, len(_OWN_SYMBOLS))
    return Style(
        _OWN_COLORS[(place + turn) % len(_OWN_COLORS)], _OWN_SYMBOLS[place], _OWN_DASHES[number % len(_OWN_DASHES)]
    )


_SHOWN: ContextVar[tuple[Methods, tuple[str, ...]]] = ContextVar("shown", default=(BUILT_IN, ()))
_WRITING: ContextVar[tuple[str, bool]] = ContextVar("writing", default=("points", True))


@contextmanager
def _holding(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def showing(table: Methods, given: tuple[str, ...] = ()) -> AbstractContextManager[None]:
    """Show a study with this table of methods inside the block, or results of methods that have a name alone."""
    return _holding(_SHOWN, (table, given))


def writing(unit: str, *, share: bool) -> AbstractContextManager[None]:
    """Write scores and gains in this unit inside the block; those that are fractions, a ``share``, times 100."""
    return _holding(_WRITING, (unit, share))


def methods() -> Methods:
    """Return the methods of the study that is shown: the built-in ones, and its own."""
    return _SHOWN.get()[0]


def faded(color: str, opacity: float) -> str:
    """Return a ``#RRGGBB`` colour as ``#RRGGBBAA``: the page swaps the first seven characters in the dark."""
    return f"{color}{round(opacity * 255):02X}"


def diverging(value: float, most: float) -> str:
    """Return the field colour of a signed value: none at 0, full at ±``most``; ink reads on it on either paper.

    Its strength grows with the square root, so that the sign of small values is still seen beside a large one.
    """
    strength = 0.62 * min(1.0, math.sqrt(abs(value) / most)) if most > 0 else 0.0
    return faded(GAIN if value > 0 else LOSS, strength)


def plot_text(text: str) -> str:
    """Make a user's string safe for plotly, which reads tags and entities in every text it draws."""
    return html.escape(text, quote=False)


def wrapped(text: str, width: int) -> str:
    """Make a user's string safe for plotly and break it between words after about ``width`` characters."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(map(plot_text, lines))


def known(value: float | None) -> TypeGuard[float]:
    """Tell whether there is a number: not None, not NaN, not infinite."""
    return value is not None and math.isfinite(value)


def rounded(values: object) -> list[float | None]:
    """Return numbers at six significant digits, None where there is none: enough for a screen, half the bytes."""
    return [float(f"{v:.6g}") if known(v) else None for v in values]  # type: ignore[attr-defined]


def unit() -> str:
    """Return the unit of scores and gains: "points", "k$"."""
    return _WRITING.get()[0]


def least(span: float, of_fractions: float) -> float:
    """Return a span that a picture can show: not below a bound, which is one of fractions alone."""
    if shares():
        return max(span, of_fractions)
    return span if span > 0 else 1.0


def shares() -> bool:
    """Tell whether scores are fractions."""
    return _WRITING.get()[1]


def hundredths(fraction: float) -> float:
    """Convert a fraction to percent, or to percentage points."""
    return fraction * 100


def in_points(score: float) -> float:
    """Convert a score, or a difference of scores, to points where scores are fractions; others stay."""
    return hundredths(score) if shares() else score


def gain(difference: float | None) -> str:
    """Write a gain in points, or in the unit of the study's scores, always with its sign: ``+1.23``."""
    if not known(difference):
        return "–"
    text = points(abs(difference))
    if not float(text.replace(",", "")):
        return "0.00" if shares() else "0"
    return ("+" if difference > 0 else "−") + text


def points(score: float) -> str:
    """Write a size in points, without a sign: ``0.50``; in another unit with four significant digits: ``149.2``."""
    if not known(score):
        return "–"
    return f"{hundredths(score):.2f}" if shares() else plain(score)


def plain(value: float) -> str:
    """Write a number with four significant digits, or decimals: ``0.0123``, ``149.2``, ``14,921``; two of tiny ones."""
    size = abs(value)
    if not 1e-3 <= size < 1e7:
        return f"{value:.4g}" if size >= 1e-3 else f"{value:.2g}"
    return f"{value:,.{max(0, 3 - max(-1, math.floor(math.log10(size))))}f}"


def interval(ends: tuple[float, float]) -> str:
    """Write an interval of gains: ``[+0.45, +2.01]``."""
    return f"[{gain(ends[0])}, {gain(ends[1])}]" if known(ends[0]) and known(ends[1]) else "–"


def threshold(fraction: float) -> str:
    """Write a δ in points: two decimals, more where it has more; in another unit with four significant digits."""
    if not shares():
        return f"{fraction:,.4g}"
    return f"{hundredths(fraction):.2f}" if round(fraction, 4) == fraction else f"{hundredths(fraction):.4g}"


def gain_within(mean: float, ends: tuple[float, float]) -> str:
    """Write a gain with its interval, as far as they are known: ``+1.23 [+0.45, +2.01]``."""
    return within(mean, ends, gain)


def within(mean: float, ends: tuple[float, float], write: Callable[[float], str]) -> str:
    """Write any number with its interval, as far as they are known, both as ``write`` does."""
    return f"{write(mean)} [{write(ends[0])}, {write(ends[1])}]" if known(mean) and known(ends[0]) else write(mean)


def percent(fraction: float | None, decimals: int = 2) -> str:
    """Write a share: ``94.52 %``, with a narrow space that does not break. Scores: see `dashboards.score`."""
    return "–" if not known(fraction) else f"{hundredths(fraction):.{decimals}f}\u202f%"


def p_value(p: float | None) -> str:
    """Write a p value: three decimals, no leading zero, ``< .001`` below."""
    if not known(p):
        return "–"
    if p < 0.001:
        return "< .001"
    return f"{p:.3f}".removeprefix("0")


def number(value: float | None) -> str:
    """Write a hyper-parameter with three significant digits."""
    return "–" if not known(value) else f"{value:.3g}"


def signed(value: float | None) -> str:
    """Write a number that is no gain with three significant digits, always with its sign: ``+0.0346``."""
    if not known(value):
        return "–"
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def ratio(value: float | None) -> str:
    """Write a cost ratio: ``2.00×``."""
    return "–" if not known(value) else f"{value:.2f}×"


def large(value: float | None) -> str:
    """Write a large count with a unit: ``240 k``, ``1.2 M``."""
    if not known(value):
        return "–"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}\u202f{unit}"
    return f"{value:.0f}"
