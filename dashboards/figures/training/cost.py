"""What does each method cost, and what would the same compute buy the baseline?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.contenders import keeps_last
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import Confirmed
from dashboards.figures.kit.panels import Arrangement, Axes, anchors, axis, foot, grid_of_cells, lay_out, window
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from study.specs.methods import METHODS


@dataclass(frozen=True, slots=True)
class Option:
    """One way to spend compute in one cell: a contender, so a tuned method, or a baseline with its weights and length.

    ``gradient_evaluations`` is the mean of a completed run (a diverged one stops early), ``relative`` the same over
    the baseline's at equal epochs; ``scores`` has one a unit, of the weights that its runs stand by; ``on_front``: no
    other option of the cell has a higher mean score at the same or a lower cost.
    """

    cell: str
    method: str
    name: str
    lengths: tuple[float, ...]
    gradient_evaluations: float
    relative: float
    scores: tuple[float, ...]
    mean: float
    on_front: bool

    @property
    def role(self) -> str:
        """What it is whatever its length: ``SGD best``."""
        return self.name.partition(",")[0]

    @property
    def is_open(self) -> bool:
        """Whether its marker is open: a baseline that keeps its last weights, a method that may train longer."""
        return keeps_last(self.role) or (self.role in METHODS and self.lengths[-1] != 1)


def options_of(runs: Iterable[Confirmed], baseline: str, cells: Mapping[str, Cell]) -> tuple[Option, ...]:
    """Compute every option of every cell that has its baseline at equal epochs."""
    found: dict[str, list[Option]] = {}
    for confirmed in runs:
        final = confirmed.final
        spent = [end.gradient_evaluations for end in final if end.status == "completed"]
        if not spent:
            continue
        scores = confirmed.by_unit(final, lambda end: end.test_score)
        option = Option(
            cell=cells[confirmed.cell].label,
            method=confirmed.method,
            name=confirmed.name,
            lengths=confirmed.lengths,
            gradient_evaluations=sum(spent) / len(spent),
            relative=float("nan"),
            scores=scores,
            mean=sum(scores) / len(scores),
            on_front=False,
        )
        found.setdefault(option.cell, []).append(option)
    return tuple(option for options in found.values() for option in _compared(options, baseline))


def _compared(options: list[Option], baseline: str) -> list[Option]:
    unit = next((o.gradient_evaluations for o in options if (o.method, o.lengths) == (baseline, (1.0,))), float("nan"))
    if not unit > 0:
        return []
    return [
        replace(
            o,
            relative=o.gradient_evaluations / unit,
            on_front=not any(
                other.mean > o.mean and other.gradient_evaluations <= 1.001 * o.gradient_evaluations
                for other in options
            ),
        )
        for o in sorted(options, key=lambda o: (o.gradient_evaluations, o.mean))
    ]


def figure_of(options: tuple[Option, ...], baseline: str, score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a cell: score against cost, a line along the epochs of each baseline."""
    names = list(dict.fromkeys(option.cell for option in options))
    ends = [_ends(options, name) for name in names]
    span = max(high - low for low, high in ends)
    most = max(option.relative for option in options)
    traces: list[Trace] = []
    axes: Axes = {}
    for panel, (name, (low, high)) in enumerate(zip(names, ends, strict=True)):
        here = [option for option in options if option.cell == name]
        for role in dict.fromkeys(option.role for option in here if option.method == baseline):
            longer = [option for option in here if option.role == role]
            dash = "dot" if keeps_last(role) else "solid"
            traces.append(
                scatter(
                    x=theme.rounded([option.relative for option in longer]),
                    y=theme.rounded([theme.in_points(option.mean) for option in longer]),
                    mode="lines",
                    line={"color": theme.style_of(baseline).color, "width": 1.5, "dash": dash},
                    hoverinfo="skip",
                    **anchors(panel),
                )
            )
        traces += _traces(positions(here, baseline), low, panel, score)
        axes[axis("x", panel)] = {
            "title": {"text": "gradients, × base"},
            "tickvals": [1, 2] if most < 2.5 else None,
            "ticktext": ["1×", "2×"] if most < 2.5 else None,
            "range": [0.65, max(2.0, most) + 0.35],
        }
        axes[axis("y", panel)] = {"range": window(low, high, span), "nticks": 6}
    titles = [theme.wrapped(name, 22) for name in names]
    return lay_out(traces, titles, grid_of_cells(len(titles)), axes, y_title=score.axis("test"))


def positions(options: list[Option], baseline: str) -> list[tuple[Option, float]]:
    """Return where each option of a cell is drawn: at its cost, moved aside where another one stands already."""
    placed: list[tuple[Option, float]] = []
    for option in sorted(options, key=lambda option: option.method != baseline):
        neighbours = sum(abs(other.relative - option.relative) < 0.1 for other, _ in placed)
        step = 0.14 * ((neighbours + 1) // 2)
        placed.append((option, option.relative + (step if neighbours % 2 else -step)))
    return placed


def _ends(options: tuple[Option, ...], cell: str) -> tuple[float, float]:
    here = [option for option in options if option.cell == cell]
    values = [v for option in here for v in option.scores]
    return min(foot(values), *(option.mean for option in here)), max(values)


def _traces(placed: list[tuple[Option, float]], floor: float, panel: int, score: Score) -> tuple[Trace, Trace]:
    colors = [theme.style_of(option.method).color for option, _ in placed]
    seeds = scatter(
        x=theme.rounded([x for option, x in placed for _ in option.scores]),
        y=theme.rounded([theme.in_points(max(floor, v)) for option, _ in placed for v in option.scores]),
        mode="markers",
        marker={
            "symbol": "line-ew",
            "size": 7,
            "line": {
                "color": [
                    theme.faded(color, 0.4)
                    for color, (option, _) in zip(colors, placed, strict=True)
                    for _ in option.scores
                ],
                "width": 1.5,
            },
        },
        hoverinfo="skip",
        **anchors(panel),
    )
    means = scatter(
        x=theme.rounded([x for _, x in placed]),
        y=theme.rounded([theme.in_points(option.mean) for option, _ in placed]),
        mode="markers",
        marker={
            "symbol": [theme.style_of(option.method).symbol for option, _ in placed],
            "size": 10,
            "color": [
                theme.PAPER if option.is_open else color for color, (option, _) in zip(colors, placed, strict=True)
            ],
            "line": {"color": colors, "width": 2},
        },
        hoverinfo="text",
        hovertext=[_hover(option, score) for option, _ in placed],
        **anchors(panel),
    )
    return seeds, means


def _hover(option: Option, score: Score) -> str:
    return (
        f"<b>{theme.plot_text(option.name)}</b><br>{score.text(option.mean)}, n = {len(option.scores)}"
        f"<br>{theme.large(option.gradient_evaluations)} gradient evaluations, {theme.ratio(option.relative)}"
    )


def table_of(options: tuple[Option, ...], score: Score) -> Table:
    """Return the options as a table."""
    return Table(
        "front",
        f"Cost and mean test {score.name} of every tuned method, and of every baseline with its weights and length.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            numeric("Gradient evaluations", "gradient_evaluations"),
            numeric("× base", "relative_cost"),
            numeric(f"Test {score.full}", "test_score"),
            numeric("n", "n"),
            Column("On the front", "on_front"),
        ),
        tuple(
            (
                Entry(option.cell),
                Entry(option.name, method=option.method),
                Entry(theme.large(option.gradient_evaluations), option.gradient_evaluations),
                Entry(theme.ratio(option.relative), option.relative),
                Entry(score.text(option.mean), option.mean),
                Entry(str(len(option.scores)), len(option.scores)),
                Entry("yes" if option.on_front else "no"),
            )
            for option in options
        ),
    )


def ahead_of_baseline(options: tuple[Option, ...], baseline: str) -> dict[str, tuple[int, int]]:
    """Return, by contender, in how many cells its mean is above every baseline's that costs no more, and of how "
    "many."""
    tally: dict[str, tuple[int, int]] = {}
    for option in sorted(options, key=lambda option: list(METHODS).index(option.method)):
        held_against = [
            other
            for other in options
            if (other.cell, other.method) == (option.cell, baseline) and other.relative <= 1.02 * option.relative
        ]
        if option.method != baseline and held_against:
            won, total = tally.get(option.name, (0, 0))
            ahead = all(option.mean > other.mean for other in held_against)
            tally[option.name] = (won + ahead, total + 1)
    return tally


def heading_of(baseline: str, ahead: Mapping[str, tuple[int, int]]) -> str:
    """State in how many problems each method has a higher mean than every baseline that costs no more."""
    if not ahead:
        return f"No method has been measured beside a {baseline} that costs no more"
    clauses = [f"{method} in {won} of {total}" for method, (won, total) in ahead.items()]
    return f"The mean is above that of every {baseline} that costs no more: {prose.listed(clauses)}"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    findings, score = sources.findings, sources.score
    data = options_of(sources.confirmed, findings.baseline, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data, findings.baseline, score)
    looks = {
        (option.method, option.is_open, option.role if option.method == findings.baseline else option.name)
        for option in data
    }
    names = sorted(looks, key=lambda look: (findings.methods.index(look[0]), look[1], look[2]))
    return Chart(
        id="front",
        heading=heading_of(findings.baseline, ahead_of_baseline(data, findings.baseline)),
        reading=(
            f"Up is better, right is dearer. The lines are what more epochs alone buy {findings.baseline}, with its "
            "best epoch or with its last weights (dotted): a method above both at its own cost is worth its compute."
        ),
        caption=(
            f"Mean test {score.name} over {prose.numbers(len(option.scores) for option in data)} {sources.units}, each "
            "a small tick, of the weights that every run stands by; no interval is drawn here, as paired gains with "
            "theirs are in the forest plot. Cost counts forward and backward passes of training; markers at the same "
            "cost stand side by side."
        ),
        keys=tuple(Key(name, method, "open" if is_open else "filled") for method, is_open, name in names),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, score), "runs.parquet"),
    )
