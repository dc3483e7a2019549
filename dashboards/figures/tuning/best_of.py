"""What do more trials bring? Expected best validation score of k trials, against trials and against what they cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.contenders import keeps_last, longer, method_of
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement, Axes, anchors, axis, grid_of_cells, lay_out, shares_stay_shares
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, most, numeric
from study.findings import Findings

Against = Literal["trials", "cost"]
_LEVEL = 1e-9  # scores are multiples of 1 / examples
MOST_LINEAR = 30  # trials; beyond, the axis is logarithmic
MOST_POINTS, AMPLE = 100, 8  # a line, and up to how many problems; fewer of them in larger studies


@dataclass(frozen=True, slots=True)
class BestOf:
    """One search: expected best of k trials with its simultaneous band; scores are fractions.

    ``method`` is the role, such as ``SGD best``; ``cost``: gradient evaluations of k trials over those of one run of
    the baseline.
    """

    cell: str
    method: str
    epochs_factor: float
    trials: tuple[int, ...]
    cost: tuple[float, ...]
    expected: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def name(self) -> str:
        """Role, and how many times the epochs where that is more than one."""
        return longer(self.method, self.epochs_factor)

    @property
    def filled(self) -> bool:
        """Whether its markers are filled; open are those of longer training and of a baseline's last weights."""
        return self.epochs_factor == 1 and not keeps_last(self.method)


def curves_of(findings: Findings, cells: Mapping[str, Cell]) -> tuple[BestOf, ...]:
    """Return the curves of all searches that were measured, by cell, method and epochs."""
    unit = {
        curve.cell: curve.gradient_evaluations[0] / curve.trials[0]
        for curve in findings.tuning_curves
        if (method_of(curve.method), curve.epochs_factor) == (findings.baseline, 1) and curve.trials
    }
    order, methods = list(cells), list(findings.methods)
    known = [curve for curve in findings.tuning_curves if curve.cell in cells and curve.trials]
    return tuple(
        BestOf(
            cell=cells[c.cell].label,
            method=c.method,
            epochs_factor=c.epochs_factor,
            trials=c.trials,
            cost=tuple(spent / unit[c.cell] if c.cell in unit else math.nan for spent in c.gradient_evaluations),
            expected=c.expected,
            low=c.low,
            high=c.high,
        )
        for c in sorted(known, key=lambda c: (order.index(c.cell), methods.index(method_of(c.method)), c.epochs_factor))
    )


def leaders(curves: Sequence[BestOf], against: Against) -> dict[str, int]:
    """Return in how many problems each search leads: at the most trials, or the most cost, that all have paid for.

    Searches that are level lead together; a problem with a single search has no leader.
    """
    found: dict[str, int] = {}
    for cell in dict.fromkeys(curve.cell for curve in curves):
        here = [curve for curve in curves if curve.cell == cell and theme.known(_ends(curve, against)[-1])]
        if len(here) < 2:
            continue
        common = min(_ends(curve, against)[-1] for curve in here)
        reached = {curve.name: at(curve, against, common) for curve in here}
        for name, score in reached.items():
            found[name] = found.get(name, 0) + (score >= max(reached.values()) - _LEVEL)
    return found


def at(curve: BestOf, against: Against, spent: float) -> float:
    """Return the expected best at the last number of trials that ``spent`` pays for; −∞ where it pays for none."""
    paid = [e for x, e in zip(_ends(curve, against), curve.expected, strict=True) if x <= spent * (1 + 1e-9)]
    return paid[-1] if paid else -math.inf


def _ends(curve: BestOf, against: Against) -> tuple[float, ...]:
    return curve.trials if against == "trials" else curve.cost


def figure_of(curves: Sequence[BestOf], against: Against, score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a problem: a line a search, the edges of its band thin and dotted."""
    curves = [curve for curve in curves if theme.known(_ends(curve, against)[-1])]
    names = list(dict.fromkeys(curve.cell for curve in curves))
    logarithmic = max(curve.trials[-1] for curve in curves) > MOST_LINEAR
    points = most(MOST_POINTS, len(names), AMPLE)
    traces: list[Trace] = []
    axes: Axes = {}
    for panel, name in enumerate(names):
        here = [thinned(curve, points) for curve in curves if curve.cell == name]
        low, high = shown(here)
        for curve in here:
            traces.append(_band(curve, against, panel))
        for curve in here:
            traces.append(_line(curve, against, panel, score))
        right = max(_ends(curve, against)[-1] for curve in here)
        left = min(_ends(curve, against)[0] for curve in here)
        axes[axis("x", panel)] = {
            "title": {"text": "trials" if against == "trials" else "gradients, × one base run"},
            "type": "log" if logarithmic else "linear",
            "range": [math.log10(left * 0.9), math.log10(right * 1.1)] if logarithmic else [0, right * 1.04],
            "nticks": 5,
        }
        axes[axis("y", panel)] = {"range": [theme.in_points(low), theme.in_points(high)], "nticks": 6}
    titles = [theme.wrapped(name, 22) for name in names]
    return lay_out(traces, titles, grid_of_cells(len(titles)), axes, y_title=score.axis("validation"))


def thinned(curve: BestOf, points: int) -> BestOf:
    """Return the curve at no more than ``points`` of its k, in geometric steps from the first to the last one."""
    total = len(curve.trials)
    if total <= points:
        return curve
    kept = sorted({round(total ** (i / (points - 1))) - 1 for i in range(points)})
    cost, expected, low, high = (
        tuple(values[i] for i in kept) for values in (curve.cost, curve.expected, curve.low, curve.high)
    )
    trials = tuple(curve.trials[i] for i in kept)
    return replace(curve, trials=trials, cost=cost, expected=expected, low=low, high=high)


def shown(curves: Sequence[BestOf]) -> tuple[float, float]:
    """Return the scores that a panel shows: all lines, and a third of their range of the bands above and below."""
    values = [v for curve in curves for v in curve.expected]
    room = theme.least((max(values) - min(values)) / 3, 0.005)
    return shares_stay_shares(min(values) - room, max(values) + room, values)


def _band(curve: BestOf, against: Against, panel: int) -> Trace:
    """Draw both edges of a band, untinted: with few trials the tints of all methods would fill the panel."""
    xs = theme.rounded(_ends(curve, against))
    low, high = (theme.rounded([theme.in_points(v) for v in values]) for values in (curve.low, curve.high))
    return scatter(
        x=[*xs, None, *xs],
        y=[*low, None, *high],
        mode="lines",
        line={"width": 1, "color": theme.faded(theme.style_of(curve.method).color, 0.4), "dash": "dot"},
        hoverinfo="skip",
        **anchors(panel),
    )


def _line(curve: BestOf, against: Against, panel: int, score: Score) -> Trace:
    style = theme.style_of(curve.method)
    return scatter(
        x=theme.rounded(_ends(curve, against)),
        y=theme.rounded([theme.in_points(v) for v in curve.expected]),
        mode="lines+markers" if len(curve.trials) <= 12 else "lines",
        line={
            "color": style.color,
            "width": 2 if curve.epochs_factor == 1 else 1.2,
            "dash": "dot" if keeps_last(curve.method) else style.dash,
        },
        marker={"symbol": style.symbol, "size": 6}
        if curve.filled
        else {"symbol": style.symbol, "size": 6, "color": theme.PAPER, "line": {"color": style.color, "width": 1.4}},
        hoverinfo="text",
        hovertext=[
            f"{theme.plot_text(curve.name)}, best of {k}: {score.text(e)}"
            for k, e in zip(curve.trials, curve.expected, strict=True)
        ],
        **anchors(panel),
    )


def table_of(curves: Sequence[BestOf], against: Against, score: Score) -> Table:
    """Return one row a doubling of the trials and one at their end, or that last one alone against cost."""
    return Table(
        f"best-of-{against}",
        "Expected best validation score of k trials with its simultaneous 95 % band, and what k trials cost"
        + (", where k doubles." if against == "trials" else ", for all trials; the other k are in the table above."),
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            numeric("Trials", "trials"),
            numeric("Cost, × one base run", "relative_cost"),
            numeric(score.head("Expected best"), "expected_best"),
            numeric(score.head("Band low"), "band95_low"),
            numeric(score.head("Band high"), "band95_high"),
        ),
        tuple(
            (
                Entry(curve.cell),
                Entry(curve.name),
                Entry(str(curve.trials[i]), curve.trials[i]),
                Entry(theme.ratio(curve.cost[i]), curve.cost[i] if theme.known(curve.cost[i]) else None),
                *(Entry(score.text(v), v) for v in (curve.expected[i], curve.low[i], curve.high[i])),
            )
            for curve in curves
            for i in (doublings(curve.trials) if against == "trials" else [-1])
        ),
    )


def doublings(trials: Sequence[int]) -> list[int]:
    """Return the positions of the first k, of every first k that is at least twice the last one taken, and the end."""
    taken = [0]
    for i, k in enumerate(trials):
        if k >= 2 * trials[taken[-1]]:
            taken.append(i)
    return taken if taken[-1] == len(trials) - 1 else [*taken, len(trials) - 1]


def chart_of(sources: Sources, against: Against) -> Chart | None:
    """Return the chart of what further trials bring, over their number or their cost; None without data."""
    findings, score = sources.findings, sources.score
    data = curves_of(findings, sources.cells)
    if against == "cost":
        data = tuple(curve for curve in data if theme.known(curve.cost[-1]))
    if not data or max(curve.trials[-1] for curve in data) < 2:
        return None
    figure, narrow = figure_of(data, against, score)
    lead = leaders(data, against)
    total = len({curve.cell for curve in data})
    leading = [f"{name} in {number}" for name, number in sorted(lead.items(), key=lambda pair: -pair[1]) if number]
    paid = {
        "trials": "After the trials that all methods were granted",
        "cost": "At the highest cost that every search has reached",
    }
    points, longest = most(MOST_POINTS, total, AMPLE), max(len(curve.trials) for curve in data)
    left_out = f" Of up to {longest} k no more than {points} are drawn." if longest > points else ""
    samplers = {curve.sampler for curve in findings.tuning_curves if curve.approximate}
    approximate = (
        f" Approximate: formula and band assume independent trials, and {' and '.join(sorted(samplers)).upper()} does "
        "not draw independently."
        if samplers
        else ""
    )
    searches = dict.fromkeys((curve.name, curve.method, curve.filled) for curve in data)
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
            f"{prose.numbers(curve.trials[-1] for curve in data)} trials a search, those of all replicates taken "
            "together. Thin and dotted: simultaneous 95 % confidence band (not an interval at one k), cut at the "
            f"panel; with few trials it rules little out. Methods that are level lead together.{left_out}{approximate}"
        ),
        keys=tuple(Key(name, role, "both" if filled else "open") for name, role, filled in searches),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, against, score), "findings.json"),
    )
