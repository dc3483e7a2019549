"""What does averaging the weights do within a run? Averaged against last weights of the same runs, every problem."""

from collections.abc import Mapping, Sequence

from dashboards import far_out, prose, theme
from dashboards.cells import LabelledCell, words_of
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.kit.traces import hover_of
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.findings import Findings
from study.stats import Effect

_PANEL = "averaged − last weights"


def dots_of(findings: Findings, effects: Sequence[Effect], cells: Mapping[str, LabelledCell]) -> list[dots.Dot]:
    """Return one marker a problem and trajectory: the mean gain within runs, in the unit that is shown."""
    found = []
    for effect in effects:
        label = cells[effect.cell].label
        gain = f"{theme.gain(effect.mean)} {theme.unit()}, 95 % CI {theme.interval(effect.ci95)}, n = {effect.n}"
        hover = hover_of(f"{effect.baseline} → {effect.method}", label, gain, far_out.words(findings, [effect]))
        found.append(dots.of_gain(_PANEL, label, effect, hover))
    return found


def table_of(findings: Findings, effects: Sequence[Effect], cells: Mapping[str, LabelledCell], score: Score) -> Table:
    """Return one row a problem and trajectory."""
    way = score.way
    ends = [[way.of(values).middle for values in (e.baseline_values, e.method_values)] for e in effects]
    return columns.table_of(
        "averaging",
        f"{way.title} test {score.full} of the last and of the averaged weights of the same runs, and the mean gain.",
        (
            columns.words("Problem", "problem", [cells[e.cell].label for e in effects]),
            columns.methods("Average", "method", [e.method for e in effects]),
            columns.methods("Last", "last_method", [e.baseline for e in effects]),
            columns.scores(score, "Last", "last", [last for last, _ in ends]),
            columns.scores(score, "Averaged", "averaged", [averaged for _, averaged in ends]),
            *columns.estimates(f"Gain, {theme.unit()}", "gain", [(e.mean, e.ci95) for e in effects]),
            columns.counts("n", "n", [e.n for e in effects]),
            *far_out.column(findings, effects),
            columns.units([score] * len(effects)),
        ),
    )


def heading_of(findings: Findings, effects: Sequence[Effect], cells: Mapping[str, LabelledCell]) -> str:
    """State what averaging gains within runs, under each schedule where that varies."""
    by_schedule: dict[str, list[float]] = {}
    told_of, others = far_out.steady(findings, effects)
    for effect in told_of:
        schedule = cells[effect.cell].varied.get("schedule")
        words = "" if schedule is None else f" with a {words_of('schedule', schedule)}"
        by_schedule.setdefault(words, []).append(effect.mean)
    told = [f"{prose.span(means, theme.gain)} {theme.unit()}{words}" for words, means in by_schedule.items()]
    return f"Within the same runs, averaging changes the score by {prose.listed(told)}{others}"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    effects = [e for e in sources.findings.averaging if e.n and e.cell in sources.cells]
    if not effects:
        return None
    scale = dots.Scale(f"gain, {sources.score.percentage_points}", holds=0.0)
    return Chart(
        id="averaging",
        heading=heading_of(sources.findings, effects, sources.cells),
        reading="Within runs: right of zero the average is better than the last weights of the same run.",
        caption=(
            f"Means over {prose.numbers(effect.n for effect in effects)} {sources.units}, each a small tick, with "
            "their 95 % Student-t intervals. The mechanism, not the answer: a baseline may keep its best epoch instead."
        ),
        keys=sources.keys_of(effect.method for effect in effects),
        figure=dots.figure_of(dots_of(sources.findings, effects, sources.cells), {_PANEL: scale}),
        table=sources.fitted(table_of(sources.findings, effects, sources.cells, sources.score), "findings.json"),
    )
