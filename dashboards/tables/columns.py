"""A table column by column: the heading and the entries of each stand together, and each kind is written one way.

A number that is not known is a dash, and empty in the download. A score stands as the metric measured it, an interval
behind the number that it belongs to; its ends have columns of their own in the download. ``texts`` are what is read
where that is not what ``write`` makes of the number: rows in units of their own, or words that say more.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from dashboards import theme
from dashboards.score import Score
from dashboards.tables.table import Column, CsvValue, Entry, Table, numeric
from study.stats.typical import Typical, Way

Ends = tuple[float, float]
Write = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Filled:
    """A column with its entries, one a row."""

    column: Column
    entries: tuple[Entry, ...]


def table_of(
    name: str,
    caption: str,
    columns: Iterable[Filled],
    *,
    groups: Sequence[object] = (),
    total: int = 0,
    left_out: Collection[str] = (),
) -> Table:
    """Return a table of columns that are equally long.

    Args:
        name: The table's id.
        caption: What its numbers are.
        columns: From left to right.
        groups: What each row belongs to; a rule is drawn above every row that belongs elsewhere than the one before.
        total: See `Table`.
        left_out: Columns, by their names in the download, that this table does not have.
    """
    filled = [one for one in columns if one.column.csv not in left_out]
    rows = tuple(zip(*(one.entries for one in filled), strict=True))
    opened = tuple(i for i, key in enumerate(groups) if i == 0 or groups[i - 1] != key)
    return Table(name, caption, tuple(one.column for one in filled), rows, opened, total)


def words(title: str, csv: str, texts: Iterable[str], values: Sequence[str] = (), *, prose: bool = False) -> Filled:
    """Return a column of words; ``values`` stand for them in the download, ``prose`` may wrap."""
    return Filled(Column(title, csv, prose=prose), _entries(texts, values))


def marked(title: str, csv: str, texts: Iterable[str], icons: Iterable[str], values: Sequence[str] = ()) -> Filled:
    """Return a column of words with an icon before each, as verdicts have."""
    entries = zip(_entries(texts, values), icons, strict=True)
    return Filled(Column(title, csv), tuple(replace(entry, icon=icon) for entry, icon in entries))


def methods(
    title: str, csv: str, names: Sequence[str], texts: Sequence[str] = (), values: Sequence[str] = ()
) -> Filled:
    """Return a column of methods, or of what is said of them, with their markers."""
    entries = zip(_entries(texts or names, values), names, strict=True)
    return Filled(Column(title, csv), tuple(replace(entry, method=name) for entry, name in entries))


def numbers(
    title: str, csv: str, values: Iterable[float | None], write: Write = theme.number, texts: Sequence[str] = ()
) -> Filled:
    """Return a column of numbers, each as ``write`` writes it, and at full precision in the download."""
    known = list(map(_known, values))
    said = texts or ["–" if isinstance(value, str) else write(value) for value in known]
    return Filled(numeric(title, csv), _entries(said, known))


def counts(title: str, csv: str, values: Iterable[int], texts: Sequence[str] = ()) -> Filled:
    """Return a column of whole numbers."""
    return numbers(title, csv, values, str, texts)


def estimates(
    title: str,
    csv: str,
    found: Iterable[tuple[float, Ends]],
    write: Write = theme.gain,
    ends: str = "ci95",
    texts: Sequence[str] = (),
    what: str = "95 % CI",
) -> tuple[Filled, ...]:
    """Return a column of numbers with ``what`` around them; the download has ``ends``, low and high, beside it."""
    found = list(found)
    said = texts or [theme.within(mean, interval, write) for mean, interval in found]
    shown = numbers(f"{title} [{what}]", csv, [mean for mean, _ in found], texts=said)
    return shown, *hidden_ends(ends, [interval for _, interval in found])


def intervals(title: str, ends: str, found: Iterable[Ends], texts: Sequence[str] = ()) -> tuple[Filled, ...]:
    """Return a column of intervals of gains; the download has ``ends``, low and high, instead."""
    found = list(found)
    return Filled(numeric(title, ""), _entries(texts or map(theme.interval, found))), *hidden_ends(ends, found)


def scores(score: Score, title: str, csv: str, values: Sequence[float | None], own: Sequence[Score] = ()) -> Filled:
    """Return a column of scores, as their metric measured them; ``own`` is that of each row, where they are several."""
    each = list(zip(own or [score] * len(values), values, strict=True))
    measured = [None if value is None else one.measured(value) for one, value in each]
    return numbers(score.head(title), csv, measured, texts=[one.text(value) for one, value in each])


def typical(
    title: str, csv: str, found: Sequence[Typical], way: Way, write: Write, ends: str = ""
) -> tuple[Filled, ...]:
    """Return a column of what runs are typically like, with the ends that ``way`` puts around it."""
    return estimates(title, csv, [(one.middle, one.ends) for one in found], write, ends or way.csv, what=way.short)


def typical_scores(score: Score, csv: str, found: Iterable[Typical]) -> tuple[Filled, ...]:
    """Return a column of what scores of several runs are typically like, as their metric measured them."""
    measured = [Typical(one.n, score.measured(one.middle), score.ends(one.ends)) for one in found]
    return typical(score.head(score.way.title), csv, measured, score.way, score.write)


def hidden(csv: str, values: Iterable[float | str | None]) -> Filled:
    """Return a column that stands in the download alone."""
    known = [value if isinstance(value, str) else _known(value) for value in values]
    return Filled(Column(csv.replace("_", " "), csv, hidden=True), tuple(Entry("", value) for value in known))


def hidden_ends(name: str, found: Iterable[Ends]) -> tuple[Filled, Filled]:
    """Return two columns of the download: the lower and the upper ends of intervals."""
    found = list(found)
    return hidden(f"{name}_low", [low for low, _ in found]), hidden(f"{name}_high", [high for _, high in found])


def units(scores: Iterable[Score]) -> Filled:
    """Return the column of the download that says what the scores and gains of a row are counted in."""
    return hidden("unit", [score.csv_unit for score in scores])


def in_units(scores: Sequence[Score], write: Callable[..., str], *values: Iterable[object]) -> list[str]:
    """Return what ``write`` makes of the values of every row, in the unit of its score."""
    texts = []
    for score, *given in zip(scores, *values, strict=True):
        with score.written():
            texts.append(write(*given))
    return texts


def gains_in_units(scores: Sequence[Score], found: Iterable[tuple[float, Ends]]) -> list[str]:
    """Return gains with their intervals, each in the unit of its row."""
    found = list(found)
    return in_units(scores, theme.gain_within, [mean for mean, _ in found], [ends for _, ends in found])


def _known(value: float | None) -> float | str:
    return value if value is not None and theme.known(value) else ""


def _entries(texts: Iterable[str], values: Sequence[CsvValue] = ()) -> tuple[Entry, ...]:
    texts = list(texts)
    return tuple(Entry(text, value) for text, value in zip(texts, values or [None] * len(texts), strict=True))
