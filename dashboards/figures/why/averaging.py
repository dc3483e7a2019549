"""What does averaging the weights do within a run? Averaged against last weights of the same runs, every problem."""

from collections.abc import Iterable, Mapping

from dashboards import prose, theme
from dashboards.cells import Cell, words_of
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, hidden, numeric
from study.stats import Effect

_PANEL = "averaged − last weights"


def dots_of(effects: Iterable[Effect], cells: Mapping[str, Cell]) -> list[dots.Dot]:
    """Return one marker a problem and trajectory: the mean gain within runs, in the unit that is shown."""
    return [
        dots.Dot(
            panel=_PANEL,
            row=cells[effect.cell].label,
            method=effect.method,
            mean=theme.in_points(effect.mean),
            ci95=(theme.in_points(effect.ci95[0]), theme.in_points(effect.ci95[1])),
            values=tuple(map(theme.in_points, effect.differences)),
            hover=(
                f"<b>{theme.plot_text(effect.baseline)} → {theme.plot_text(effect.method)}</b> · "
                f"{theme.plot_text(cells[effect.cell].label)}<br>{theme.gain(effect.mean)} {theme.unit()}, 95 % CI "
                f"{theme.interval(effect.ci95)}, n = {effect.n}"
            ),
        )
        for effect in effects
    ]


def table_of(effects: Iterable[Effect], cells: Mapping[str, Cell], score: Score) -> Table:
    """Return one row a problem and trajectory."""
    return Table(
        "averaging",
        f"Test {score.full} of the last and of the averaged weights of the same runs.",
        (
            Column("Problem", "problem"),
            Column("Average", "method"),
            Column("Last", "last_method"),
            numeric(score.head("Last"), "last"),
            numeric(score.head("Averaged"), "averaged"),
            numeric(f"Gain, {theme.unit()}", "gain"),
            numeric("95 % CI low", "ci95_low"),
            numeric("95 % CI high", "ci95_high"),
            numeric("n", "n"),
            *hidden("unit"),
        ),
        tuple(
            (
                Entry(cells[effect.cell].label),
                Entry(effect.method, method=effect.method),
                Entry(effect.baseline, method=effect.baseline),
                *(
                    Entry(score.text(mean), score.measured(mean))
                    for values in (effect.baseline_values, effect.method_values)
                    for mean in [sum(values) / len(values)]
                ),
                *(Entry(theme.gain(v), v if theme.known(v) else "") for v in (effect.mean, *effect.ci95)),
                Entry(str(effect.n), effect.n),
                Entry("", score.csv_unit),
            )
            for effect in effects
        ),
    )


def heading_of(effects: Iterable[Effect], cells: Mapping[str, Cell]) -> str:
    """State what averaging gains within runs, under each schedule where that varies."""
    by_schedule: dict[str, list[float]] = {}
    for effect in effects:
        schedule = cells[effect.cell].varied.get("schedule")
        words = "" if schedule is None else f" with a {words_of('schedule', schedule)}"
        by_schedule.setdefault(words, []).append(effect.mean)
    told = [f"{prose.span(means, theme.gain)} {theme.unit()}{words}" for words, means in by_schedule.items()]
    return f"Within the same runs, averaging changes the score by {prose.listed(told)}"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    effects = [e for e in sources.findings.averaging if e.n and e.cell in sources.cells]
    if not effects:
        return None
    scale = dots.Scale(f"gain, {sources.score.percentage_points}", holds=0.0)
    figure, narrow = dots.figure_of(dots_of(effects, sources.cells), {_PANEL: scale})
    return Chart(
        id="averaging",
        heading=heading_of(effects, sources.cells),
        reading="Within runs: right of zero the average is better than the last weights of the same run.",
        caption=(
            f"Means over {prose.numbers(effect.n for effect in effects)} {sources.units}, each a small tick, with "
            "their 95 % Student-t intervals. The mechanism, not the answer: a baseline may keep its best epoch instead."
        ),
        keys=(
            *(Key(method, method) for method in dict.fromkeys(effect.method for effect in effects)),
            Key(f"one of the {sources.units}", "", "tick"),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(effects, sources.cells, sources.score), "findings.json"),
    )
