"""Colours, markers and number formats."""

import math

import pytest

from dashboards import theme, words
from dashboards.page import part
from study.specs.methods import METHODS

WHITE, BLACK = "#FFFFFF", "#121212"


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


OWN = [theme.own_style(number) for number in range(24)]


@pytest.mark.parametrize("style", [*theme.STYLE.values(), *OWN[:8]])
def test_every_method_stands_out_on_both_papers(style: theme.Style) -> None:
    assert contrast(style.color, WHITE) >= 3
    assert contrast(theme.DARK.get(style.color, style.color), BLACK) >= 3


@pytest.mark.parametrize("text", [theme.INK, theme.MUTED, theme.ACCENT])
def test_text_is_readable_on_both_papers(text: str) -> None:
    assert contrast(text, WHITE) >= 4.5
    assert contrast(theme.DARK[text], BLACK) >= 4.5


def test_colour_is_never_the_only_carrier() -> None:
    for name in ("color", "symbol"):
        values = [getattr(style, name) for style in theme.STYLE.values()]
        assert len(set(values)) == len(values)
    own = {(style.symbol, style.dash) for style in OWN}
    assert len(own) == len(OWN)
    assert len({style.color for style in OWN[:8]}) == len({style.symbol for style in OWN[:8]}) == 8
    assert not {style.symbol for style in OWN} & {style.symbol for style in theme.STYLE.values()}
    assert len(set(theme.VERDICT_ICONS.values())) == len(theme.VERDICT_ICONS) == 6


def test_every_method_of_the_table_has_a_style_and_a_sentence() -> None:
    assert set(theme.STYLE) == set(METHODS) > set(words.METHODS_IN_WORDS)
    for name in METHODS:
        assert words.method_in_words(name).endswith(".")
        assert "No description" not in words.method_in_words(name)


def test_every_marker_and_icon_is_in_the_sprite_of_the_page() -> None:
    sprite = part("sprite.html")
    icons = {*theme.VERDICT_ICONS.values(), *theme.STATUS_ICONS.values(), *theme.OUTCOME_ICONS.values()} - {""}
    wanted = {f"m-{style.symbol}" for style in (*theme.STYLE.values(), *OWN)} | {f"v-{icon}" for icon in icons}
    assert {name for name in wanted if f'id="{name}"' not in sprite} == set()


def test_every_dash_is_drawn_in_the_legend() -> None:
    css = part("report.css")
    assert {s.dash for s in (*theme.STYLE.values(), *OWN) if f".stroke.{s.dash} " not in css} == {"solid"}


def test_an_unknown_method_has_a_style_of_its_own() -> None:
    assert theme.style_of("new") not in theme.STYLE.values()


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (theme.gain, 0.01234, "+1.23"),
        (theme.gain, -0.0005, "−0.05"),
        (theme.gain, -0.00001, "0.00"),
        (theme.gain, math.nan, "–"),
        (theme.gain, None, "–"),
        (theme.points, 0.005, "0.50"),
        (theme.threshold, 0.005, "0.50"),
        (theme.threshold, 0.00125, "0.125"),
        (theme.interval, (0.0045, 0.0201), "[+0.45, +2.01]"),
        (theme.interval, (math.nan, math.nan), "–"),
        (theme.percent, 0.9452, "94.52\u202f%"),
        (theme.p_value, 0.0004, "< .001"),
        (theme.p_value, 0.0312, ".031"),
        (theme.p_value, 1.0, "1.000"),
        (theme.p_value, None, "–"),
        (theme.number, 0.08391, "0.0839"),
        (theme.signed, 0.034567, "+0.0346"),
        (theme.signed, -2.5, "−2.5"),
        (theme.signed, 0.0, "0"),
        (theme.signed, math.nan, "–"),
        (theme.ratio, 2.0, "2.00×"),
        (theme.large, 240_000.0, "240\u202fk"),
        (theme.large, 1.25e6, "1.25\u202fM"),
        (theme.large, 12.0, "12"),
        (theme.large, math.nan, "–"),
    ],
)
def test_numbers_are_written_one_way(write, value, text: str) -> None:
    assert write(value) == text


def test_text_for_plotly_holds_no_tag_of_the_users() -> None:
    assert theme.plot_text("<a href='x'>&") == "&lt;a href='x'&gt;&amp;"
    assert theme.wrapped("one <b>two three", 8) == "one<br>&lt;b&gt;two<br>three"


def test_numbers_for_plotly_hold_no_nan() -> None:
    assert theme.rounded([1 / 3, math.nan, math.inf, None]) == [0.333333, None, None, None]
