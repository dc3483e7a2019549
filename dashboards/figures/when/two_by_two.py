"""Where does each method gain? The mean gain of every problem as fields over two factors, and what both do together.

Fields are drawn as boxes in a colour that is more or less opaque, not as a heatmap trace: the middle of the scale is
then the paper, light or dark, and the ink reads on every field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import far_out, prose, theme
from dashboards.cells import LabelledCell, words_of
from dashboards.contenders import budget_name, delta_of, excludes_zero
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Grid, Panel, inliers, lay_out, rows_axis
from dashboards.figures.kit.traces import Figure, box, hover_of, scatter
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.findings import Findings
from study.records import FactorValue
from study.stats import Effect

_MOST_TOLD = 6  # interaction contrasts
_GAP = 0.03  # of a field, on each side
_MOST_COLUMNS_WITH_TEXT = 10
_NARROW_CHARACTERS = 26  # of all column names together, side by side on a phone


@dataclass(frozen=True, slots=True)
class GainMap:
    """The gains at the primary budget, by method, and where each stands.

    ``factor``: what differs between columns; ``places``: row and column of every problem, by name.
    """

    factor: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    places: Mapping[str, tuple[int, int]]
    gains: Mapping[str, tuple[Effect, ...]]
    delta: float

    @property
    def effects(self) -> list[Effect]:
        """All gains."""
        return [effect for of_method in self.gains.values() for effect in of_method]

    @property
    def most(self) -> float:
        """Where the colour scale ends: at the largest mean that is not far out."""
        return max(map(abs, inliers([effect.mean for effect in self.effects], least=self.delta)))


def gain_map_of(findings: Findings, cells: Mapping[str, LabelledCell]) -> GainMap | None:
    """Lay the gains out, one factor across and all that differs besides down; None unless two factors are crossed."""
    known = [e for e in findings.effects if e.budget == findings.primary_budget and theme.known(e.mean)]
    here = [cell for cell in cells.values() if any(effect.cell == cell.name for effect in known)]
    factor = factor_across(here)
    if not factor:
        return None
    rows = list(dict.fromkeys(cell.label_without(factor) for cell in here))
    values = sorted({cell.varied[factor] for cell in here}, key=_order)
    by_method = {m: tuple(e for e in known if e.method == m) for m in findings.methods}
    return GainMap(
        factor=factor,
        rows=tuple(rows),
        columns=tuple(words_of(factor, value) for value in values),
        places={c.name: (rows.index(c.label_without(factor)), values.index(c.varied[factor])) for c in here},
        gains={method: effects for method, effects in by_method.items() if effects},
        delta=max(delta_of(findings, cell.task) for cell in here),
    )


def factor_across(cells: Sequence[LabelledCell]) -> str:
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


def figure_of(findings: Findings, data: GainMap, cells: Mapping[str, LabelledCell]) -> Figure:
    """Draw one panel a method over two factors: the first row on top, a coloured field a problem."""
    characters = max(5, min(13, _NARROW_CHARACTERS // len(data.columns)))
    across = [theme.wrapped(name, characters) for name in data.columns]
    x = {
        "tickvals": list(range(len(across))),
        "ticktext": across,
        "range": [-0.5, len(across) - 0.5],
        "showgrid": False,
        "ticks": "",
        "tickangle": 0,
        "tickfont": {"color": theme.INK, "size": 11},
        "title": {"text": theme.plot_text(data.factor.replace("_", " "))},
    }
    panels = [_panel(findings, data, method, cells, x) for method in data.gains]
    figure = lay_out(panels, _grid(data, across))
    figure.layout["hoverdistance"] = 40  # a pointer anywhere in a field finds it
    return figure


def _panel(
    findings: Findings, data: GainMap, method: str, cells: Mapping[str, LabelledCell], x: Mapping[str, object]
) -> Panel:
    effects = data.gains[method]
    at = [(column, len(data.rows) - 1 - row) for row, column in (data.places[e.cell] for e in effects)]
    half = 0.5 - _GAP
    fields = [
        box((i - half, i + half), (j - half, j + half), theme.diverging(effect.mean, data.most), theme.GRID)
        for (i, j), effect in zip(at, effects, strict=True)
    ]
    written = len(data.columns) <= _MOST_COLUMNS_WITH_TEXT
    font = {"color": theme.INK, "size": 12 if len(data.columns) <= 5 else 11}
    look = {"text": list(map(_written, effects)), "textfont": font} if written else {"marker": {"opacity": 0}}
    hover = [_hover(findings, effect, cells) for effect in effects]
    texts = scatter([i for i, _ in at], [j for _, j in at], "text" if written else "markers", hover, **look)
    return Panel(theme.plot_text(method), [texts], x, rows_axis(data.rows), fields)


def _written(effect: Effect) -> str:
    gain = theme.gain(effect.mean)
    return f"{f'<b>{gain}</b>' if excludes_zero(effect) else gain}<br>n = {effect.n}"


def _hover(findings: Findings, effect: Effect, cells: Mapping[str, LabelledCell]) -> str:
    gain = f"{theme.gain(effect.mean)} {theme.unit()}, 95 % CI {theme.interval(effect.ci95)}, n = {effect.n}"
    return hover_of(effect.method, cells[effect.cell].label, gain, effect.verdict, far_out.words(findings, [effect]))


def _grid(data: GainMap, across: Sequence[str]) -> Grid:
    """Return a grid with room for the lines of all names."""
    lines = max(name.count("<br>") + 1 for name in across)
    height = max(46, 15 * max(theme.wrapped(name, 24).count("<br>") + 1 for name in data.rows) + 6)
    whole = max(90, height * len(data.rows))
    return Grid(
        columns=max(1, min(3, 12 // len(across), len(data.gains))), narrow_columns=1, row=whole, narrow_row=whole,
        left=158, narrow_left=144, gap=62 + 15 * lines, x_gap=0.03, y_labels="first",
        at_least=2 if len(across) < 6 else 1, top=30, bottom=44 + 15 * (lines - 1),
    )  # fmt: skip


def table_of(data: GainMap, cells: Mapping[str, LabelledCell], score: Score) -> Table:
    """Return one row a field."""
    gains = data.effects
    return columns.table_of(
        "two-by-two",
        "Mean gain over the strongest baseline of every method in every problem, at the primary budget.",
        (
            columns.words("Problem", "problem", [cells[e.cell].label for e in gains]),
            columns.methods("Method", "method", [e.method for e in gains]),
            *columns.estimates(f"Gain, {theme.unit()}", "gain", [(e.mean, e.ci95) for e in gains]),
            columns.counts("n", "n", [e.n for e in gains]),
            columns.marked(
                "Verdict", "verdict", [e.verdict for e in gains], [theme.VERDICT_ICONS[e.verdict] for e in gains]
            ),
            columns.units([score] * len(gains)),
        ),
    )


def heading_of(findings: Findings, cells: Mapping[str, LabelledCell], gains: Sequence[Effect]) -> str:
    """State what two factors do to a gain together, beyond each alone, or else where gains are largest and smallest."""
    known = [found for found in findings.factor_interactions if found.n]
    sure = [found for found in known if found.ci95[0] > 0 or found.ci95[1] < 0]
    if not known:
        gains, others = far_out.steady(findings, gains)
        least, most = (choose(gains, key=lambda gain: gain.mean) for choose in (min, max))
        ends = [
            f"{words} in {cells[one.cell].label} ({one.method} {theme.gain(one.mean)})"
            for words, one in (("largest", most), ("smallest", least))
        ]
        return f"The gain is {prose.listed(ends)}, in {theme.unit()}{others}"
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


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None unless factors are crossed, and before the last run is done."""
    findings, score = sources.findings, sources.score
    data = gain_map_of(findings, sources.cells)
    if data is None or not findings.counts.finished:
        return None
    primary = budget_name(findings, findings.primary_budget)
    return Chart(
        id="two-by-two",
        heading=heading_of(findings, sources.cells, data.effects),
        reading=(
            f"One field a problem, {data.factor.replace('_', ' ')} across, all else down; the mean gain in "
            f"{score.points}. The stronger the colour, the larger the gain or the loss; bold where the 95 % interval "
            "excludes zero."
        ),
        caption=(
            f"Mean paired gain over the strongest baseline at {primary}, "
            f"{prose.numbers(effect.n for effect in data.effects)} {sources.units} a field; colours end at "
            f"±{theme.points(data.most)} {theme.unit()}.{contrasts_of(findings)}"
        ),
        keys=(
            Key("gain", "", "field", theme.diverging(1, 1)),
            Key("loss", "", "field", theme.diverging(-1, 1)),
        ),
        figure=figure_of(findings, data, sources.cells),
        table=sources.fitted(table_of(data, sources.cells, score), "findings.json"),
    )
