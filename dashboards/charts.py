"""The report's charts, one entry each; what a chart shows and says stands in the file of its figure."""

from collections.abc import Callable
from functools import partial

from dashboards.figures.kit.chart import Chart, Sources
from dashboards.figures.training import calibration, cost, curves, reliability
from dashboards.figures.tuning import best_of, good_space, importance, optimism, parallel, rho, rho_start, transfer
from dashboards.figures.when import decay, forest, gain_map, slopes
from dashboards.figures.why import lines, plane, relation, sharpness

CHARTS: tuple[Callable[[Sources], Chart | None], ...] = (
    forest.chart_of,
    gain_map.chart_of,
    slopes.chart_of,
    decay.chart_of,
    sharpness.chart_of,
    relation.chart_of,
    lines.chart_of,
    plane.chart_of,
    curves.chart_of,
    reliability.chart_of,
    calibration.chart_of,
    rho.chart_of,
    rho_start.chart_of,
    parallel.chart_of,
    importance.chart_of,
    partial(best_of.chart_of, against="trials"),
    partial(best_of.chart_of, against="cost"),
    good_space.chart_of,
    transfer.chart_of,
    optimism.chart_of,
    cost.chart_of,
)


def charts_of(sources: Sources) -> dict[str, Chart]:
    """Return every chart that has data, by id."""
    with sources.score.written():
        made = [chart_of(sources) for chart_of in CHARTS]
    return {chart.id: chart for chart in made if chart is not None}
