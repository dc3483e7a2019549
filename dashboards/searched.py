"""The charts about what was searched: how validation responds to the settings, and which of them decide."""

from collections.abc import Iterable, Mapping

import pandas as pd

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key
from dashboards.figures.tuning import importance, parallel, rho, rho_start
from dashboards.figures.tuning.tried import LAST, tried_of
from dashboards.score import score_of
from dashboards.tables.limits import fitted
from study.findings import Findings
from study.specs.methods import last_of

MOST_TABLE_ROWS = 100  # of raw runs, which the table of all runs holds too
_ALL = "runs.parquet"  # where every row of a table is


def search_charts(findings: Findings, frame: pd.DataFrame, cells: Mapping[str, Cell]) -> list[Chart]:
    """Return the charts about the search that have data."""
    tried = tried_of(frame)
    made = (
        _rho(findings, cells),
        _rho_start(tried.weights, findings, cells),
        _parallel(tried.runs, findings, cells),
        _importance(findings, cells),
    )
    return [chart for chart in made if chart is not None]


def _rho(findings: Findings, cells: Mapping[str, Cell]) -> Chart | None:
    data = rho.responses_of(findings, cells)
    if not data:
        return None
    score = score_of(findings)
    figure, narrow = rho.figure_of(data, score)
    return Chart(
        id="rho",
        heading=prose.rho_heading([r.selected_rho for r in data if r.selected_rho is not None]),
        reading=(
            "Each marker is one tune run. Runs at the same rho differ by their learning rate, so the lines join "
            f"the best run in each of {rho.BINS} equal parts of the log range; open markers at the foot lie below."
        ),
        caption=(
            f"{prose.seeds(len(response.rho) for response in data)} runs a panel, one seed each, hence no interval. "
            f"Validation {score.name}, optimistic by selection.{_thinned(response.drawn_every for response in data)}"
        ),
        keys=(
            Key("SAM, last weights", "SAM", "both"),
            Key("WASAM, best average", "WASAM", "both"),
            Key("best base run", "SGD", "line"),
            Key("rho selected for SAM", "SAM", "guide"),
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(rho.table_of(data, score), len(cells), _ALL, MOST_TABLE_ROWS),
    )


def _thinned(steps: Iterable[int]) -> str:
    most = max(steps)
    return f" Of many runs every {most}th is drawn; the lines rest on all." if most > 1 else ""


def _rho_start(weights: pd.DataFrame, findings: Findings, cells: Mapping[str, Cell]) -> Chart | None:
    data = rho_start.maps_of(weights, findings.selections, cells)
    if not data:
        return None
    score = score_of(findings)
    figure, narrow = rho_start.figure_of(data, score)
    chosen = [one.chosen[1] for one in data if one.chosen is not None]
    averaged = sum(start != LAST for start in chosen)
    step = max(one.drawn_every for one in data)
    return Chart(
        id="rho-start",
        heading=(
            f"With perturbed steps, validation prefers an average to the last weights in {averaged} of "
            f"{prose.things(len(chosen), 'selected pair')} of rho and start"
            if chosen
            else f"Validation {score.name} over rho and the start of averaging"
        ),
        reading=(
            "One square is one set of weights of one tune run: rho across, the start of averaging up, the last weights "
            "on top. The stronger its colour, the closer to the panel's best; the ring is the selected pair."
        ),
        caption=(
            f"{prose.seeds(one.runs for one in data)} runs a panel, each averaged from several starts, not binned; one "
            "seed each, hence no interval. Runs also differ by their learning rate. The colour fades out at three "
            "times the distance from best to median, and 2 points, below the median."
            f"{f' Every {step}th square is drawn.' if step > 1 else ''}"
        ),
        keys=(
            Key("best of the panel", "", "field", theme.faded(theme.ACCENT, 1)),
            Key("half-way to it", "", "field", theme.faded(theme.ACCENT, 0.25)),
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(rho_start.table_of(data, score), len(cells), _ALL, MOST_TABLE_ROWS),
    )


def _parallel(runs: pd.DataFrame, findings: Findings, cells: Mapping[str, Cell]) -> Chart | None:
    data = parallel.bundles_of(runs, cells)
    if not data:
        return None
    score = score_of(findings)
    figure, narrow = parallel.figure_of(data, score)
    clauses = [
        f"{best} of {total} runs with {last_of(family)} steps"
        for family, (best, total) in parallel.best_families(data).items()
    ]
    step = max(bundle.drawn_every for bundle in data)
    return Chart(
        id="parallel",
        heading=f"Among the best quarter of their problem's tune runs are {prose.listed(clauses)}",
        reading=(
            "One line a run, across its learning rate, rho, the weights that validation prefers and their score. "
            "Strong lines are the best quarter: where they run together, the setting matters."
        ),
        caption=(
            f"{prose.seeds(len(bundle.runs) for bundle in data)} runs a panel, one seed each, hence no interval. Rates "
            "and radii on log axes over all that was tried; scores far below the others are drawn at the foot."
            f"{f' Every {step}th run is drawn.' if step > 1 else ''}"
        ),
        keys=tuple(
            Key(f"{last_of(family)} steps", last_of(family), "both")
            for family in dict.fromkeys(family for bundle in data for family in bundle.runs["family"].unique())
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(parallel.table_of(data, score), len(cells), _ALL, MOST_TABLE_ROWS),
    )


def _importance(findings: Findings, cells: Mapping[str, Cell]) -> Chart | None:
    data = importance.importances_of(findings)
    if not data:
        return None
    figure, narrow = importance.figure_of(data)
    clauses = [
        f"{importance.words_of(name)} for {method} ({share:.2f})"
        for method, (name, share) in importance.deciding(data).items()
    ]
    unknown = importance.unknown_methods(findings)
    left_out = f" Nothing can be said for {prose.listed(unknown)}." if unknown else ""
    return Chart(
        id="importance",
        heading=(
            f"How trials rank is decided most by {prose.listed(clauses)}"
            if clauses
            else "Each method has one hyper-parameter alone, which decides all that settings decide"
        ),
        reading=(
            "A marker is the share of one hyper-parameter in how the trials of a method rank on validation; the shares "
            "of a method sum to 1."
        ),
        caption=(
            f"Evaluator: {data[0].evaluator}; other evaluators ask other questions. "
            f"{prose.seeds(i.settings for i in data)} settings over "
            f"{prose.things(max(i.cells for i in data), 'problem')}, one seed each; no interval. Shown only where the "
            f"surface predicts settings that it has not seen (R² {_range(i.r2 for i in data)}).{left_out}"
        ),
        keys=tuple(Key(i.method, i.method) for i in data),
        figure=figure,
        narrow=narrow,
        table=fitted(importance.table_of(data), len(cells), _ALL, MOST_TABLE_ROWS),
    )


def _range(values: Iterable[float]) -> str:
    known = [f"{value:.2f}" for value in sorted(values)]
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
