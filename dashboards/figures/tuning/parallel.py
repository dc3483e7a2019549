"""What did the good runs have in common? Every tune run as one line across its settings and its score.

The lines are drawn as ordinary scatter traces, not as plotly's parcoords: that needs WebGL, which printing, the SVG
download and the dark colours do without, and it shows no values under the pointer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pandas as pd

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Grid, Panel, lay_out, reach
from dashboards.figures.kit.traces import Figure, Trace, hover_of, line, scatter, upright
from dashboards.figures.kit.tried import NO_AVERAGE, Run, runs_in, start_words, tried_of
from dashboards.figures.tuning.radii import Radii, radii_of
from dashboards.score import Score
from dashboards.tables import columns
from dashboards.tables.table import MOST_MADE, MOST_RUN_ROWS, Table, most

MIN_TRIALS = 20  # fewer lines than this show no pattern
MOST_DRAWN = 150  # lines a panel, four points each; fewer in a study of many problems
BEST_SHARE = 0.25  # of a problem's runs: drawn strongly


@dataclass(frozen=True, slots=True)
class Setting:
    """A searched setting with an upright axis of its own: logarithmic, 0 apart at the foot."""

    name: str
    scale: Radii

    @property
    def ends(self) -> tuple[str, str]:
        """What the lower and the upper end of the axis stand for."""
        lowest = "0" if self.scale.zero else theme.number(10**self.scale.low)
        return lowest, theme.number(10**self.scale.high)

    def height(self, run: Run) -> float:
        """Return where a run crosses the axis, as a share of its height; 0 stands for what the task does not have."""
        value = getattr(run, self.name.replace(" ", "_"))
        return self.scale.share(value if theme.known(value) else 0.0)


def settings_of(runs: pd.DataFrame) -> tuple[Setting, ...]:
    """Return the learning rate and rho, and the weight decay where it differs between the runs of a problem."""
    names = ["learning_rate", "rho"]
    if runs.groupby("cell", observed=True)["weight_decay"].nunique().gt(1).any():
        names.append("weight_decay")
    return tuple(Setting(name.replace("_", " "), radii_of(runs[name].fillna(0.0).tolist())) for name in names)


@dataclass(frozen=True, slots=True)
class Bundle:
    """All tune runs of one problem, as a table with the columns of `Run`; every ``drawn_every``-th is drawn.

    ``cut`` is the score that the best quarter reaches; ``floor`` and ``best`` are the worst and the best drawn.
    """

    cell: str
    runs: pd.DataFrame
    cut: float
    floor: float
    best: float
    drawn_every: int


def bundles_of(runs: pd.DataFrame, cells: Mapping[str, LabelledCell]) -> tuple[Bundle, ...]:
    """Return one bundle a problem. ``runs`` as in `dashboards.figures.kit.tried.tried_of`."""
    groups = {str(cell): own for cell, own in runs.groupby("cell", observed=True) if cell in cells}
    found = []
    for name in cells:
        if name in groups:
            scores = sorted(groups[name]["score"].tolist(), reverse=True)
            cut = scores[max(1, math.ceil(BEST_SHARE * len(scores))) - 1]
            step = -(-len(scores) // most(MOST_DRAWN, len(groups)))
            found.append(Bundle(cells[name].label, groups[name], cut, *reach(scores), step))
    return tuple(found)


def best_families(bundles: Iterable[Bundle]) -> dict[str, tuple[int, int]]:
    """Return, by family, how many of the runs in the best quarters are its own, and how many runs it has in all."""
    runs = pd.concat([bundle.runs.assign(best=bundle.runs["score"] >= bundle.cut) for bundle in bundles])
    found = runs.groupby("family", observed=True)["best"].agg(["sum", "size"])
    return {str(family): (int(best), int(total)) for family, best, total in found.itertuples()}


def figure_of(bundles: tuple[Bundle, ...], score: Score) -> Figure:
    """Draw one panel a problem: an upright axis a setting, one line a run, the best quarter strong."""
    settings = settings_of(pd.concat([bundle.runs for bundle in bundles]))
    names = [*(setting.name for setting in settings), "averaged from", "validation"]
    x = {
        "tickvals": list(range(len(names))),
        "ticktext": [name.replace(" ", "<br>") for name in names],
        "range": [-0.32, len(names) - 0.68],
        "showgrid": False,
        "ticks": "",
        "tickangle": 0,
        "tickfont": {"color": theme.INK, "size": 11},
    }
    y = {"visible": False, "range": [-0.16, 1.16]}
    rules = [upright(at, line(theme.MUTED, 1)) | {"yref": "y"} for at in range(len(names))]
    panels = [
        Panel(theme.wrapped(bundle.cell, 34), _traces(bundle, settings, score), x, y, rules) for bundle in bundles
    ]
    grid = Grid(
        columns=3, narrow_columns=1, row=210, narrow_row=190, left=14, narrow_left=8, gap=96, x_gap=0.05,
        y_labels="all", at_least=2, bottom=56,
    )  # fmt: skip
    return lay_out(panels, grid)


def _traces(bundle: Bundle, settings: Sequence[Setting], score: Score) -> list[Trace]:
    drawn = runs_in(bundle.runs[:: bundle.drawn_every])
    traces = []
    for strong in (False, True):
        for family in dict.fromkeys(run.family for run in drawn):
            alike = [run for run in drawn if run.family == family and (run.score >= bundle.cut) == strong]
            if alike:
                traces.append(_lines(bundle, alike, settings, score, strong=strong))
    return [*traces, _ends(bundle, settings, score)]


def heights(run: Run, bundle: Bundle, settings: Sequence[Setting]) -> list[float]:
    """Return where a run crosses the upright axes, as shares of their height."""
    value = (min(max(run.score, bundle.floor), bundle.best) - bundle.floor) / max(bundle.best - bundle.floor, 1e-9)
    return [*(setting.height(run) for setting in settings), run.start, value]


def _lines(bundle: Bundle, runs: list[Run], settings: Sequence[Setting], score: Score, *, strong: bool) -> Trace:
    style, count = theme.style_of(theme.methods().last_of(runs[0].family)), len(settings) + 2
    silent = [""] * (count - 1)  # the words stand at the score alone: at every axis they would be most of the chart
    return scatter(
        [x for _ in runs for x in (*range(count), None)],
        [y for run in runs for y in (*heights(run, bundle, settings), None)],
        "lines+markers",
        [text for run in runs for text in (*silent, _hover(run, score), "")],
        line=line(theme.faded(style.color, 0.85 if strong else 0.16), 1.8 if strong else 1),
        marker={
            "symbol": style.symbol,
            "size": 5 if strong else 3,
            "color": theme.faded(style.color, 0.9 if strong else 0.2),
        },
    )


def _ends(bundle: Bundle, settings: Sequence[Setting], score: Score) -> Trace:
    """Write what the lower and the upper end of every axis stand for."""
    texts = [
        *(setting.ends for setting in settings),
        ("0\u202f%", "none"),
        (score.text(bundle.floor, 1), score.text(bundle.best, 1)),
    ]
    return scatter(
        [x for x in range(len(texts)) for _ in (0, 1)],
        [-0.02, 1.02] * len(texts),
        "text",
        text=[text for pair in texts for text in pair],
        textposition=["bottom center", "top center"] * len(texts),
        textfont={"color": theme.MUTED, "size": 10},
        cliponaxis=False,
    )


def _hover(run: Run, score: Score) -> str:
    rho = f", rho {theme.number(run.rho)}" if theme.methods().families[run.family].rule else ""
    weights = "not averaged" if run.start == NO_AVERAGE else f"averaged from {start_words(run.start)}"
    return hover_of(
        theme.methods().last_of(run.family),
        f"trial {run.trial}",
        f"learning rate {theme.number(run.learning_rate)}{rho}",
        f"{weights}: validation {score.full_text(run.score)}",
    )


def table_of(bundles: tuple[Bundle, ...], score: Score) -> Table:
    """Return one row a run."""
    rows = list(islice(((bundle, run) for bundle in bundles for run in runs_in(bundle.runs)), MOST_MADE))
    runs = [run for _, run in rows]
    starts = [run.start for run in runs]
    return columns.table_of(
        "parallel",
        "The tune runs at equal epochs: settings, the weights that validation prefers and their validation "
        f"{score.name}{score.direction}.",
        (
            columns.words("Problem", "problem", [bundle.cell for bundle, _ in rows]),
            columns.words(
                "Trajectory",
                "family",
                [theme.methods().last_of(run.family) for run in runs],
                [run.family for run in runs],
            ),
            columns.counts("Trial", "trial", [run.trial for run in runs]),
            columns.numbers("Learning rate", "learning_rate", [run.learning_rate for run in runs]),
            columns.numbers("rho", "rho", [run.rho for run in runs]),
            columns.numbers("Weight decay", "weight_decay", [run.weight_decay for run in runs]),
            columns.numbers("Averaged from", "average_start", starts, start_words),
            columns.scores(score, "Validation", "val_score", [run.score for run in runs]),
            columns.words(
                "Best quarter", "best_quarter", ["yes" if run.score >= bundle.cut else "no" for bundle, run in rows]
            ),
            columns.units([score] * len(rows)),
        ),
        total=sum(len(bundle.runs) for bundle in bundles),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data and below twenty trials a search."""
    searches = [chosen.trials for chosen in sources.findings.selections if chosen.lengths == (1.0,)]
    enough, score = max(searches, default=0) >= MIN_TRIALS, sources.score
    data = bundles_of(tried_of(sources.frame), sources.cells) if enough else ()
    if not data:
        return None
    clauses = [
        f"{best} of {total} runs with {theme.methods().last_of(family)} steps"
        for family, (best, total) in best_families(data).items()
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
            f"{prose.numbers(len(bundle.runs) for bundle in data)} runs a panel, those of all replicates, hence no "
            "interval. Rates and radii on log axes over all that was tried; better scores stand higher, those "
            f"far off the others at the ends.{f' One run in {step} is drawn.' if step > 1 else ''}"
        ),
        keys=tuple(
            Key(f"{theme.methods().last_of(family)} steps", theme.methods().last_of(family), "both")
            for family in dict.fromkeys(family for bundle in data for family in bundle.runs["family"].unique())
        ),
        figure=figure_of(data, score),
        table=sources.fitted(table_of(data, score), "runs.parquet", MOST_RUN_ROWS),
    )
