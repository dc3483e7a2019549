"""The forest's summary rows: what all tasks say together, and what a new one like these may bring."""

from dataclasses import dataclass

from dashboards import theme
from dashboards.contenders import short_budgets
from dashboards.figures.kit.panels import anchors, marker
from dashboards.figures.kit.traces import Trace, scatter
from dashboards.tables.table import Entry
from study.findings import Findings
from study.stats import Synthesis
from study.stats.clustered import MIN_TASKS

ROW = -1.2  # its height in the forest, whose cells stand at 0, 1, 2 …
MOST_WIDENING = 0.5  # of the range that the cells take: with few tasks these intervals are far wider


@dataclass(frozen=True, slots=True)
class Summary:
    """A method's random-effects mean over tasks; ``budgets``: those it stands for, ``at`` says them."""

    method: str
    budgets: tuple[str, ...]
    at: str
    tasks: int
    mean: float
    ci95: tuple[float, float]
    prediction95: tuple[float, float]


def summaries_of(findings: Findings) -> tuple[Summary, ...]:
    """Return the syntheses of enough tasks to say something of others, the primary budget first; equal ones merge."""
    found: dict[tuple[object, ...], list[Synthesis]] = {}
    for synthesis in sorted(findings.syntheses, key=lambda s: s.budget != findings.primary_budget):
        if synthesis.tasks >= MIN_TASKS and theme.known(synthesis.ci95[0]):
            found.setdefault((synthesis.method, synthesis.mean, synthesis.ci95), []).append(synthesis)
    return tuple(
        Summary(
            same[0].method,
            tuple(synthesis.budget for synthesis in same),
            short_budgets(findings, [synthesis.budget for synthesis in same]),
            same[0].tasks,
            same[0].mean,
            same[0].ci95,
            same[0].prediction95,
        )
        for same in found.values()
    )


def widened(summaries: tuple[Summary, ...], low: float, high: float) -> tuple[float, float]:
    """Return a range that holds the summaries too, as far as it may grow; what lies beyond is cut, with an arrow."""
    ends = [end for s in summaries for pair in (s.ci95, s.prediction95) for end in pair if theme.known(end)]
    room = MOST_WIDENING * (high - low)
    return max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)


def traces(summary: Summary, height: float, span: tuple[float, float], panel: int, *, filled: bool) -> list[Trace]:
    """Draw one summary: thin line for a new problem, thick line for the mean, and the method's marker."""
    style = theme.style_of(summary.method)
    drawn = [(summary.prediction95, 1.0), (summary.ci95, 4.0)]
    lines = [
        scatter(
            x=theme.rounded([theme.in_points(min(max(end, span[0]), span[1])) for end in ends]),
            y=[height, height],
            mode="lines+markers",
            line={"color": style.color, "width": width},
            marker={
                "symbol": ["triangle-left", "triangle-right"],
                "size": [8 if out else 0 for out in (ends[0] < span[0], ends[1] > span[1])],
                "opacity": 1,
            },
            hoverinfo="skip",
            cliponaxis=False,
            **anchors(panel),
        )
        for ends, width in drawn
        if theme.known(ends[0])
    ]
    mean = scatter(
        x=theme.rounded([theme.in_points(summary.mean)]),
        y=[height],
        mode="markers",
        marker=marker(style, 11, filled=filled),
        hoverinfo="text",
        hovertext=[_hover(summary)],
        **anchors(panel),
    )
    return [*lines, mean]


def _hover(summary: Summary) -> str:
    lines = [
        f"<b>{theme.plot_text(summary.method)}</b> · {summary.tasks} tasks together",
        f"{theme.gain(summary.mean)} {theme.unit()}, 95 % CI {theme.interval(summary.ci95)}",
        theme.plot_text(summary.at),
    ]
    if theme.known(summary.prediction95[0]):
        lines.insert(2, f"a new task: {theme.interval(summary.prediction95)}")
    return "<br>".join(lines)


def row_of(summary: Summary) -> tuple[Entry, ...]:
    """Return the summary as a row of the forest's table."""
    return (
        Entry("all tasks"),
        Entry(summary.method, method=summary.method),
        Entry(summary.at, "+".join(summary.budgets)),
        Entry("random effects"),
        *(Entry(theme.gain(v), v if theme.known(v) else None) for v in (summary.mean, *summary.ci95)),
        *(Entry(theme.gain(v), v if theme.known(v) else None) for v in summary.prediction95),
        Entry(f"{summary.tasks} tasks", summary.tasks),
        Entry("–"),
        Entry("–"),
    )


def caption_of(summaries: tuple[Summary, ...]) -> str:
    """Say what the summary rows show; "" without any."""
    if not summaries:
        return ""
    tasks = sorted({summary.tasks for summary in summaries})
    span = f"{tasks[0]}" if len(tasks) == 1 else f"{tasks[0]} to {tasks[-1]}"
    sentence = (
        f" All tasks: random-effects mean over {span} tasks, each the mean of its problems, with its 95 % interval "
        "(thick)"
    )
    if any(theme.known(summary.prediction95[0]) for summary in summaries):
        sentence += " and the 95 % prediction interval for the true gain in a new task like these (thin)"
    return f"{sentence}; arrows go on beyond the axis."
