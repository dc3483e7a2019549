"""Where does each method help, and by how much? Tuned against tuned, every cell and budget."""

from collections.abc import Mapping
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.comparisons import Distinct, distinct
from dashboards.contenders import budget_name, delta_of, short_budgets
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import (
    Arrangement,
    Axes,
    Grid,
    anchor,
    anchors,
    axis,
    inliers,
    lay_out,
    marker,
    whiskers,
)
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.figures.when import pooled
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, hidden, numeric
from dashboards.tables.verdicts import Wording, wording_of
from study.findings import Findings


@dataclass(frozen=True, slots=True)
class Mark:
    """One gain with its interval.

    ``budgets``: those that it stands for (both where they coincide), in words in ``at``; ``baseline``: the strongest;
    ``n``: its units; ``gains`` are empty where sides are not paired. ``diverged``: runs of either side that diverged
    and enter at chance level; ``off``: units in which the method was switched off.
    """

    method: str
    cell: str
    baseline: str
    budgets: tuple[str, ...]
    at: str
    diverged: int
    mean: float
    ci95: tuple[float, float]
    n: int
    gains: tuple[float, ...]
    verdict: str
    words: str
    p_holm: float | None
    off: int


@dataclass(frozen=True, slots=True)
class Forest:
    """Gains over the strongest baseline, by method and cell (both in the order drawn); fractions.

    ``deltas`` are δ by cell.
    """

    methods: tuple[str, ...]
    cells: tuple[str, ...]
    deltas: tuple[float, ...]
    primary_budget: str
    marks: tuple[Mark, ...]
    summaries: tuple[pooled.Summary, ...] = ()


def forest_of(findings: Findings, cells: Mapping[str, Cell]) -> Forest:
    """Collect the tuned effects that have a mean; effects equal under both budgets become one mark."""
    known = [effect for effect in findings.effects if effect.n]
    wording = wording_of(findings)
    marks = [_mark(findings, found, cells, wording) for found in distinct(known, findings.primary_budget)]
    with_effect = {effect.cell: effect.task for effect in known}
    named = {cell.label: delta_of(findings, with_effect[n]) for n, cell in cells.items() if n in with_effect}
    return Forest(
        methods=tuple(m for m in findings.methods if any(mark.method == m for mark in marks)),
        cells=tuple(named),
        deltas=tuple(named.values()),
        primary_budget=findings.primary_budget,
        marks=tuple(
            sorted(marks, key=lambda mark: (list(named).index(mark.cell), findings.methods.index(mark.method)))
        ),
        summaries=pooled.summaries_of(findings),
    )


def _mark(findings: Findings, found: Distinct, cells: Mapping[str, Cell], wording: Wording) -> Mark:
    effect = found.effect
    return Mark(
        method=effect.method,
        cell=cells[effect.cell].label,
        baseline=effect.baseline,
        budgets=found.budgets,
        at=short_budgets(findings, found.budgets),
        diverged=effect.diverged_method + effect.diverged_baseline,
        mean=effect.mean,
        ci95=effect.ci95,
        n=effect.n,
        gains=effect.differences,
        verdict=effect.verdict,
        words=wording.verdict(effect, found.budgets),
        p_holm=effect.p_holm,
        off=effect.off,
    )


def range_of(forest: Forest) -> tuple[float, float]:
    """Return the gains that the axes show: ±2 δ, and all gains, means and intervals that are not far out.

    What lies beyond is cut, with an arrow: neither a problem with gains of another size nor a run at chance level
    flattens all others. Summary rows widen the axes by half at most on either side.
    """
    most = 2 * max(forest.deltas)
    gains = [gain for mark in forest.marks for gain in mark.gains]
    low, high = inliers(gains, least=most, holds=[mark.mean for mark in forest.marks])
    room = 0.5 * (max(high, most) - min(low, -most))
    ends = [end for mark in forest.marks for end in mark.ci95 if theme.known(end)]
    low = min(low, -most, max(min(ends, default=low), low - room))
    high = max(high, most, min(max(ends, default=high), high + room))
    low, high = pooled.widened(forest.summaries, low, high)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def figure_of(forest: Forest, score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a method, one row a cell: filled for the primary budget, open for the other."""
    both = any(forest.primary_budget not in mark.budgets for mark in forest.marks)
    traces: list[Trace] = []
    axes: Axes = {}
    for panel, method in enumerate(forest.methods):
        for primary in (True, False) if both else (True,):
            marks = [
                mark
                for mark in forest.marks
                if mark.method == method and (forest.primary_budget in mark.budgets) == primary
            ]
            if marks:
                traces += _traces(forest, marks, panel, primary, offset=(0.17 if primary else -0.17) * both)
            rows = [
                summary
                for summary in forest.summaries
                if summary.method == method and (forest.primary_budget in summary.budgets) == primary
            ]
            for summary in rows:
                height = pooled.ROW + (0.17 if primary else -0.17) * both
                traces += pooled.traces(summary, height, range_of(forest), panel, filled=primary)
        axes[axis("x", panel)] = {
            "title": {"text": f"gain, {score.percentage_points}"},
            "range": [theme.in_points(end) for end in range_of(forest)],
            "nticks": 7,
        }
        axes[axis("y", panel)] = {
            "tickvals": [*([pooled.ROW] if forest.summaries else []), *range(len(forest.cells))],
            "ticktext": [
                *(["<b>all tasks</b>"] if forest.summaries else []),
                *(theme.wrapped(cell, 24) for cell in reversed(forest.cells)),
            ],
            "range": [pooled.ROW - 0.5 if forest.summaries else -0.6, len(forest.cells) - 0.4],
            "showgrid": False,
            "tickfont": {"color": theme.INK},
        }
    row = max(150, 46 * (len(forest.cells) + bool(forest.summaries)))
    columns = 4 if len(forest.methods) in (4, 7, 8) or len(forest.methods) > 9 else 3  # few panels in the last row
    grid = Grid(
        columns=columns, narrow_columns=1, row=row, narrow_row=row, left=150, narrow_left=142, gap=92, x_gap=0.03,
        y_labels="first", top=30,
    )  # fmt: skip
    titles = [theme.plot_text(f"{method} over its baselines") for method in forest.methods]
    return lay_out(traces, titles, grid, axes, shapes=_backdrop(forest))


def _backdrop(forest: Forest) -> list[dict[str, object]]:
    shapes: list[dict[str, object]] = []
    for panel in range(len(forest.methods)):
        where = {"xref": anchor("x", panel), "yref": f"{anchor('y', panel)} domain", "y0": 0, "y1": 1}
        for delta, (low, high) in _bands(forest):
            shapes.append(
                {"xref": anchor("x", panel), "yref": anchor("y", panel), "y0": low, "y1": high, "layer": "below"}
                | {"type": "rect", "x0": -theme.in_points(delta), "x1": theme.in_points(delta)}
                | {"fillcolor": theme.BAND, "line": {"width": 0}}
            )
        shapes.append(
            where | {"type": "line", "x0": 0, "x1": 0, "line": {"color": theme.MUTED, "width": 1}, "layer": "below"}
        )
        if forest.summaries:
            shapes.append(
                {"xref": f"{anchor('x', panel)} domain", "yref": anchor("y", panel), "type": "line", "layer": "below"}
                | {"x0": 0, "x1": 1, "y0": -0.6, "y1": -0.6, "line": {"color": theme.GRID, "width": 1}}
            )
    return shapes


def _bands(forest: Forest) -> list[tuple[float, tuple[float, float]]]:
    """Return every δ with the heights that its zone covers: rows of one task lie together."""
    found: list[tuple[float, tuple[float, float]]] = []
    for row, delta in enumerate(forest.deltas):
        height = len(forest.deltas) - 1 - row
        if found and found[-1][0] == delta:
            found[-1] = delta, (height - 0.5, found[-1][1][1])
        else:
            found.append((delta, (height - 0.5, height + 0.5)))
    return found


def _traces(forest: Forest, marks: list[Mark], panel: int, primary: bool, offset: float) -> list[Trace]:
    style = theme.style_of(marks[0].method)
    heights = {cell: len(forest.cells) - 1 - row for row, cell in enumerate(forest.cells)}
    low, high = range_of(forest)
    shown = [(gain, mark) for mark in marks for gain in mark.gains if low <= gain <= high]
    seeds = scatter(
        x=theme.rounded([theme.in_points(gain) for gain, _ in shown]),
        y=theme.rounded([heights[mark.cell] + offset for _, mark in shown]),
        mode="markers",
        marker={"symbol": "line-ns", "size": 7, "line": {"color": theme.faded(style.color, 0.45), "width": 1.5}},
        hoverinfo="skip",
        name="one replicate or seed",
        **anchors(panel),
    )
    at = [dots.inside(mark.mean, (low, high)) for mark in marks]
    ends = [
        (min(mean, max(low, mark.ci95[0])), max(mean, min(high, mark.ci95[1])))
        if theme.known(mark.ci95[0])
        else (mean, mean)
        for mark, mean in zip(marks, at, strict=True)
    ]
    look = marker(style, 9, filled=primary)
    if any(dots.beyond(mark.mean, (low, high)) for mark in marks):
        look["symbol"] = [dots.beyond(mark.mean, (low, high)) or style.symbol for mark in marks]
    means = scatter(
        x=theme.rounded([theme.in_points(mean) for mean in at]),
        y=theme.rounded([heights[mark.cell] + offset for mark in marks]),
        error_x=whiskers(
            [theme.in_points(mean - start) for mean, (start, _) in zip(at, ends, strict=True)],
            [theme.in_points(to - mean) for mean, (_, to) in zip(at, ends, strict=True)],
            style.color,
        ),
        mode="markers",
        marker=look,
        cliponaxis=False,
        hoverinfo="text",
        hovertext=[_hover(mark) for mark in marks],
        name=theme.plot_text(marks[0].method if primary else f"{marks[0].method}, other budget"),
        **anchors(panel),
    )
    cut = [(m, end) for m in marks for end, out in ((low, m.ci95[0] < low), (high, m.ci95[1] > high)) if out]
    if not cut:
        return [seeds, means]
    arrows = scatter(
        x=theme.rounded([theme.in_points(dots.inside(end, (low, high))) for _, end in cut]),
        y=theme.rounded([heights[mark.cell] + offset for mark, _ in cut]),
        mode="markers",
        marker={
            "symbol": ["triangle-left" if end == low else "triangle-right" for _, end in cut],
            "size": 8,
            "color": style.color,
        },
        cliponaxis=False,
        hoverinfo="skip",
        name="the interval goes on",
        **anchors(panel),
    )
    return [seeds, means, arrows]


def _hover(mark: Mark) -> str:
    return "<br>".join(
        [
            f"<b>{theme.plot_text(mark.method)}</b> · {theme.plot_text(mark.cell)}",
            f"{theme.gain(mark.mean)} {theme.unit()}, 95 % CI {theme.interval(mark.ci95)}, n = {mark.n}",
            f"over {theme.plot_text(mark.baseline)}, {theme.plot_text(mark.at)}",
            theme.plot_text(mark.words),
            *([f"switched off in {mark.off} of {len(mark.gains)}"] if mark.off else []),
            *([f"{mark.diverged} diverged"] if mark.diverged else []),
        ]
    )


def table_of(forest: Forest, unit: str) -> Table:
    """Return the forest as a table: one row a mark."""
    return Table(
        "forest",
        "Gains over the strongest baseline.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Budget", "budget"),
            Column("Over", "baseline"),
            Column("Verdict", "verdict"),
            numeric(f"Gain, {theme.unit()}", "gain"),
            numeric("95 % CI low", "ci95_low"),
            numeric("95 % CI high", "ci95_high"),
            numeric("New task low", "prediction95_low"),
            numeric("New task high", "prediction95_high"),
            numeric("n", "n"),
            numeric("p (Holm)", "p_holm"),
            *hidden("unit"),
        ),
        tuple(
            (
                Entry(mark.cell),
                Entry(mark.method, method=mark.method),
                Entry(mark.at, "+".join(mark.budgets)),
                Entry(mark.baseline),
                Entry(mark.words, mark.verdict, icon=theme.VERDICT_ICONS[mark.verdict]),
                Entry(theme.gain(mark.mean), mark.mean),
                Entry(theme.gain(mark.ci95[0]), mark.ci95[0]),
                Entry(theme.gain(mark.ci95[1]), mark.ci95[1]),
                Entry("", None),
                Entry("", None),
                Entry(str(mark.n), mark.n),
                Entry(theme.p_value(mark.p_holm), mark.p_holm),
                Entry("", unit),
            )
            for mark in forest.marks
        )
        + tuple((*pooled.row_of(summary), Entry("", unit)) for summary in forest.summaries),
    )


def heading_of(forest: Forest) -> str:
    """State, for every method, the range of its gains under the primary budget."""
    told = []
    for method in forest.methods:
        means = [m.mean for m in forest.marks if m.method == method and forest.primary_budget in m.budgets]
        told += [f"{method} {prose.span(means, theme.gain)}"] if means else []
    return f"Mean gains over the strongest baseline, in {theme.unit()}: {prose.listed(told)}"


_APART = "Mean paired gain, or the difference of the means of runs that are not paired (Welch),"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = forest_of(sources.findings, sources.cells)
    if not data.marks:
        return None
    figure, narrow = figure_of(data, sources.score)
    findings = sources.findings
    primary = budget_name(findings, data.primary_budget)
    others = list(dict.fromkeys(b for m in data.marks if data.primary_budget not in m.budgets for b in m.budgets))
    tuned = "" if findings.origin else ", each tuned on its own"
    reading = (
        f"Right of zero the method beats the strongest of its baselines{tuned}; which one that is "
        "stands under the pointer and in the table. The grey band is ±δ, inside which no gain matters."
    )
    keys = [Key(primary, "", "filled")]
    if others:
        reading += " Where filled and open markers part, the budget makes the difference."
        keys.append(Key(prose.listed([budget_name(findings, b) for b in others]), "", "open"))
    what = _APART if any(effect.apart for effect in findings.effects) else "Mean paired gain"
    return Chart(
        id="forest",
        heading=heading_of(data),
        reading=reading,
        caption=(
            f"{what} with its 95 % Student-t interval, not adjusted for the number of comparisons; "
            f"{prose.numbers(mark.n for mark in data.marks)} {sources.units}, each a small tick."
            f"{pooled.caption_of(data.summaries)}"
        ),
        keys=(*keys, Key(f"one of the {sources.units}", "", "tick"), Key("±δ, no material effect", "", "band")),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, sources.score.csv_unit), "findings.json"),
    )
