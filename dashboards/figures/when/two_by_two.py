"""Where does each method gain? The mean gain of every problem as fields over two factors, and what both do together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell, words_of
from dashboards.contenders import budget_name, delta_of
from dashboards.figures.kit import fields
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement, inliers
from dashboards.figures.kit.traces import Figure
from dashboards.tables.table import Column, Entry, Table, hidden, numeric
from study.findings import Findings
from study.records import FactorValue

_MOST_TOLD = 6  # interaction contrasts


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
    """All fields. ``factor``: what differs between columns."""

    factor: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    gains: tuple[Gain, ...]
    delta: float

    @property
    def most(self) -> float:
        """Where the colour scale ends: at the largest mean that is not far out."""
        return max(map(abs, inliers([gain.mean for gain in self.gains], least=self.delta)))


def gain_map_of(findings: Findings, cells: Mapping[str, Cell]) -> GainMap | None:
    """Lay the gains out, one factor across and all that differs besides down; None unless two factors are crossed."""
    known = [e for e in findings.effects if e.budget == findings.primary_budget and theme.known(e.mean)]
    here = [cell for cell in cells.values() if any(effect.cell == cell.name for effect in known)]
    factor = factor_across(here)
    if not factor:
        return None
    places = {cell.name: (cell.label_without(factor), words_of(factor, cell.varied[factor])) for cell in here}
    gains = tuple(
        Gain(
            e.method, cells[e.cell].label, places[e.cell][0], places[e.cell][1], e.mean, e.ci95, e.n,
            e.verdict,
        )
        for method in findings.methods
        for e in known
        if e.method == method
    )  # fmt: skip
    values = sorted({cell.varied[factor] for cell in here}, key=_order)
    return GainMap(
        factor=factor,
        rows=tuple(dict.fromkeys(places[cell.name][0] for cell in here)),
        columns=tuple(words_of(factor, value) for value in values),
        gains=gains,
        delta=max(delta_of(findings, cell.task) for cell in here),
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


def figure_of(data: GainMap) -> tuple[Figure, Arrangement]:
    """Draw one panel a method over two factors."""
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


def table_of(data: GainMap, unit: str) -> Table:
    """Return one row a field."""
    return Table(
        "two-by-two",
        "Mean gain over the strongest baseline of every method in every problem, at the primary budget.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            numeric(f"Gain, {theme.unit()}", "gain"),
            numeric("95 % CI low", "ci95_low"),
            numeric("95 % CI high", "ci95_high"),
            numeric("n", "n"),
            Column("Verdict", "verdict"),
            *hidden("unit"),
        ),
        tuple(
            (
                Entry(gain.cell),
                Entry(gain.method, method=gain.method),
                *(Entry(theme.gain(v), v if theme.known(v) else None) for v in (gain.mean, *gain.ci95)),
                Entry(str(gain.n), gain.n),
                Entry(gain.verdict, icon=theme.VERDICT_ICONS[gain.verdict]),
                Entry("", unit),
            )
            for gain in data.gains
        ),
    )


def heading_of(findings: Findings, gains: Sequence[Gain]) -> str:
    """State what two factors do to a gain together, beyond each alone, or else where gains are largest and smallest."""
    known = [found for found in findings.factor_interactions if found.n]
    sure = [found for found in known if excludes_zero(found.ci95)]
    if not known:
        least, most = (choose(gains, key=lambda gain: gain.mean) for choose in (min, max))
        ends = [
            f"{words} in {one.cell} ({one.method} {theme.gain(one.mean)})"
            for words, one in (("largest", most), ("smallest", least))
        ]
        return f"The gain is {prose.listed(ends)}, in {theme.unit()}"
    names = " and ".join(name.replace("_", " ") for name in known[0].factors)
    if not sure:
        return f"{names.capitalize()} are not shown to change a gain together by more, or less, than each alone"
    told = [f"{theme.gain(one.mean)} {theme.unit()} to the gain of {one.method}" for one in sure]
    return f"Together, {names} add {prose.listed(told)}, beyond what each does alone"


def contrasts_of(findings: Findings) -> str:
    """Say every interaction contrast with its interval; "" without any."""
    known = [found for found in findings.factor_interactions if found.n]
    told = [f"{one.method} {theme.gain_within(one.mean, one.ci95)} (p {theme.p_value(one.p)})" for one in known]
    if not told:
        return ""
    if len({one.task for one in known}) > 1:
        told = [f"{words} in {one.task}" for words, one in zip(told, known, strict=True)]
    told = told[:_MOST_TOLD] + [f"{len(told) - _MOST_TOLD} more, in findings.json"] * (len(told) > _MOST_TOLD)
    levels = "; ".join(
        " → ".join(words_of(name, level) for level in pair)
        for name, pair in zip(known[0].factors, known[0].levels, strict=True)
    )
    return (
        f" Interaction, replicate by replicate ({levels}), what both changes together do to the gain beyond the sum of "
        f"each: {prose.listed(told)}; 95 % intervals and p unadjusted."
    )


def excludes_zero(ends: tuple[float, float]) -> bool:
    """Tell whether an interval lies on one side of zero."""
    return ends[0] > 0 or ends[1] < 0


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None unless factors are crossed, and before the last run is done."""
    findings, score = sources.findings, sources.score
    data = gain_map_of(findings, sources.cells)
    if data is None or not data.gains or not findings.counts.finished:
        return None
    figure, narrow = figure_of(data)
    primary = budget_name(findings, findings.primary_budget)
    return Chart(
        id="two-by-two",
        heading=heading_of(findings, data.gains),
        reading=(
            f"One field a problem, {data.factor.replace('_', ' ')} across, all else down; the mean gain in "
            f"{score.points}. The stronger the colour, the larger the gain or the loss; bold where the 95 % interval "
            "excludes zero."
        ),
        caption=(
            f"Mean paired gain over the strongest baseline at {primary}, "
            f"{prose.numbers(gain.n for gain in data.gains)} {sources.units} a field; colours end at "
            f"±{theme.points(data.most)} {theme.unit()}.{contrasts_of(findings)}"
        ),
        keys=(
            Key("gain", "", "field", theme.diverging(1, 1)),
            Key("loss", "", "field", theme.diverging(-1, 1)),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, score.csv_unit), "findings.json"),
    )
