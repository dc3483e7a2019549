"""What do more trials bring? Best validation score of k trials, expected or in the median, over k."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.contenders import keeps_last, longer, method_of
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Panel, grid_of_cells, lay_out, marker, shares_stay_shares
from dashboards.figures.kit.traces import Figure, Trace, hover_of, line, scatter
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table, most
from study.findings import Findings
from study.stats import TuningCurve

_LEVEL = 1e-9  # scores are multiples of 1 / examples
MOST_LINEAR = 30  # trials; beyond, the axis is logarithmic
_ROWS = 8  # of a search in the table
MOST_POINTS, AMPLE = 100, 8  # a line, and up to how many problems; fewer of them in larger studies


@dataclass(frozen=True, slots=True)
class BestOf:
    """One search, and the cell that it is of, by its label.

    ``cost``: gradient evaluations of k trials over those of one run of the baseline; NaN where nobody knows.
    """

    cell: str
    curve: TuningCurve
    cost: tuple[float, ...]

    @property
    def name(self) -> str:
        """Role, and how many times the epochs where that is more than one."""
        return longer(self.curve.method, self.curve.epochs_factor)

    @property
    def filled(self) -> bool:
        """Whether its markers are filled; open are those of longer training and of a baseline's last weights."""
        return self.curve.epochs_factor == 1 and not keeps_last(self.curve.method)


def curves_of(findings: Findings, cells: Mapping[str, LabelledCell]) -> tuple[BestOf, ...]:
    """Return the curves of all searches that were measured, by cell, method and epochs."""
    order, methods = list(cells), list(findings.methods)
    known = [curve for curve in findings.tuning_curves if curve.cell in cells and curve.trials]
    known.sort(key=lambda c: (order.index(c.cell), methods.index(method_of(c.method)), c.epochs_factor))
    unit = {
        curve.cell: curve.gradient_evaluations[0] / curve.trials[0]
        for curve in reversed(known)
        if (method_of(curve.method), curve.epochs_factor) == (findings.baseline, 1)
    }
    return tuple(
        BestOf(
            cells[curve.cell].label,
            curve,
            tuple(spent / unit.get(curve.cell, math.nan) for spent in curve.gradient_evaluations),
        )
        for curve in known
    )


def leaders(curves: Sequence[BestOf]) -> dict[str, int]:
    """Return in how many problems each search leads at the most trials that all of them have had.

    Searches that are level lead together; a problem with a single search has no leader.
    """
    found: dict[str, int] = {}
    for cell in dict.fromkeys(one.cell for one in curves):
        here = [one for one in curves if one.cell == cell]
        if len(here) < 2:
            continue
        common = min(one.curve.trials[-1] for one in here)
        reached = {one.name: at(one.curve, common) for one in here}
        for name, score in reached.items():
            found[name] = found.get(name, 0) + (score >= max(reached.values()) - _LEVEL)
    return found


def at(curve: TuningCurve, trials: int) -> float:
    """Return the best to be had at the last k that is no more than ``trials``."""
    return [best for k, best in zip(curve.trials, curve.expected, strict=True) if k <= trials][-1]


def figure_of(curves: Sequence[BestOf], score: Score) -> Figure:
    """Draw one panel a problem: a line a search, the edges of its band thin and dotted."""
    names = list(dict.fromkeys(one.cell for one in curves))
    logarithmic = max(one.curve.trials[-1] for one in curves) > MOST_LINEAR
    points = most(MOST_POINTS, len(names), AMPLE)
    panels = []
    for name in names:
        here = [one for one in curves if one.cell == name]
        kept = [thinned(len(one.curve.trials), points) for one in here]
        left, right = min(one.curve.trials[0] for one in here), max(one.curve.trials[-1] for one in here)
        x = {
            "title": {"text": "trials"},
            "type": "log" if logarithmic else "linear",
            "range": [math.log10(left * 0.9), math.log10(right * 1.1)] if logarithmic else [0, right * 1.04],
        }
        bands = [_band(one.curve, places, score) for one, places in zip(here, kept, strict=True)]
        lines = [_line(one, places, score) for one, places in zip(here, kept, strict=True)]
        panels.append(Panel(theme.wrapped(name, 22), bands + lines, x, score.axis_from(*shown(here))))
    return lay_out(panels, grid_of_cells(len(panels)), y_title=score.axis("validation"))


def thinned(total: int, points: int) -> list[int]:
    """Return no more than ``points`` of the positions of a curve, in geometric steps from the first to the last one."""
    if total <= points:
        return list(range(total))
    return sorted({round(total ** (i / (points - 1))) - 1 for i in range(points)})


def shown(curves: Sequence[BestOf]) -> tuple[float, float]:
    """Return the scores that a panel shows: all lines, and a third of their range of the bands above and below."""
    values = [v for one in curves for v in one.curve.expected]
    room = theme.least((max(values) - min(values)) / 3, 0.005)
    return shares_stay_shares(min(values) - room, max(values) + room, values)


def _band(curve: TuningCurve, kept: Sequence[int], score: Score) -> Trace:
    """Draw both edges of a band, untinted: with few trials the tints of all methods would fill the panel."""
    xs = [curve.trials[i] for i in kept]
    low, high = (score.drawn([values[i] for i in kept]) for values in (curve.low, curve.high))
    look = line(theme.faded(theme.style_of(curve.method).color, 0.4), 1, "dot")
    return scatter([*xs, None, *xs], [*low, None, *high], "lines", line=look)


def _line(one: BestOf, kept: Sequence[int], score: Score) -> Trace:
    curve, style = one.curve, theme.style_of(one.curve.method)
    return scatter(
        [curve.trials[i] for i in kept],
        score.drawn([curve.expected[i] for i in kept]),
        "lines+markers" if len(curve.trials) <= 12 else "lines",
        [hover_of(one.name, f"best of {curve.trials[i]}", score.full_text(curve.expected[i])) for i in kept],
        line=line(
            style.color, 2 if curve.epochs_factor == 1 else 1.2, "dot" if keeps_last(curve.method) else style.dash
        ),
        marker=marker(style, 6, filled=one.filled, edge=1.4),
    )


def _best(score: Score) -> str:
    """Name what is drawn: of shares the expected best, of scores without a bound the median best."""
    return "expected best" if score.share else "median best"


def table_of(curves: Sequence[BestOf], score: Score) -> Table:
    """Return a few rows a search: from its first trial to its last, in geometric steps."""
    rows = [(one, i) for one in curves for i in thinned(len(one.curve.trials), _ROWS)]
    band = [score.ends((one.curve.low[i], one.curve.high[i])) for one, i in rows]
    return columns.table_of(
        "best-of-trials",
        f"{_best(score).capitalize()} validation {score.name} of k trials with its simultaneous 95 % band, and what "
        f"k trials cost{score.direction}.",
        (
            columns.words("Problem", "problem", [one.cell for one, _ in rows]),
            columns.words("Method", "method", [one.name for one, _ in rows]),
            columns.counts("Trials", "trials", [one.curve.trials[i] for one, i in rows]),
            columns.numbers("Cost, × one base run", "relative_cost", [one.cost[i] for one, i in rows], theme.ratio),
            columns.scores(
                score,
                _best(score).capitalize(),
                _best(score).replace(" ", "_"),
                [one.curve.expected[i] for one, i in rows],
            ),
            columns.numbers(score.head("Band low"), "band95_low", [low for low, _ in band], score.write),
            columns.numbers(score.head("Band high"), "band95_high", [high for _, high in band], score.write),
            columns.units([score] * len(rows)),
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    score = sources.score
    data = curves_of(sources.findings, sources.cells)
    if not data or max(one.curve.trials[-1] for one in data) < 2:
        return None
    total = len({one.cell for one in data})
    lead = sorted(leaders(data).items(), key=lambda pair: -pair[1])
    leading = [f"{name} in {number}" for name, number in lead if number]
    points, longest = most(MOST_POINTS, total, AMPLE), max(len(one.curve.trials) for one in data)
    left_out = f" Of up to {longest} k no more than {points} are drawn." if longest > points else ""
    reaches = "is expected to reach" if score.share else "reaches in the median"
    samplers = prose.listed(sorted({one.curve.sampler.upper() for one in data}))
    approximate = (
        f" Approximate: formula and band assume independent trials, and {samplers} does not draw independently."
    )
    searches = dict.fromkeys((one.name, one.curve.method, one.filled) for one in data)
    return Chart(
        id="best-of-trials",
        heading=(
            f"After the trials that all methods were granted, the {_best(score)} is "
            f"{'highest' if score.higher_is_better else 'lowest'} with {prose.listed(leading)} of "
            f"{prose.things(total, 'problem')}"
            if leading
            else f"{_best(score).capitalize()} validation {score.name} of a search"
        ),
        reading=(
            f"A line is the validation {score.name} that the best of k trials {reaches}, over k. Where a "
            "line is flat, further trials buy nothing; what k trials cost is in the table."
        ),
        caption=(
            f"{prose.numbers(one.curve.trials[-1] for one in data)} trials a search, those of all replicates taken "
            "together. Thin and dotted: simultaneous 95 % confidence band (not an interval at one k), cut at the "
            f"panel; with few trials it rules little out. Methods that are level lead together.{left_out}"
            f"{approximate}"
        ),
        keys=tuple(Key(name, role, "both" if filled else "open") for name, role, filled in searches),
        figure=figure_of(data, score),
        table=sources.fitted(table_of(data, score), "findings.json"),
    )
