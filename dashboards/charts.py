"""The report's charts, one entry each; what a chart shows and says stands in the file of its figure."""

from collections.abc import Callable
from dataclasses import replace

from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.training import calibration, curves
from dashboards.figures.tuning import best_of, importance, parallel, rho
from dashboards.figures.when import forest, two_by_two
from dashboards.figures.why import averaging, lines, plane, relation, sharpness
from dashboards.score import shown

# Charts of scores and gains: those of different metrics never share a scale, so each metric has a chart of its own.
OF_SCORES: tuple[Callable[[Sources], Chart | None], ...] = (
    two_by_two.chart_of,
    forest.chart_of,
    curves.chart_of,
    averaging.chart_of,
    relation.chart_of,
    rho.chart_of,
    parallel.chart_of,
    best_of.chart_of,
)
OF_RUNS: tuple[Callable[[Sources], Chart | None], ...] = (
    sharpness.chart_of,
    lines.chart_of,
    plane.chart_of,
    calibration.chart_of,
    importance.chart_of,
)


# Of results that were made elsewhere, which have no records.
OF_A_TABLE: tuple[Callable[[Sources], Chart | None], ...] = (forest.chart_of,)


def charts_of(sources: Sources) -> dict[str, Chart]:
    """Return every chart that has data, by id; those of a second metric end in ``-2``."""
    found = {}
    of_scores, of_runs = (OF_A_TABLE, ()) if sources.findings.origin else (OF_SCORES, OF_RUNS)
    parts = sources.by_measure
    for number, part in enumerate(parts, 1):
        told = f"{part.score.full}{part.score.direction} ({', '.join(part.findings.scores)})"
        measure = told if len(parts) > 1 else ""
        with shown(part.findings):
            for made in filter(None, (chart_of(part) for chart_of in of_scores)):
                name = made.id if number == 1 else f"{made.id}-{number}"
                found[name] = replace(made, id=name, table=replace(made.table, id=name), measure=measure)
    with shown(sources.findings):
        found |= {chart.id: chart for chart_of in of_runs if (chart := chart_of(sources)) is not None}
    return found
