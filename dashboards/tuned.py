"""The charts about what tuning buys: more trials, a forgiving space, settings that carry over, and how it flatters."""

from collections.abc import Mapping

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key
from dashboards.figures.tuning import best_of, good_space, optimism, transfer
from dashboards.score import score_of
from dashboards.tables.limits import MOST_ROWS, fitted, most
from study.findings import Findings

_ALL = "findings.json"  # where every row of a table is


def tuning_charts(findings: Findings, cells: Mapping[str, Cell]) -> list[Chart]:
    """Return the charts about what tuning buys that have data."""
    made = (
        _best_of(findings, cells, "trials"),
        _best_of(findings, cells, "cost"),
        _good_space(findings, cells),
        _transfer(findings, cells),
        _optimism(findings, cells),
    )
    return [chart for chart in made if chart is not None]


def _best_of(findings: Findings, cells: Mapping[str, Cell], against: best_of.Against) -> Chart | None:
    data = best_of.curves_of(findings, cells)
    if against == "cost":
        data = tuple(curve for curve in data if theme.known(curve.cost[-1]))
    if not data or max(curve.trials[-1] for curve in data) < 2:
        return None
    score = score_of(findings)
    figure, narrow = best_of.figure_of(data, against, score)
    lead = best_of.leaders(data, against)
    total = len({curve.cell for curve in data})
    leading = [f"{name} in {number}" for name, number in sorted(lead.items(), key=lambda pair: -pair[1]) if number]
    paid = {
        "trials": "After the trials that all methods were granted",
        "cost": "At the highest cost that every search has reached",
    }
    points, longest = most(best_of.MOST_POINTS, total, best_of.AMPLE), max(len(curve.trials) for curve in data)
    thinned = f" Of up to {longest} k no more than {points} are drawn." if longest > points else ""
    samplers = {curve.sampler for curve in findings.tuning_curves if curve.approximate}
    approximate = (
        f" Approximate: formula and band assume independent trials, and {' and '.join(sorted(samplers)).upper()} does "
        "not draw independently."
        if samplers
        else ""
    )
    searches = dict.fromkeys((curve.name, curve.method, curve.epochs_factor) for curve in data)
    return Chart(
        id=f"best-of-{against}",
        heading=(
            f"{paid[against]}, the expected best is highest with {prose.listed(leading)} of "
            f"{prose.things(total, 'problem')}"
            if leading
            else f"Expected best validation {score.name} of a search"
        ),
        reading=(
            f"A line is the validation {score.name} that the best of k trials is expected to reach"
            + (", over k." if against == "trials" else ", over what k trials cost in runs of the baseline.")
            + " Where a line is flat, further trials buy nothing."
        ),
        caption=(
            f"{prose.seeds(curve.trials[-1] for curve in data)} trials a search. Thin and dotted: simultaneous 95 % "
            "confidence band (not an interval at one k), cut at the panel; with few trials it rules little out. "
            f"Methods that are level lead together.{thinned}{approximate}"
        ),
        keys=tuple(Key(name, method, "both" if factor == 1 else "open") for name, method, factor in searches),
        figure=figure,
        narrow=narrow,
        table=fitted(best_of.table_of(data, against, score), len(cells), _ALL),
    )


def _good_space(findings: Findings, cells: Mapping[str, Cell]) -> Chart | None:
    data = good_space.shares_of(findings, cells)
    if not data:
        return None
    figure, narrow = good_space.figure_of(data)
    clauses = [f"{100 * share:.0f}\u202f% with {method}" for method, share in good_space.means_of(data).items()]
    return Chart(
        id="good-space",
        heading=f"Within δ of the best lie, in the mean over problems, {prose.listed(clauses)} of the trials",
        reading=(
            f"The further right, the less the settings matter: that share of the trials lies within δ = "
            f"{theme.threshold(findings.delta)} points of the search's best on validation."
        ),
        caption=(
            f"{prose.seeds(share.trials for share in data)} trials a search, at equal epochs. No interval: the best is "
            "one of the same trials, so the share is never 0."
        ),
        keys=tuple(Key(method, method) for method in dict.fromkeys(share.method for share in data)),
        figure=figure,
        narrow=narrow,
        table=fitted(good_space.table_of(data, score_of(findings)), len(cells), _ALL),
    )


def _transfer(findings: Findings, cells: Mapping[str, Cell]) -> Chart | None:
    data = transfer.transfers_of(findings, cells)
    if not data:
        return None
    drawn = transfer.drawn_of(data)
    figure, narrow = transfer.figure_of(drawn)
    problems, shown = (len({name for t in some for name in t.cells}) for some in (data, drawn))
    left_out = (
        f" Drawn are the {shown} of {problems} problems in which a rho from elsewhere costs most; all of them are in "
        f"{_ALL}."
        if shown < problems
        else ""
    )
    score = score_of(findings)
    clauses = [
        f"{theme.points(regret)} points with {t.method} (a blind choice {theme.points(chance)})"
        for t, (regret, chance) in ((t, t.elsewhere) for t in data)
    ]
    trials = sorted({curve.trials[-1] for curve in findings.tuning_curves if curve.trials and curve.epochs_factor == 1})
    return Chart(
        id="rho-transfer",
        heading=f"A rho tuned in another problem costs, in the mean, {prose.listed(clauses)}",
        reading=(
            "Row: the problem that rho was tuned in; column: the problem, by its number, that it is used in with the "
            f"rest tuned anew. A field is the validation {score.name} lost, in points; near the last row it knew "
            "nothing."
        ),
        caption=(
            f"{prose.seeds(trials)} trials a problem; the quarter nearest in log rho stands for a rho, earlier trials "
            "win ties. The last row: a quarter that is picked blindly. No interval: each field is one comparison on "
            f"validation.{left_out}"
        ),
        keys=(Key("loss", "", "field", theme.sequential(1, 1, theme.LOSS)),),
        figure=figure,
        narrow=narrow,
        table=fitted(transfer.table_of(data, score, most(MOST_ROWS, len(cells))), len(cells), _ALL),
    )


def _optimism(findings: Findings, cells: Mapping[str, Cell]) -> Chart | None:
    data = optimism.flattery_of(findings, cells)
    if not data:
        return None
    score = score_of(findings)
    figure, narrow = optimism.figure_of(data, score)
    means = [f.mean for f in data]
    low, high = theme.gain(min(means)), theme.gain(max(means))
    return Chart(
        id="optimism",
        heading=(
            f"The tuned validation {score.name} exceeds that on fresh seeds by "
            f"{low if low == high else f'{low} to {high}'} points, in the mean over problems"
        ),
        reading=(
            "Right of zero, picking the best trial has flattered: the same settings do worse on seeds that did not "
            "pick them. That is why no verdict rests on the tune stage."
        ),
        caption=(
            f"Mean over {prose.seeds(len(f.by_cell) for f in data)} problems, each a small tick, with its 95 % "
            f"Student-t interval; the winner of {' or '.join(map(str, sorted({f.trials for f in data})))} trials."
        ),
        keys=(
            *(Key(f.name, f.method, "filled" if f.epochs_factor == 1 else "open") for f in data),
            Key("one problem", "", "tick"),
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(optimism.table_of(data, score), len(cells), _ALL),
    )
