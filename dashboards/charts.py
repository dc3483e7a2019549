"""The report's charts: each figure with its heading, its line on how to read it, its caption and its legend."""

from collections.abc import Iterable, Mapping

import pandas as pd

from dashboards import prose, theme
from dashboards.calibrated import calibration_charts
from dashboards.cells import BUDGET_WORDS, Cell, words_of
from dashboards.figures.kit.chart import Chart, Key
from dashboards.figures.kit.confirmed import Confirmed, confirmed_runs
from dashboards.figures.training import cost, curves
from dashboards.figures.when import decay, forest, gain_map, pooled, slopes
from dashboards.score import Score, score_of
from dashboards.searched import search_charts
from dashboards.tables.limits import fitted
from dashboards.tuned import tuning_charts
from dashboards.why import why_charts
from study.findings import Findings
from study.records import LineRecord, PlaneRecord, RunRecord
from study.specs.methods import METHODS, last_of

_ALL = "runs.parquet"  # where every row of a table is


def charts_of(
    findings: Findings,
    frame: pd.DataFrame,
    cells: Mapping[str, Cell],
    records: Iterable[RunRecord] = (),
    lines: Iterable[LineRecord] = (),
    planes: Iterable[PlaneRecord] = (),
) -> dict[str, Chart]:
    """Return every chart that has data, by id."""
    records = tuple(records)
    score = score_of(findings)
    runs = confirmed_runs(frame, findings.selections, {name: method.family for name, method in METHODS.items()})
    made = (
        _forest(findings, cells, score),
        _gain_map(findings, cells, score),
        _slopes(findings, cells, score),
        _decay(findings, cells, score),
        *why_charts(findings, records, lines, planes, cells),
        _curves(runs, cells, score),
        *calibration_charts(findings, records, runs, cells),
        *search_charts(findings, frame, cells),
        *tuning_charts(findings, cells),
        _cost(runs, findings, cells, score),
    )
    return {chart.id: chart for chart in made if chart is not None}


def _forest(findings: Findings, cells: Mapping[str, Cell], score: Score) -> Chart | None:
    data = forest.forest_of(findings, cells)
    if not data.marks:
        return None
    figure, narrow = forest.figure_of(data, score)
    primary = BUDGET_WORDS.get(data.primary_budget, data.primary_budget)
    others = [
        b for b in BUDGET_WORDS if any(data.primary_budget not in m.budgets and b in m.budgets for m in data.marks)
    ]
    reading = (
        f"Right of zero the method beats tuned {data.baseline}; the grey band is ±δ, inside which no gain matters."
    )
    keys = [Key(primary, "", "filled")]
    if others:
        reading += " Where filled and open markers part, compute explains the difference."
        keys.append(Key(prose.listed([BUDGET_WORDS[b] for b in others]), "", "open"))
    return Chart(
        id="forest",
        heading=prose.forest_heading(findings),
        reading=reading,
        caption=(
            f"Mean paired gain with its 95 % Student-t interval, not adjusted for the number of comparisons; "
            f"{prose.seeds(len(mark.gains) for mark in data.marks)} seeds, each a small tick."
            f"{pooled.caption_of(data.summaries)}"
        ),
        keys=(*keys, Key("one seed", "", "tick"), Key("±δ, no material effect", "", "band")),
        figure=figure,
        narrow=narrow,
        table=fitted(forest.table_of(data), len(cells), _ALL),
    )


def _gain_map(findings: Findings, cells: Mapping[str, Cell], score: Score) -> Chart | None:
    data = gain_map.gain_map_of(findings, cells)
    if not data.gains:
        return None
    figure, narrow = gain_map.figure_of(data, score)
    clauses = [f"{above} of {total} with {method}" for method, (above, total) in gain_map.above_zero(data).items()]
    primary = BUDGET_WORDS.get(findings.primary_budget, findings.primary_budget)
    across = (
        f"{data.factor.replace('_', ' ')} across, all else down" if data.factor else "methods across, problems down"
    )
    return Chart(
        id="gain-map",
        heading=f"Problems where the 95 % interval of the gain lies above zero: {prose.listed(clauses)}",
        reading=(
            f"One field a problem, {across}; the mean gain in {score.points}. The stronger the colour, the "
            "larger the gain or the loss; bold where the 95 % interval excludes zero."
        ),
        caption=(
            f"Mean paired gain over tuned {findings.baseline} at {primary}, "
            f"{prose.seeds(gain.n for gain in data.gains)} seeds a field. 95 % Student-t intervals, not adjusted for "
            f"the number of comparisons, are in the table and under the pointer. The colours are centred at zero and "
            f"end at ±{theme.points(data.most)} points, growing with the square root."
        ),
        keys=(
            Key("gain", "", "field", theme.diverging(1, 1)),
            Key("loss", "", "field", theme.diverging(-1, 1)),
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(gain_map.table_of(data), len(cells), _ALL),
    )


def _slopes(findings: Findings, cells: Mapping[str, Cell], score: Score) -> Chart | None:
    data = slopes.slopes_of(findings, cells)
    if not data.pairs:
        return None
    figure, narrow = slopes.figure_of(data, score)
    methods = dict.fromkeys(name for pair in data.pairs for name in (pair.last_name, pair.averaged_name))
    return Chart(
        id="slopes",
        heading=prose.slopes_heading(findings.averaging),
        reading=(
            "Each thin line is one run, from its last weights to its averaged ones. Every panel spans the same "
            "number of points, so equal slopes are equal gains."
        ),
        caption=(
            f"Thick line: mean over {prose.seeds(len(pair.seeds) for pair in data.pairs)} seeds; every run is drawn, "
            "at the foot of its panel if it lies far below. 95 % Student-t intervals are in the hover text; the "
            "heading counts verdicts, Holm-adjusted among these comparisons. Within-run: the mechanism, not the answer."
        ),
        keys=tuple(Key(name, name) for name in methods),
        figure=figure,
        narrow=narrow,
        table=fitted(slopes.table_of(data, score), len(cells), _ALL),
    )


def _decay(findings: Findings, cells: Mapping[str, Cell], score: Score) -> Chart | None:
    data = decay.decay_of(findings, cells)
    if not data.entries:
        return None
    figure, narrow = decay.figure_of(data, score)
    gains: dict[str, list[float]] = {}
    for entry in data.entries:
        gains.setdefault(words_of("schedule", entry.schedule), []).append(entry.gain)
    families = sorted({entry.family for entry in data.entries})
    return Chart(
        id="decay",
        heading=prose.decay_heading(gains),
        reading="From the open marker (last weights) to the filled one (their average); the number is the gain.",
        caption=(
            f"Means over {prose.seeds(entry.n for entry in data.entries)} seeds of the confirm stage; 95 % Student-t "
            "intervals of the paired gain are in the hover text and the table. Every panel spans the same number of "
            "points."
        ),
        keys=tuple(
            key
            for family in families
            for key in (
                Key(f"{last_of(family)}: last", last_of(family), "open"),
                Key(f"{decay.averaged_method(family)}: averaged", decay.averaged_method(family)),
            )
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(decay.table_of(data, score), len(cells), _ALL),
    )


def _curves(runs: Iterable[Confirmed], cells: Mapping[str, Cell], score: Score) -> Chart | None:
    data = curves.curves_of(runs, cells)
    if not data:
        return None
    averages = [a for a in curves.averages_of(runs, cells) if any(curve.cell == a.cell for curve in data)]
    figure, narrow = curves.figure_of(data, averages, score)
    methods = list(dict.fromkeys(curve.method for curve in data))
    shade = (
        (
            " Shaded: the epochs that are averaged, from the start that tuning selected (dotted in the method's "
            "colour); the markers right of the last epoch are the averages."
        )
        if averages
        else ""
    )
    step = max(curve.drawn_every for curve in data)
    by_method = {m: {c.cell: c.mean[-1] for c in data if c.method == m} for m in methods}
    base, other = methods[0], methods[-1]
    both = [cell for cell in by_method[base] if cell in by_method[other]] if other != base else []
    higher = sum(by_method[other][cell] > by_method[base][cell] for cell in both)
    return Chart(
        id="curves",
        heading=prose.curves_heading(higher, len(both), other, base, score.name),
        reading=f"One line a trajectory, with its last weights; the band is the interval of the mean.{shade}",
        caption=(
            f"Mean over {prose.seeds(n for curve in data for n in curve.n)} confirm seeds with its 95 % Student-t "
            f"interval, cut at the axis. A panel shows at most "
            f"{curves.SHOWN_BELOW_BEST * 100:.0f} points below its best."
            f"{f' Every {step}th epoch that was kept is drawn.' if step > 1 else ''}"
        ),
        keys=(
            *(Key(method, method, "both") for method in methods),
            *(Key(f"{method}, at the end", method) for method in dict.fromkeys(a.method for a in averages)),
            *([Key("epochs averaged", "", "band")] if any(a.start is not None for a in averages) else []),
        ),
        figure=figure,
        narrow=narrow,
        table=fitted(curves.table_of(data, averages, score), len(cells), _ALL),
    )


def _cost(runs: Iterable[Confirmed], findings: Findings, cells: Mapping[str, Cell], score: Score) -> Chart | None:
    data = cost.options_of(runs, findings.baseline, cells)
    if not data:
        return None
    figure, narrow = cost.figure_of(data, findings.baseline, score)
    names = sorted(
        {(option.method, option.epochs_factor, option.name) for option in data},
        key=lambda name: (findings.methods.index(name[0]), name[1]),
    )
    return Chart(
        id="front",
        heading=prose.cost_heading(findings.baseline, cost.ahead_of_baseline(data, findings.baseline)),
        reading=(
            f"Up is better, right is dearer. The line is what more epochs alone buy {findings.baseline}: a method "
            "above it at its own cost is worth its compute."
        ),
        caption=(
            f"Mean test {score.name} over {prose.seeds(len(option.scores) for option in data)} confirm seeds, each a "
            "small tick; no interval is drawn here, as paired gains with theirs are in the forest plot. Cost counts "
            "forward and backward passes of training; markers at the same cost stand side by side."
        ),
        keys=tuple(Key(name, method, "filled" if factor == 1 else "open") for method, factor, name in names),
        figure=figure,
        narrow=narrow,
        table=fitted(cost.table_of(data, score), len(cells), _ALL),
    )
