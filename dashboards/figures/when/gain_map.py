"""Where does each method gain? The mean gain of every problem, as fields over two factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell, words_of
from dashboards.contenders import budget_name
from dashboards.figures.kit import fields
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement
from dashboards.figures.kit.traces import Figure
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from study.findings import Findings
from study.records import FactorValue


@dataclass(frozen=True, slots=True)
class Gain:
    """One field: the mean gain of one method in one problem at the primary budget, as a fraction."""

    method: str
    cell: str
    row: str
    column: str
    mean: float
    ci95: tuple[float, float]
    n: int
    verdict: str


@dataclass(frozen=True, slots=True)
class GainMap:
    """All fields. ``factor``: what differs between columns; "" where the columns are the methods."""

    factor: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    gains: tuple[Gain, ...]

    @property
    def most(self) -> float:
        """The largest absolute mean: where the colour scale ends."""
        return max((abs(gain.mean) for gain in self.gains), default=0.0)


def gain_map_of(findings: Findings, cells: Mapping[str, Cell]) -> GainMap:
    """Lay the gains out: one factor across and all that differs besides down, or problems × methods without two."""
    known = [e for e in findings.effects if e.budget == findings.primary_budget and theme.known(e.mean)]
    here = [cell for cell in cells.values() if any(effect.cell == cell.name for effect in known)]
    factor = factor_across(here)
    places = {
        cell.name: (cell.label_without(factor), words_of(factor, cell.varied[factor])) if factor else (cell.label, "")
        for cell in here
    }
    gains = tuple(
        Gain(
            e.method, cells[e.cell].label, places[e.cell][0], places[e.cell][1] or e.method, e.mean, e.ci95, e.n,
            e.verdict,
        )
        for method in findings.methods
        for e in known
        if e.method == method
    )  # fmt: skip
    values = sorted({cell.varied[factor] for cell in here}, key=_order) if factor else []
    return GainMap(
        factor=factor,
        rows=tuple(dict.fromkeys(places[cell.name][0] for cell in here)),
        columns=tuple(words_of(factor, value) for value in values)
        if factor
        else tuple(dict.fromkeys(gain.method for gain in gains)),
        gains=gains,
    )


def factor_across(cells: Sequence[Cell]) -> str:
    """Return the factor with most levels among those that every problem has, if its map has at least two full rows.

    The columns are then its levels, and each row one combination of task and other factors. "" without such a factor,
    and where more than a third of the fields would be empty: tasks that merely differ in it share no columns.
    """
    shared = [name for name in (cells[0].varied if cells else ()) if all(name in cell.varied for cell in cells)]
    crossed = []
    for name in shared:
        levels, rows = {cell.varied[name] for cell in cells}, {cell.label_without(name) for cell in cells}
        if min(len(levels), len(rows)) > 1 and 3 * len(cells) >= 2 * len(levels) * len(rows):
            crossed.append((len(levels), name))
    return max(crossed, key=lambda pair: pair[0])[1] if crossed else ""


def _order(value: FactorValue) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, str(value))


def figure_of(data: GainMap, score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a method over two factors, or one panel with the methods as columns."""
    if not data.factor:
        matrices = [fields.Matrix(f"mean gain, {score.points}", tuple(_field(data, gain) for gain in data.gains))]
        return fields.figure_of(matrices, data.rows, data.columns)
    methods = dict.fromkeys(gain.method for gain in data.gains)
    matrices = [
        fields.Matrix(theme.plot_text(method), tuple(_field(data, g) for g in data.gains if g.method == method))
        for method in methods
    ]
    return fields.figure_of(matrices, data.rows, data.columns, x_title=theme.plot_text(data.factor.replace("_", " ")))


def _field(data: GainMap, gain: Gain) -> fields.Field:
    sure = theme.known(gain.ci95[0]) and (gain.ci95[0] > 0 or gain.ci95[1] < 0)
    written = f"<b>{theme.gain(gain.mean)}</b>" if sure else theme.gain(gain.mean)
    return fields.Field(
        row=data.rows.index(gain.row),
        column=data.columns.index(gain.column),
        color=theme.diverging(gain.mean, data.most),
        text=f"{written}<br>n = {gain.n}",
        hover=(
            f"<b>{theme.plot_text(gain.method)}</b> · {theme.plot_text(gain.cell)}<br>{theme.gain(gain.mean)} "
            f"{theme.unit()}, 95 % CI {theme.interval(gain.ci95)}, n = {gain.n}<br>{gain.verdict}"
        ),
    )


def above_zero(data: GainMap) -> dict[str, tuple[int, int]]:
    """Return, by method, in how many problems the 95 % interval lies above zero, and of how many."""
    tally: dict[str, tuple[int, int]] = {}
    for gain in data.gains:
        above, total = tally.get(gain.method, (0, 0))
        tally[gain.method] = (above + (gain.ci95[0] > 0), total + 1)
    return tally


def table_of(data: GainMap) -> Table:
    """Return one row a field."""
    return Table(
        "gain-map",
        "Mean gain over the strongest baseline of every method in every problem, at the primary budget.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            numeric(f"Gain, {theme.unit()}", "gain"),
            numeric("95 % CI low", "ci95_low"),
            numeric("95 % CI high", "ci95_high"),
            numeric("n", "n"),
            Column("Verdict", "verdict"),
        ),
        tuple(
            (
                Entry(gain.cell),
                Entry(gain.method, method=gain.method),
                *(Entry(theme.gain(v), v if theme.known(v) else None) for v in (gain.mean, *gain.ci95)),
                Entry(str(gain.n), gain.n),
                Entry(gain.verdict, icon=theme.VERDICT_ICONS[gain.verdict]),
            )
            for gain in data.gains
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data and before the last run is done: intervals are counted in it."""
    findings, score = sources.findings, sources.score
    data = gain_map_of(findings, sources.cells)
    if not data.gains or not findings.counts.finished:
        return None
    figure, narrow = figure_of(data, score)
    clauses = [f"{above} of {total} with {method}" for method, (above, total) in above_zero(data).items()]
    primary = budget_name(findings, findings.primary_budget)
    across = (
        f"{data.factor.replace('_', ' ')} across, all else down" if data.factor else "methods across, problems down"
    )
    return Chart(
        id="gain-map",
        heading=f"Problems where the 95 % interval of the gain lies above zero: {prose.listed(clauses)}",
        reading=(
            f"One field a problem, {across}; the mean gain in {score.points}. The stronger the colour, the "
            "larger the gain or the loss; bold where the 95 % interval excludes zero."
        ),
        caption=(
            f"Mean paired gain over the strongest baseline at {primary}, "
            f"{prose.numbers(gain.n for gain in data.gains)} {sources.units} a field. 95 % Student-t intervals, not "
            "adjusted for the number of comparisons, are in the table and under the pointer. The colours are centred "
            f"at zero and end at ±{theme.points(data.most)} {theme.unit()}, growing with the square root."
        ),
        keys=(
            Key("gain", "", "field", theme.diverging(1, 1)),
            Key("loss", "", "field", theme.diverging(-1, 1)),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data), "runs.parquet"),
    )
