"""What gains of the atlas move with: a panel a method, a row a factor, a tick a task."""

from collections.abc import Mapping, Sequence

from dashboards import theme
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart
from dashboards.figures.kit.panels import anchor
from dashboards.figures.kit.traces import Figure, hover_of, line, scatter, upright
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.atlas.answers import Moderation


def chart_of(found: Mapping[str, Sequence[Moderation]]) -> Chart:
    """Return the chart of effects by factor, of the moderations of each method."""
    every = [one for some in found.values() for one in some]
    return Chart(
        id="effects",
        heading="What the gain moves with, from the lower to the upper level of each factor",
        reading=(
            "Right of zero the gain is larger at the upper level. A tick is one task, a marker the effect over tasks; "
            "from five tasks on it has an interval, whose error is how much they differ. A grey arrow at the edge "
            "points to the side that was expected before the first run."
        ),
        caption="95 % intervals over tasks, not adjusted for the number of factors.",
        keys=(),
        figure=figure_of(found),
        table=table_of(every),
    )


def figure_of(found: Mapping[str, Sequence[Moderation]]) -> Figure:
    """Draw one panel a method, one row a factor, all on one scale, with what was expected at its edges."""
    marks = [_dot(one) for some in found.values() for one in some]
    span = dots.span_of(marks, dots.Scale(holds=0.0))
    scale = dots.Scale(f"effect on the gain, {theme.unit()}", span=span)
    figure = dots.figure_of(
        marks, dict.fromkeys(found, scale), columns=len(found), shapes=[upright(0, line(theme.MUTED, 1))]
    )
    rows = list(dict.fromkeys(dot.row for dot in marks))
    edge = 0.03 * (span[1] - span[0])  # an arrow's own width, or it would stand on the names of the rows
    ends = span[0] + edge, span[1] - edge
    for panel, some in enumerate(found.values()):
        signed = [one for one in some if one.expected in ("+", "-")]
        expected = scatter(
            [ends[one.expected == "+"] for one in signed],
            [float(len(rows) - 1 - rows.index(one.name)) for one in signed],
            "markers",
            [hover_of(one.method, one.name, f"expected {one.expected}: {one.seen}") for one in signed],
            marker={
                "symbol": ["triangle-right" if one.expected == "+" else "triangle-left" for one in signed],
                "size": 9,
                "color": theme.MUTED,
            },
            cliponaxis=False,
        )
        figure.data.append(expected | {"xaxis": anchor("x", panel), "yaxis": anchor("y", panel)})
    return figure


def _dot(one: Moderation) -> dots.Dot:
    low, high = (theme.in_points(end) for end in one.ci95)
    effect = f"{theme.gain_within(one.effect, one.ci95)} {theme.unit()}, {len(one.by_task)} tasks"
    hover = hover_of(one.method, one.name, effect, f"expected {one.expected or 'nothing'}: {one.seen}")
    ticks = tuple(map(theme.in_points, one.by_task.values()))
    return dots.Dot(one.method, one.name, one.method, theme.in_points(one.effect), (low, high), ticks, hover)


def table_of(found: Sequence[Moderation]) -> Table:
    """Return the effects as a table, task by task."""
    rows = [(one, task, effect) for one in found for task, effect in one.by_task.items()]
    return columns.table_of(
        "effects",
        "Effects task by task.",
        (
            columns.words("Factor", "factor", [one.name for one, _, _ in rows]),
            columns.methods("Method", "method", [one.method for one, _, _ in rows]),
            columns.words("Task", "task", [task for _, task, _ in rows]),
            columns.numbers(f"Effect, {theme.unit()}", "effect", [effect for _, _, effect in rows], theme.gain),
            columns.hidden("unit", ["fraction"] * len(rows)),
        ),
    )
