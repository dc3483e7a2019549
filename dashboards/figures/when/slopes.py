"""What does averaging the weights do within a run? Last weights joined with averaged weights of the same runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.comparisons import NOT_YET
from dashboards.contenders import delta_of
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement, Axes, anchors, axis, foot, grid_of_cells, lay_out, window
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from study.findings import Findings
from study.stats import Effect

_PAIR_WIDTH, _PAIR_STEP = 1.0, 1.9  # x positions: last at 0, averaged at 1, the next family from 1.9 on


@dataclass(frozen=True, slots=True)
class Pair:
    """One family in one cell: scores of the same runs, replicate by replicate (or seed by seed); fractions."""

    cell: str
    last_name: str
    averaged_name: str
    units: tuple[int, ...]
    last: tuple[float, ...]
    averaged: tuple[float, ...]
    gain: float
    ci95: tuple[float, float]

    @property
    def means(self) -> tuple[float, float]:
        """Mean of the last and of the averaged weights."""
        return sum(self.last) / len(self.last), sum(self.averaged) / len(self.averaged)


@dataclass(frozen=True, slots=True)
class Slopes:
    """All pairs, and the span of scores that every panel shows (so that equal slopes are equal gains)."""

    cells: tuple[str, ...]
    pairs: tuple[Pair, ...]
    span: float


def slopes_of(findings: Findings, cells: Mapping[str, Cell]) -> Slopes:
    """Collect the within-run effects that have at least one pair."""
    pairs = tuple(
        Pair(
            cells[effect.cell].label,
            effect.baseline,
            effect.method,
            effect.units,
            effect.baseline_values,
            effect.method_values,
            effect.mean,
            effect.ci95,
        )
        for effect in findings.averaging
        if effect.n
    )
    names = tuple(dict.fromkeys(pair.cell for pair in pairs))
    spans = [high - low for low, high in (_ends(pairs, name) for name in names)]
    deltas = [delta_of(findings, effect.task) for effect in findings.averaging]
    return Slopes(names, pairs, max([*spans, *(4 * delta for delta in deltas)], default=0.0))


def _ends(pairs: tuple[Pair, ...], cell: str) -> tuple[float, float]:
    """Return the lowest and the highest score shown of a cell: every mean, and runs not far below the others."""
    here = [pair for pair in pairs if pair.cell == cell]
    values = [v for pair in here for v in (*pair.last, *pair.averaged)]
    return min(foot(values), *(v for pair in here for v in pair.means)), max(values)


def figure_of(slopes: Slopes, score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a cell, one pair of positions a family; every panel spans the same number of points."""
    traces: list[Trace] = []
    axes: Axes = {}
    for panel, cell in enumerate(slopes.cells):
        ticks: dict[float, str] = {}
        low, high = _ends(slopes.pairs, cell)
        for family, pair in enumerate(pair for pair in slopes.pairs if pair.cell == cell):
            start = family * _PAIR_STEP
            ticks |= {start: pair.last_name, start + _PAIR_WIDTH: pair.averaged_name}
            traces += _traces(pair, start, low, panel, score)
        axes[axis("x", panel)] = {
            "tickvals": list(ticks),
            "ticktext": [theme.plot_text(name) for name in ticks.values()],
            "range": [-0.35, max(ticks) + 0.35],
            "showgrid": False,
            "tickfont": {"color": theme.INK, "size": 11},
            "tickangle": 0,
        }
        axes[axis("y", panel)] = {"range": window(low, high, slopes.span), "nticks": 6}
    titles = [theme.wrapped(cell, 22) for cell in slopes.cells]
    grid = replace(grid_of_cells(len(titles)), gap=88, bottom=34)
    return lay_out(traces, titles, grid, axes, y_title=score.axis("test"))


def _traces(pair: Pair, start: float, floor: float, panel: int, score: Score) -> list[Trace]:
    ends = [start, start + _PAIR_WIDTH]
    last, averaged = theme.style_of(pair.last_name), theme.style_of(pair.averaged_name)
    seeds = scatter(
        x=[x for _ in pair.last for x in (*ends, None)],
        y=[
            v
            for last_v, averaged_v in zip(pair.last, pair.averaged, strict=True)
            for v in (*theme.rounded([theme.in_points(max(floor, a)) for a in (last_v, averaged_v)]), None)
        ],
        mode="lines",
        line={"color": theme.faded(averaged.color, 0.35), "width": 1},
        hoverinfo="skip",
        **anchors(panel),
    )
    words = (
        f"<b>{theme.plot_text(pair.last_name)} → {theme.plot_text(pair.averaged_name)}</b><br>"
        f"{theme.gain(pair.gain)} {theme.unit()}, 95 % CI {theme.interval(pair.ci95)}, n = {len(pair.last)}"
    )
    mean = scatter(
        x=ends,
        y=theme.rounded([theme.in_points(v) for v in pair.means]),
        mode="lines+markers",
        line={"color": averaged.color, "width": 2.5},
        marker={
            "symbol": [last.symbol, averaged.symbol],
            "color": [last.color, averaged.color],
            "size": 9,
            "line": {"color": theme.PAPER, "width": 1},
        },
        hoverinfo="text",
        hovertext=[f"{words}<br>{score.text(v)}" for v in pair.means],
        **anchors(panel),
    )
    return [seeds, mean]


def table_of(slopes: Slopes, score: Score) -> Table:
    """Return the pairs as a table: one row a seed."""
    return Table(
        "slopes",
        f"Test {score.name} of the last and of the averaged weights of the same runs.",
        (
            Column("Problem", "problem"),
            Column("Last", "last_method"),
            Column("Averaged", "averaged_method"),
            numeric("Replicate or seed", "unit"),
            numeric(score.head("Last"), "last"),
            numeric(score.head("Averaged"), "averaged"),
            numeric(f"Gain, {theme.unit()}", "gain"),
        ),
        tuple(
            (
                Entry(pair.cell),
                Entry(pair.last_name),
                Entry(pair.averaged_name),
                Entry(str(unit), unit),
                Entry(score.text(last), last),
                Entry(score.text(averaged), averaged),
                Entry(theme.gain(averaged - last), averaged - last),
            )
            for pair in slopes.pairs
            for unit, last, averaged in zip(pair.units, pair.last, pair.averaged, strict=True)
        ),
    )


def heading_of(effects: Iterable[Effect]) -> str:
    """State in how many comparisons averaging the weights of a run helps, hurts, or has no material effect."""
    verdicts = [effect.verdict for effect in effects if effect.n]
    if NOT_YET in verdicts:
        return "Last and averaged weights of the same runs, so far"
    undecided = sum(verdict not in ("helps", "hurts", "no material effect") for verdict in verdicts)
    parts = [
        (verdicts.count("no material effect"), "has no material effect in"),
        (verdicts.count("hurts"), "hurts in"),
        (undecided, "is undecided in"),
    ]
    clauses = [f"helps in {verdicts.count('helps')} of {prose.things(len(verdicts), 'comparison')}"]
    clauses += [f"{words} {number}" for number, words in parts if number]
    return f"Within the same runs, averaging {prose.listed(clauses)}"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    score = sources.score
    data = slopes_of(sources.findings, sources.cells)
    if not data.pairs:
        return None
    figure, narrow = figure_of(data, score)
    methods = dict.fromkeys(name for pair in data.pairs for name in (pair.last_name, pair.averaged_name))
    return Chart(
        id="slopes",
        heading=heading_of(sources.findings.averaging),
        reading=(
            f"Each thin line is one of the {sources.units}, from its last weights to the averaged ones of the same "
            "runs. Every panel spans as much, so equal slopes are equal gains."
        ),
        caption=(
            f"Thick line: mean over {prose.numbers(len(pair.units) for pair in data.pairs)} {sources.units}; every one "
            "is drawn, at the foot of its panel if it lies far below. 95 % Student-t intervals are in the hover text; "
            "the heading counts verdicts, Holm-adjusted among these comparisons. Within-run: the mechanism, not the "
            "answer."
        ),
        keys=tuple(Key(name, name) for name in methods),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, score), "runs.parquet"),
    )
