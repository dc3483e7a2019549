"""``python -m dashboards.atlas``: what the atlas says, as one self-contained page."""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from dashboards import page, theme
from dashboards.figures.atlas import gains, moderators
from dashboards.figures.kit.chart import Chart
from dashboards.figures.kit.dots import NOWHERE
from dashboards.tables import columns
from dashboards.tables.columns import Filled
from dashboards.tables.table import Column, Entry, Table, rows_of
from study.atlas.answers import distributions, moderation_by_factors
from study.atlas.card import costs
from study.atlas.cell_means import METHODS
from study.atlas.frames import PARTS, facts_of_parts, load_gains
from study.atlas.markdown import Answer, Gain, P, Share, Size
from study.atlas.markdown import Entry as Content
from study.atlas.summary import answers, sentences, validation
from study.atlas.verdicts import DELTA
from study.command_line import execute, refused
from study.files import write_atomically
from study.store.folder import ResultsError

_ICONS = {
    "agrees": "check", "as expected": "check", "seen": "check", "shown": "check", "disagrees": "cross",
    "the opposite": "cross", "undecided": "question", "not seen": "question", "not shown": "question",
    "no rule found": "question", "not tested": "dots", "too few tasks": "dots",
}  # fmt: skip


_SHORT = 24  # letters that need not wrap


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.atlas", description="Make the page of the atlas.")
    parser.add_argument("--parts", type=Path, default=PARTS, metavar="DIR", help="parts of another atlas")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("atlas.html"), metavar="FILE", help="default: atlas.html"
    )
    options = parser.parse_args(arguments)
    try:
        write_atomically(options.output, build_atlas(options.parts), make_folder=True)
    except (ResultsError, OSError) as error:
        return refused(error)
    print(options.output)
    return 0


def build_atlas(folder: Path = PARTS) -> str:
    """Return the page's HTML. Equal parts give equal bytes.

    Raises:
        ResultsError: there is no part in the folder, or a file in it is none.
    """
    frame = load_gains(folder)
    if frame.empty:
        raise ResultsError(
            f"{folder} was given; it holds no part: give a folder that `study.atlas add` has written to."
        )
    tables = {one.id: table_of(one) for one in (*answers(folder), validation(folder), costs(facts_of_parts(folder)))}
    charts: list[Chart] = [
        gains.chart_of(frame, distributions(frame), DELTA),
        moderators.chart_of({method: moderation_by_factors(frame, method) for method in METHODS}),
    ]
    packed = {
        **page.figures(charts),
        "tables": {chart.table.id: rows_of(chart.table) for chart in charts},
        "styles": page.styles_of(METHODS),
        "details": {},
    }
    return page.render(
        "atlas.html",
        ("page.js", "report.js", "details.js"),
        ("report.css",),
        title="When do flat-minima optimizers help?",
        facts=sentences(folder, lambda gain: theme.gain_within(gain.mean, gain.ends), "points of accuracy"),
        charts={chart.id: chart for chart in charts},
        tables=tables,
        glossary=(),
        beside="the parts that this page is made of hold",
        delta=f"{theme.threshold(DELTA)} {theme.unit()}",
        figures=Markup(page.packed(page.json_text(packed))),  # base64
        plotly=Markup(page.packed_plotly()),  # base64
    )


def table_of(answer: Answer) -> Table:
    """Return an answer as a table of the page: gains in points, in the download as fractions, with their intervals."""
    found = [
        filled
        for title in (answer.rows[0] if answer.rows else ())
        for filled in _columns(title, [row[title] for row in answer.rows])
    ]
    unit = columns.hidden("unit", ["fraction"] * len(answer.rows))
    return columns.table_of(answer.id, answer.title, [*found, unit])


def _columns(title: str, contents: Sequence[Content]) -> Iterator[Filled]:
    name = re.sub(r"\W+", "_", title).strip("_")
    entries = tuple(map(entry_of, contents))
    numbers = any(isinstance(content, int | Gain | Size | Share | P) for content in contents)
    head = title if title.startswith("p") and len(title.split()[0]) == 1 else title[0].upper() + title[1:]
    yield Filled(Column(head, name, numeric=numbers, prose=max(len(one.text) for one in entries) > _SHORT), entries)
    ends = [content.ends if isinstance(content, Gain) else NOWHERE for content in contents]
    if any(theme.known(low) for low, _ in ends):
        yield from columns.hidden_ends(name, ends)


def entry_of(content: Content) -> Entry:
    """Return an entry of the page's tables."""
    match content:
        case Gain(mean, ends):
            return Entry(theme.gain_within(mean, ends), mean if theme.known(mean) else "")
        case Size(value):
            return Entry(theme.points(value), value)
        case Share(value):
            return Entry(theme.percent(value, 0), value if theme.known(value) else "")
        case P(value):
            return Entry(theme.p_value(value), value if theme.known(value) else "")
        case tuple():
            return Entry(", ".join(f"{words} {theme.gain_within(gain.mean, gain.ends)}" for words, gain in content))
        case int():
            return Entry(f"{content:,}", content)
    text = "−" if content == "-" else content
    return Entry(text, icon=_ICONS.get(text, ""), method=text if text in METHODS else "")


if __name__ == "__main__":
    execute(main)
