"""What each contender reaches: test scores as the metric has them, every replicate a dot, and what a run costs.

A panel a problem, a row a contender of the primary budget: every baseline, then the methods.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dashboards import theme
from dashboards.cells import LabelledCell
from dashboards.contenders import in_epochs, lengths_under
from dashboards.figures.kit.confirmed import Confirmed
from dashboards.figures.kit.dots import NOWHERE
from dashboards.figures.kit.panels import inliers
from dashboards.score import Score, metric_words, score_in, split_of
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.findings import Findings
from study.findings.content import ResultsTable
from study.stats import Effect
from study.stats.typical import MEAN, Typical, Way

MOST_DOTS = 60  # of a row: of more replicates, every so manieth is drawn
MOST_PANELS = 8  # in sight; the others are one click away


@dataclass(frozen=True, slots=True)
class Reached:
    """The test scores of one contender in one problem, as the metric has them.

    Attributes:
        cell: The problem's name.
        contender: Its name in the findings, ``name`` what it is called here, ``method`` whose colour it has.
        values: One a replicate (or seed).
        gradient_evaluations: Of a completed run, in the mean; NaN where nobody counted them.
        relative: The same over those of the baseline at equal epochs.
        strongest: The baseline that methods are held against.
        way: How its values are put together.
    """

    cell: str
    contender: str
    name: str
    method: str
    values: tuple[float, ...]
    gradient_evaluations: float = math.nan
    relative: float = math.nan
    strongest: bool = False
    way: Way = MEAN

    @property
    def typical(self) -> Typical:
        """What its replicates (or seeds) are typically like."""
        return self.way.of(self.values)


def reached_of(
    findings: Findings,
    cells: Mapping[str, LabelledCell],
    runs: Iterable[Confirmed],
    best_at: Mapping[tuple[str, str], float],
) -> tuple[Reached, ...]:
    """Return what every contender of the primary budget reaches, problem by problem; baselines first.

    Where no runs are at hand, what findings hold: methods, and the strongest baseline.

    Args:
        findings: What the study found.
        cells: Its problems.
        runs: The confirm runs of every contender.
        best_at: By problem and baseline the epoch that validation prefers there, in the median run.
    """
    if findings.origin:
        return _given(findings, findings.origin, cells)
    by_cell: dict[str, list[Effect]] = {name: [] for name in cells}
    for effect in findings.effects:
        if effect.budget == findings.primary_budget and effect.n and effect.cell in by_cell:
            by_cell[effect.cell].append(effect)
    known: dict[str, list[Confirmed]] = {}
    for one in runs:
        known.setdefault(one.cell, []).append(one)
    found: list[Reached] = []
    for name, effects in by_cell.items():
        if effects:
            found += _of_cell(findings, cells[name], effects, known.get(name, []), best_at)
    return tuple(found)


def _given(findings: Findings, table: ResultsTable, cells: Mapping[str, LabelledCell]) -> tuple[Reached, ...]:
    """Return what every method of a table reaches; costs are in that of the cheapest baseline."""
    strongest = {(effect.cell, effect.baseline) for effect in findings.effects}
    rows = []
    for name, cell in cells.items():
        own = [runs for runs in table.runs if runs.problem == name and runs.scores]
        costs = [runs.cost for runs in own if runs.method in table.baselines and runs.cost > 0]
        shortest = min(costs, default=math.nan)
        score = score_in(findings, cell.task)
        rows += [
            Reached(
                name, runs.method, runs.method, runs.method, tuple(map(score.measured, runs.scores)), runs.cost,
                runs.cost / shortest, (name, runs.method) in strongest, score.way,
            )
            for runs in own
        ]  # fmt: skip
    return tuple(rows)


def _of_cell(
    findings: Findings,
    cell: LabelledCell,
    effects: Sequence[Effect],
    runs: Sequence[Confirmed],
    best_at: Mapping[tuple[str, str], float],
) -> list[Reached]:
    score = score_in(findings, cell.task)
    strongest = {effect.baseline for effect in effects}
    rows: list[Reached] = []

    def add(contender: str, method: str, name: str, chosen: Confirmed | None, values: Sequence[float]) -> None:
        if chosen:
            values = chosen.by_unit(chosen.final, lambda end: end.test_score)
        spent = [end.gradient_evaluations for end in chosen.final if end.status == "completed"] if chosen else []
        cost = statistics.fmean(spent) if spent else math.nan
        measured = tuple(map(score.measured, values))
        chief = contender in strongest
        rows.append(Reached(cell.name, contender, name, method, measured, cost, strongest=chief, way=score.way))

    baselines = dict.fromkeys(one.baseline for effect in effects for one in effect.against)
    for baseline in baselines:
        chosen = next((one for one in runs if one.name == baseline), None)
        values = next((effect.baseline_values for effect in effects if effect.baseline == baseline), ())
        name = in_epochs(baseline, cell.epochs, best_at.get((cell.name, baseline)))
        add(baseline, baseline.partition(",")[0], name, chosen, values)
    for effect in effects:
        add(effect.method, effect.method, effect.method, contender_of(effect, runs), effect.method_values)
    rows = [row for row in rows if row.values]
    shortest = min(
        (row.gradient_evaluations for row in rows if row.contender in baselines and row.gradient_evaluations > 0),
        default=math.nan,
    )
    return [replace(row, relative=row.gradient_evaluations / shortest) for row in rows]


def contender_of(effect: Effect, runs: Iterable[Confirmed]) -> Confirmed | None:
    """Return the runs of an effect's method with the training lengths that its budget allows."""
    own = [one for one in runs if (one.cell, one.method) == (effect.cell, effect.method)]
    allowed = lengths_under(effect)
    return next((one for one in own if one.lengths == allowed), next((o for o in own if o.lengths == (1.0,)), None))


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is drawn: positions are percentages of the strip; ``beyond``: dots left and right of it."""

    name: str
    method: str
    strongest: bool
    dots: tuple[float, ...]
    middle: float
    beyond: tuple[int, int]
    score: str
    cost: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A problem as it is drawn: its ticks as (position, words), and its rows; ``middle`` is "mean" or "median"."""

    label: str
    metric: str
    middle: str
    ticks: tuple[tuple[float, str], ...]
    rows: tuple[Row, ...]


def panels_of(findings: Findings, cells: Mapping[str, LabelledCell], reached: Sequence[Reached]) -> tuple[Panel, ...]:
    """Lay the scores out, each problem on a scale of its own that no outlier sets."""
    panels = []
    for name, cell in cells.items():
        rows = [row for row in reached if row.cell == name]
        if rows:
            score = score_in(findings, cell.task)
            low, high = _ends(rows)
            panels.append(
                Panel(
                    cell.label,
                    f"{split_of(findings)}{score.full}{score.direction}",
                    score.way.middle,
                    tuple((_at(tick, low, high), _tick(score, tick, low, high)) for tick in _ticks(low, high)),
                    tuple(_row(row, score, low, high) for row in rows),
                )
            )
    return tuple(panels)


def _ends(rows: Sequence[Reached]) -> tuple[float, float]:
    low, high = inliers([value for row in rows for value in row.values], holds=[row.typical.middle for row in rows])
    margin = 0.04 * (high - low) or 0.01 * max(abs(high), 1e-6)
    return low - margin, high + margin


def _at(value: float, low: float, high: float) -> float:
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers between two ends."""
    size = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(size * times for times in (1, 2, 5, 10) if (high - low) / (size * times) <= 5)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _tick(score: Score, value: float, low: float, high: float) -> str:
    decimals = max(0, -math.floor(math.log10((high - low) / 5)))
    if score.share:
        return f"{100 * value:.{max(0, decimals - 2)}f}\u202f%"
    return f"{value:,.{decimals}f}".replace("-", "−")


def _row(row: Reached, score: Score, low: float, high: float) -> Row:
    every = -(-len(row.values) // MOST_DOTS)
    middle = row.typical.middle
    inside = [value for value in row.values if low <= value <= high]
    return Row(
        name=row.name,
        method=row.method,
        strongest=row.strongest,
        dots=tuple(_at(value, low, high) for value in inside[::every]),
        middle=_at(middle, low, high),
        beyond=(sum(value < low for value in row.values), sum(value > high for value in row.values)),
        score=score.write(middle),
        cost=theme.ratio(row.relative),
    )


def _ends_by(way: Way, reached: Iterable[Reached]) -> list[tuple[float, float]]:
    return [row.typical.ends if row.way is way else NOWHERE for row in reached]


def accuracy_table(findings: Findings, cells: Mapping[str, LabelledCell], reached: Sequence[Reached]) -> Table:
    """Return the download: one row a problem and contender, what it typically reaches, and its unit."""
    scores = [score_in(findings, cells[row.cell].task) for row in reached]
    found = [row.typical for row in reached]
    ways = list(dict.fromkeys(row.way for row in reached)) or [MEAN]
    texts = [theme.within(one.middle, one.ends, score.write) for score, one in zip(scores, found, strict=True)]
    return columns.table_of(
        "accuracies",
        f"{metric_words(findings).capitalize()} of every contender of the primary budget.",
        (
            columns.words("Problem", "problem", [cells[row.cell].label for row in reached]),
            columns.methods(
                "Contender",
                "contender",
                [row.method for row in reached],
                [row.name for row in reached],
                [row.contender for row in reached],
            ),
            columns.numbers(
                " or ".join(f"{way.title} [{way.short}]" for way in ways),
                "test_score",
                [one.middle for one in found],
                texts=texts,
            ),
            *(hidden for way in ways for hidden in columns.hidden_ends(way.csv, _ends_by(way, reached))),
            columns.counts("n", "n", [one.n for one in found]),
            columns.units(scores),
            columns.numbers(
                "Gradient evaluations",
                "gradient_evaluations",
                [row.gradient_evaluations for row in reached],
                theme.large,
            ),
            columns.numbers("Cost", "cost_ratio", [row.relative for row in reached], theme.ratio),
            columns.words(
                "Strongest baseline", "strongest", ["strongest" if row.strongest else "–" for row in reached]
            ),
        ),
        groups=[row.cell for row in reached],
    )
