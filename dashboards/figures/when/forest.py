"""Where does each method help, and by how much? Tuned against tuned, every cell and budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from dashboards import far_out, prose, theme
from dashboards.cells import LabelledCell
from dashboards.comparisons import Distinct, distinct
from dashboards.contenders import budget_name, delta_of, short_budgets
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import inliers
from dashboards.figures.kit.traces import Figure, Shape, box, hover_of, level, line, upright
from dashboards.figures.when.pooled import ROW, Pooled, caption_of, pooled_of, widened
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import Table
from dashboards.tables.verdicts import wording_of
from study.findings import Findings
from study.stats import Effect, Synthesis


@dataclass(frozen=True, slots=True)
class Forest:
    """Gains over the strongest baseline, by problem and method, and of every method that over all tasks.

    ``cells`` are the problems that have a gain; gains that are equal under several budgets are one mark.
    """

    findings: Findings
    cells: Mapping[str, LabelledCell]
    marks: tuple[Distinct, ...]
    pooled: tuple[Pooled, ...]

    @property
    def methods(self) -> list[str]:
        """The methods that have a gain, in the order drawn."""
        measured = {mark.effect.method for mark in self.marks}
        return [method for method in self.findings.methods if method in measured]

    @property
    def primary(self) -> list[Effect]:
        """The gains under the primary budget."""
        return [mark.effect for mark in self.marks if self.findings.primary_budget in mark.budgets]

    @property
    def deltas(self) -> list[float]:
        """The δ of every problem."""
        return [delta_of(self.findings, cell.task) for cell in self.cells.values()]


def forest_of(findings: Findings, cells: Mapping[str, LabelledCell]) -> Forest:
    """Collect the tuned effects that have a mean; effects equal under both budgets become one mark."""
    found = distinct([effect for effect in findings.effects if effect.n], findings.primary_budget)
    here = {name: cell for name, cell in cells.items() if any(mark.effect.cell == name for mark in found)}
    order, methods = list(here), findings.methods
    marks = sorted(found, key=lambda one: (order.index(one.effect.cell), methods.index(one.effect.method)))
    return Forest(findings, here, tuple(marks), pooled_of(findings))


def range_of(forest: Forest) -> tuple[float, float]:
    """Return the gains that the axes show: ±2 δ, and all gains, means and intervals that are not far out.

    What lies beyond is cut, with an arrow: neither a problem with gains of another size nor a run at chance level
    flattens all others. Summary rows widen the axes by half at most on either side.
    """
    most = 2 * max(forest.deltas)
    effects = [mark.effect for mark in forest.marks]
    gains = [gain for effect in effects for gain in effect.differences]
    low, high = inliers(gains, least=most, holds=[effect.mean for effect in effects])
    room = 0.5 * (max(high, most) - min(low, -most))
    ends = [end for effect in effects for end in effect.ci95 if theme.known(end)]
    low = min(low, -most, max(min(ends, default=low), low - room))
    high = max(high, most, min(max(ends, default=high), high + room))
    low, high = widened(forest.pooled, low, high)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def figure_of(forest: Forest, score: Score) -> Figure:
    """Draw one panel a method, one row a problem: filled for the primary budget, open for the other."""
    scale = dots.Scale(f"gain, {score.percentage_points}", span=_drawn(range_of(forest)))
    count = len(forest.methods)
    return dots.figure_of(
        [*_gains(forest), *_summaries(forest)],
        {_panel(method): scale for method in forest.methods},
        columns=4 if count in (4, 7, 8) or count > 9 else 3,  # few panels in the last row
        shapes=_backdrop(forest),
    )


def _panel(method: str) -> str:
    return f"{method} over its baselines"


def _drawn(ends: tuple[float, float]) -> tuple[float, float]:
    return theme.in_points(ends[0]), theme.in_points(ends[1])


def _gains(forest: Forest) -> list[dots.Dot]:
    findings, wording = forest.findings, wording_of(forest.findings)
    found = []
    for mark in forest.marks:
        effect, label = mark.effect, forest.cells[mark.effect.cell].label
        diverged = effect.diverged_method + effect.diverged_baseline
        hover = hover_of(
            effect.method,
            label,
            f"{theme.gain(effect.mean)} {theme.unit()}, 95 % CI {theme.interval(effect.ci95)}, n = {effect.n}",
            f"over {effect.baseline}, {short_budgets(findings, mark.budgets)}",
            wording.verdict(effect, mark.budgets),
            *([f"switched off in {effect.off} of {effect.n}"] if effect.off else []),
            *([f"{diverged} diverged"] if diverged else []),
            far_out.words(findings, [effect]),
        )
        filled = findings.primary_budget in mark.budgets
        found.append(dots.of_gain(_panel(effect.method), label, effect, hover, filled=filled))
    return found


def _summaries(forest: Forest) -> list[dots.Dot]:
    found = []
    for one in forest.pooled:
        synthesis, at = one.synthesis, short_budgets(forest.findings, one.budgets)
        hover = hover_of(
            synthesis.method,
            f"{synthesis.tasks} tasks together",
            f"{theme.gain(synthesis.mean)} {theme.unit()}, 95 % CI {theme.interval(synthesis.ci95)}",
            f"a new task: {theme.interval(synthesis.prediction95)}",
            at,
        )
        found.append(
            dots.Dot(
                _panel(synthesis.method),
                ROW,
                synthesis.method,
                theme.in_points(synthesis.mean),
                _drawn(synthesis.ci95),
                (),
                hover,
                filled=forest.findings.primary_budget in one.budgets,
                outer=_drawn(synthesis.prediction95),
            )
        )
    return found


def _backdrop(forest: Forest) -> list[Shape]:
    """Return the zone of every problem's ±δ, the line at zero, and one between problems and summary rows."""
    top = len(forest.cells) - 1 + bool(forest.pooled)
    zones = []
    for delta, alike in groupby(enumerate(forest.deltas), key=itemgetter(1)):  # rows of one task lie together
        rows = [row for row, _ in alike]
        zones.append(box(_drawn((-delta, delta)), (top - rows[-1] - 0.5, top - rows[0] + 0.5), theme.BAND))
    rule = [level(0.5, line(theme.GRID, 1))] if forest.pooled else []
    return [*zones, upright(0, line(theme.MUTED, 1)), *rule]


def table_of(forest: Forest, score: Score) -> Table:
    """Return the forest as a table: one row a mark, then one a summary."""
    effects, pooled = [mark.effect for mark in forest.marks], [one.synthesis for one in forest.pooled]
    both: list[Effect | Synthesis] = [*effects, *pooled]
    wording, none = wording_of(forest.findings), ["–"] * len(pooled)
    new_task = [dots.NOWHERE] * len(effects) + [one.prediction95 for one in pooled]
    budgets = [*(mark.budgets for mark in forest.marks), *(one.budgets for one in forest.pooled)]
    return columns.table_of(
        "forest",
        "Gains over the strongest baseline.",
        (
            columns.words("Problem", "problem", [forest.cells[e.cell].label for e in effects] + [ROW] * len(pooled)),
            columns.methods("Method", "method", [one.method for one in both]),
            columns.words(
                "Budget",
                "budget",
                [short_budgets(forest.findings, one) for one in budgets],
                list(map("+".join, budgets)),
            ),
            columns.words("Over", "baseline", [e.baseline for e in effects] + ["random effects"] * len(pooled)),
            columns.marked(
                "Verdict",
                "verdict",
                [wording.verdict(mark.effect, mark.budgets) for mark in forest.marks] + none,
                [theme.VERDICT_ICONS[e.verdict] for e in effects] + [""] * len(pooled),
                [e.verdict for e in effects] + none,
            ),
            *columns.estimates(f"Gain, {theme.unit()}", "gain", [(one.mean, one.ci95) for one in both]),
            *(columns.intervals("New task", "prediction95", new_task) if pooled else ()),
            columns.counts(
                "n",
                "n",
                [e.n for e in effects] + [one.tasks for one in pooled],
                [str(e.n) for e in effects] + [f"{one.tasks} tasks" for one in pooled],
            ),
            columns.numbers("p (Holm)", "p_holm", [e.p_holm for e in effects] + [None] * len(pooled), theme.p_value),
            columns.units([score] * len(budgets)),
        ),
    )


def heading_of(forest: Forest) -> str:
    """State, for every method, the range of its gains under the primary budget."""
    primary, others = far_out.steady(forest.findings, forest.primary)
    by_method = {m: means for m in forest.methods if (means := [e.mean for e in primary if e.method == m])}
    told = [f"{method} {prose.span(means, theme.gain)}" for method, means in by_method.items()]
    return f"Mean gains over the strongest baseline, in {theme.unit()}: {prose.listed(told)}{others}"


_APART = "Mean paired gain, or the difference of the means of runs that are not paired (Welch),"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    findings = sources.findings
    data = forest_of(findings, sources.cells)
    if not data.marks:
        return None
    primary = findings.primary_budget
    others = list(dict.fromkeys(b for mark in data.marks if primary not in mark.budgets for b in mark.budgets))
    tuned = "" if findings.origin else ", each tuned on its own"
    reading = (
        f"Right of zero the method beats the strongest of its baselines{tuned}; which one that is "
        "stands under the pointer and in the table. The grey band is ±δ, inside which no gain matters."
    )
    keys = [Key(budget_name(findings, primary), "", "filled")]
    if others:
        reading += " Where filled and open markers part, the budget makes the difference."
        keys.append(Key(prose.listed([budget_name(findings, b) for b in others]), "", "open"))
    what = _APART if any(effect.apart for effect in findings.effects) else "Mean paired gain"
    return Chart(
        id="forest",
        heading=heading_of(data),
        reading=reading,
        caption=(
            f"{what} with its 95 % Student-t interval, not adjusted for the number of comparisons; "
            f"{prose.numbers(mark.effect.n for mark in data.marks)} {sources.units}, each a small tick."
            f"{caption_of(data.pooled)}"
        ),
        keys=(*keys, Key(f"one of the {sources.units}", "", "tick"), Key("±δ, no material effect", "", "band")),
        figure=figure_of(data, sources.score),
        table=sources.fitted(table_of(data, sources.score), "findings.json"),
    )
