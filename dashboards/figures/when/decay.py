"""Does averaging still pay when the learning rate decays? Last → averaged, under every schedule."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dashboards import prose, theme
from dashboards.cells import Cell, words_of
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement, Axes, Grid, anchors, axis, lay_out
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from study.findings import Findings
from study.specs.methods import METHODS, last_of
from study.stats import DecayByAveraging, Effect


@dataclass(frozen=True, slots=True)
class Decay:
    """Entries by group (the other factors, in words), in the order drawn; scores are fractions."""

    groups: tuple[str, ...]
    rows: tuple[str, ...]
    entries: tuple[DecayByAveraging, ...]
    span: float


def decay_of(findings: Findings, cells: Mapping[str, Cell]) -> Decay:
    """Collect the entries that have runs, their groups in words; each row is a family under a schedule."""
    words = group_words(findings.averaging, cells)
    entries = tuple(
        replace(entry, group=words.get(entry.group, entry.group)) for entry in findings.decay_by_averaging if entry.n
    )
    groups = tuple(dict.fromkeys(entry.group for entry in entries))
    rows = tuple(sorted({row_of(entry) for entry in entries}, key=lambda row: (_family_order(row, entries), row)))
    spans = [high - low for low, high in (_ends(entries, group) for group in groups)]
    return Decay(groups, rows, entries, max([*spans, *(4 * delta for delta in findings.deltas.values())], default=0.0))


def group_words(effects: Iterable[Effect], cells: Mapping[str, Cell]) -> dict[str, str]:
    """Return the words for every group: its task and the factors that vary within it, but the schedule."""
    words = {}
    for effect in effects:
        factors = [f"{name}={value}" for name, value in effect.factors if name != "schedule"]
        words[" ".join([effect.task, *factors])] = cells[effect.cell].label_without("schedule")
    return words


def row_of(entry: DecayByAveraging) -> str:
    """Name a row: which trajectory, under which schedule."""
    return f"{last_of(entry.family)}, {words_of('schedule', entry.schedule)}"


def _family_order(row: str, entries: tuple[DecayByAveraging, ...]) -> str:
    return next(entry.family for entry in entries if row_of(entry) == row)


def averaged_method(family: str) -> str:
    """Return the first method in the table that averages a family's weights."""
    return next(name for name, m in METHODS.items() if m.family == family and m.weights != "last")


def _ends(entries: tuple[DecayByAveraging, ...], group: str) -> tuple[float, float]:
    values = [v for entry in entries if entry.group == group for v in (entry.last, entry.averaged)]
    return min(values), max(values)


def figure_of(decay: Decay, score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a group: an open marker for the last weights, a filled one for their average."""
    traces: list[Trace] = []
    axes: Axes = {}
    heights = {row: len(decay.rows) - 1 - index for index, row in enumerate(decay.rows)}
    for panel, group in enumerate(decay.groups):
        here = [entry for entry in decay.entries if entry.group == group]
        for family in sorted({entry.family for entry in here}):
            traces.append(_dumbbells([e for e in here if e.family == family], heights, panel, score))
        low, high = _ends(decay.entries, group)
        # Room for the labels on the right, but no further past 100 % than they need.
        right = max(high + 0.3 * decay.span, min((low + high) / 2 + 0.86 * decay.span, 1.02))
        axes[axis("x", panel)] = {
            "title": {"text": score.axis("test")},
            "range": [theme.in_points(right - 1.46 * decay.span), theme.in_points(right)],
            "nticks": 6,
        }
        axes[axis("y", panel)] = {
            "tickvals": list(heights.values()),
            "ticktext": [theme.wrapped(row, 24) for row in heights],
            "range": [-0.6, len(decay.rows) - 0.4],
            "showgrid": False,
            "tickfont": {"color": theme.INK},
        }
    grid = Grid(
        columns=2, narrow_columns=1, row=40 * len(decay.rows), narrow_row=40 * len(decay.rows), left=136,
        narrow_left=132, gap=96, x_gap=0.05, y_labels="first", top=48,
    )  # fmt: skip
    return lay_out(traces, [theme.wrapped(group, 44) for group in decay.groups], grid, axes)


def _dumbbells(entries: list[DecayByAveraging], heights: Mapping[str, int], panel: int, score: Score) -> Trace:
    last = theme.style_of(last_of(entries[0].family))
    averaged = theme.style_of(averaged_method(entries[0].family))
    labels, hovers = [], []
    for entry in entries:
        label = theme.gain(entry.gain)
        labels += [label if entry.averaged < entry.last else "", label if entry.averaged >= entry.last else "", ""]
        hovers += [_hover(entry, score)] * 3
    return scatter(
        x=[x for e in entries for x in (*theme.rounded([theme.in_points(e.last), theme.in_points(e.averaged)]), None)],
        y=[y for e in entries for y in (heights[row_of(e)], heights[row_of(e)], None)],
        mode="lines+markers+text",
        text=labels,
        textposition="middle right",
        textfont={"color": theme.INK, "size": 12},
        line={"color": theme.faded(averaged.color, 0.5), "width": 3},
        marker={
            "symbol": [last.symbol, averaged.symbol, averaged.symbol] * len(entries),
            "color": [theme.PAPER, averaged.color, averaged.color] * len(entries),
            "line": {"color": [last.color, averaged.color, averaged.color] * len(entries), "width": 2},
            "size": 11,
            "opacity": 1,
        },
        cliponaxis=False,
        hoverinfo="text",
        hovertext=hovers,
        **anchors(panel),
    )


def _hover(entry: DecayByAveraging, score: Score) -> str:
    return (
        f"<b>{theme.plot_text(row_of(entry))}</b><br>last {score.text(entry.last)}, "
        f"averaged {score.text(entry.averaged)}<br>"
        f"{theme.gain(entry.gain)} {theme.unit()}, 95 % CI {theme.interval(entry.gain_ci95)}, n = {entry.n}"
    )


def table_of(decay: Decay, score: Score) -> Table:
    """Return the entries as a table."""
    return Table(
        "decay",
        f"Mean test {score.name} of the last weights and of their average.",
        (
            Column("Group", "group"),
            Column("Trajectory", "family"),
            Column("Schedule", "schedule"),
            numeric(score.head("Last"), "last"),
            numeric(score.head("Averaged"), "averaged"),
            numeric(f"Gain, {theme.unit()}", "gain"),
            numeric("95 % CI low", "ci95_low"),
            numeric("95 % CI high", "ci95_high"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(entry.group),
                Entry(last_of(entry.family), entry.family, method=last_of(entry.family)),
                Entry(words_of("schedule", entry.schedule), entry.schedule),
                Entry(score.text(entry.last), entry.last),
                Entry(score.text(entry.averaged), entry.averaged),
                Entry(theme.gain(entry.gain), entry.gain),
                Entry(theme.gain(entry.gain_ci95[0]), entry.gain_ci95[0]),
                Entry(theme.gain(entry.gain_ci95[1]), entry.gain_ci95[1]),
                Entry(str(entry.n), entry.n),
            )
            for entry in decay.entries
        ),
    )


def heading_of(gains: Mapping[str, Sequence[float]]) -> str:
    """State the mean gain from averaging under every schedule (keys in words)."""
    clauses = [
        f"{theme.gain(sum(values) / len(values))} {theme.unit()} with a {words}" for words, values in gains.items()
    ]
    return f"Averaging gains, in the mean, {prose.listed(clauses)}"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = decay_of(sources.findings, sources.cells)
    if not data.entries:
        return None
    figure, narrow = figure_of(data, sources.score)
    gains: dict[str, list[float]] = {}
    for entry in data.entries:
        gains.setdefault(words_of("schedule", entry.schedule), []).append(entry.gain)
    families = sorted({entry.family for entry in data.entries})
    return Chart(
        id="decay",
        heading=heading_of(gains),
        reading="From the open marker (last weights) to the filled one (their average); the number is the gain.",
        caption=(
            f"Means over {prose.numbers(entry.n for entry in data.entries)} {sources.units} in the confirm stage; 95 % "
            "Student-t intervals of the paired gain are in the hover text and the table. Every panel spans the same "
            "number of points."
        ),
        keys=tuple(
            key
            for family in families
            for key in (
                Key(f"{last_of(family)}: last", last_of(family), "open"),
                Key(f"{averaged_method(family)}: averaged", averaged_method(family)),
            )
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, sources.score), "runs.parquet"),
    )
