"""What does each method cost, and what would the same compute buy the baseline?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.confirmed import Confirmed
from dashboards.figures.kit.panels import Arrangement, Axes, anchors, axis, foot, grid_of_cells, lay_out, window
from dashboards.figures.kit.traces import Figure, Trace, scatter
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from study.specs.methods import METHODS


@dataclass(frozen=True, slots=True)
class Option:
    """One way to spend compute in one cell: a tuned method, or the baseline at twice its epochs.

    ``gradient_evaluations`` is the mean of a completed run (a diverged one stops early), ``relative`` the same over
    the baseline's at equal epochs; ``on_front``: no other option of the cell has a higher
    mean score at the same or a lower cost.
    """

    cell: str
    method: str
    epochs_factor: float
    gradient_evaluations: float
    relative: float
    scores: tuple[float, ...]
    mean: float
    on_front: bool

    @property
    def name(self) -> str:
        """Method, and how many times the epochs where that is more than one."""
        return self.method if self.epochs_factor == 1 else f"{self.method}, {self.epochs_factor:g}× epochs"


def options_of(runs: Iterable[Confirmed], baseline: str, cells: Mapping[str, Cell]) -> tuple[Option, ...]:
    """Compute every option of every cell that has its baseline at equal epochs."""
    found: dict[str, list[Option]] = {}
    for confirmed in runs:
        final = confirmed.final
        spent = [end.gradient_evaluations for end in final if end.status == "completed"]
        if not spent:
            continue
        chosen = confirmed.selection
        scores = tuple(end.test_score for end in final)
        option = Option(
            cell=cells[chosen.cell].label,
            method=chosen.method,
            epochs_factor=chosen.epochs_factor,
            gradient_evaluations=sum(spent) / len(spent),
            relative=float("nan"),
            scores=scores,
            mean=sum(scores) / len(scores),
            on_front=False,
        )
        found.setdefault(option.cell, []).append(option)
    return tuple(option for options in found.values() for option in _compared(options, baseline))


def _compared(options: list[Option], baseline: str) -> list[Option]:
    unit = next((o.gradient_evaluations for o in options if (o.method, o.epochs_factor) == (baseline, 1)), float("nan"))
    if not unit > 0:
        return []
    return [
        Option(
            o.cell,
            o.method,
            o.epochs_factor,
            o.gradient_evaluations,
            o.gradient_evaluations / unit,
            o.scores,
            o.mean,
            not any(
                other.mean > o.mean and other.gradient_evaluations <= 1.001 * o.gradient_evaluations
                for other in options
            ),
        )
        for o in sorted(options, key=lambda o: (o.gradient_evaluations, o.mean))
    ]


def figure_of(options: tuple[Option, ...], baseline: str, score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a cell: score against cost, a line along the baseline's epochs."""
    names = list(dict.fromkeys(option.cell for option in options))
    ends = [_ends(options, name) for name in names]
    span = max(high - low for low, high in ends)
    most = max(option.relative for option in options)
    traces: list[Trace] = []
    axes: Axes = {}
    for panel, (name, (low, high)) in enumerate(zip(names, ends, strict=True)):
        here = [option for option in options if option.cell == name]
        longer = [option for option in here if option.method == baseline]
        traces.append(
            scatter(
                x=theme.rounded([option.relative for option in longer]),
                y=theme.rounded([theme.in_points(option.mean) for option in longer]),
                mode="lines",
                line={"color": theme.style_of(baseline).color, "width": 1.5},
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
                color if option.epochs_factor == 1 else theme.PAPER
                for color, (option, _) in zip(colors, placed, strict=True)
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
        f"Cost and mean test {score.name} of every tuned method, and of the baseline at twice its epochs.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            numeric("Gradient evaluations", "gradient_evaluations"),
            numeric("× base", "relative_cost"),
            numeric(f"Test {score.name}{score.times}", "test_score"),
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
    """Return, by method, in how many cells its mean is above the baseline's at the same cost, and of how many."""
    tally: dict[str, tuple[int, int]] = {}
    for option in sorted(options, key=lambda option: list(METHODS).index(option.method)):
        equal = [
            other
            for other in options
            if (other.cell, other.method) == (option.cell, baseline)
            and abs(other.relative / option.relative - 1) < 0.02
        ]
        if option.method != baseline and equal:
            won, total = tally.get(option.method, (0, 0))
            tally[option.method] = (won + (option.mean > equal[0].mean), total + 1)
    return tally


def heading_of(baseline: str, ahead: Mapping[str, tuple[int, int]]) -> str:
    """State in how many problems each method has a higher mean than the baseline at the same cost."""
    if not ahead:
        return f"No method has been measured at a cost that {baseline} was measured at too"
    clauses = [f"{method} in {won} of {total}" for method, (won, total) in ahead.items()]
    return f"At equal cost, the mean is above that of {baseline}: {prose.listed(clauses)}"


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    findings, score = sources.findings, sources.score
    data = options_of(sources.confirmed, findings.baseline, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data, findings.baseline, score)
    names = sorted(
        {(option.method, option.epochs_factor, option.name) for option in data},
        key=lambda name: (findings.methods.index(name[0]), name[1]),
    )
    return Chart(
        id="front",
        heading=heading_of(findings.baseline, ahead_of_baseline(data, findings.baseline)),
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
        table=sources.fitted(table_of(data, score), "runs.parquet"),
    )
