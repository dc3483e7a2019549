"""What did the good runs have in common? Every tune run as one line across its settings and its score.

The lines are drawn as ordinary scatter traces, not as plotly's parcoords: that needs WebGL, which printing, the SVG
download and the dark colours do without, and it shows no values under the pointer.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from dashboards import theme
from dashboards.cells import Cell
from dashboards.figures.panels import Arrangement, Axes, Grid, anchor, anchors, axis, foot, lay_out
from dashboards.figures.radii import Radii, radii_of
from dashboards.figures.traces import Figure, Trace, scatter
from dashboards.figures.tried import LAST, Run, start_words
from dashboards.limits import most
from dashboards.score import Score
from dashboards.tables import MOST_MADE, Column, Entry, Table, numeric
from study.methods import FAMILIES, last_of

MOST_DRAWN = 150  # lines a panel, four points each; fewer in a study of many problems
BEST_SHARE = 0.25  # of a problem's runs: drawn strongly


@dataclass(frozen=True, slots=True)
class Setting:
    """A searched setting with an upright axis of its own: logarithmic, 0 apart at the foot."""

    name: str
    read: Callable[[Run], float]
    scale: Radii

    @property
    def ends(self) -> tuple[str, str]:
        """What the lower and the upper end of the axis stand for."""
        lowest = "0" if self.scale.zero else theme.number(10**self.scale.low)
        return lowest, theme.number(10**self.scale.high)


def settings_of(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """Return the learning rate and rho, and the weight decay where it differs between the runs of a problem."""
    given: list[tuple[str, Callable[[Run], float]]] = [
        ("learning rate", lambda run: run.learning_rate),
        ("rho", lambda run: run.rho if FAMILIES[run.family].rule else 0.0),
    ]
    decays = {(run.cell, run.weight_decay) for run in runs if theme.known(run.weight_decay)}
    if len(decays) > len({cell for cell, _ in decays}):
        given.append(("weight decay", lambda run: run.weight_decay if theme.known(run.weight_decay) else 0.0))
    return tuple(Setting(name, read, radii_of(map(read, runs))) for name, read in given)


@dataclass(frozen=True, slots=True)
class Bundle:
    """All tune runs of one problem; ``cut`` is the score that the best quarter reaches, ``floor`` the lowest drawn."""

    cell: str
    runs: tuple[Run, ...]
    cut: float
    floor: float
    best: float
    drawn_every: int


def bundles_of(runs: Iterable[Run], cells: Mapping[str, Cell]) -> tuple[Bundle, ...]:
    """Return one bundle a problem."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.cell in cells:
            groups.setdefault(run.cell, []).append(run)
    found = []
    for name in cells:
        if name in groups:
            scores = sorted((run.score for run in groups[name]), reverse=True)
            cut = scores[max(1, math.ceil(BEST_SHARE * len(scores))) - 1]
            step = -(-len(scores) // most(MOST_DRAWN, len(groups)))
            found.append(Bundle(cells[name].label, tuple(groups[name]), cut, foot(scores), scores[0], step))
    return tuple(found)


def best_families(bundles: Iterable[Bundle]) -> dict[str, tuple[int, int]]:
    """Return, by family, how many of the runs in the best quarters are its own, and how many runs it has in all."""
    tally: dict[str, tuple[int, int]] = {}
    for bundle in bundles:
        for run in bundle.runs:
            best, total = tally.get(run.family, (0, 0))
            tally[run.family] = (best + (run.score >= bundle.cut), total + 1)
    return tally


def figure_of(bundles: tuple[Bundle, ...], score: Score) -> tuple[Figure, Arrangement]:
    """Draw one panel a problem: an upright axis a setting, one line a run, the best quarter strong."""
    settings = settings_of([run for bundle in bundles for run in bundle.runs])
    names = [*(setting.name for setting in settings), "averaged from", "validation"]
    traces: list[Trace] = []
    axes: Axes = {}
    shapes: list[dict[str, object]] = []
    for panel, bundle in enumerate(bundles):
        shapes += [
            {"type": "line", "xref": anchor("x", panel), "yref": anchor("y", panel), "x0": x, "x1": x, "y0": 0, "y1": 1,
             "layer": "below", "line": {"color": theme.MUTED, "width": 1}}
            for x in range(len(names))
        ]  # fmt: skip
        for strong in (False, True):
            for family in dict.fromkeys(run.family for run in bundle.runs):
                drawn = [
                    run
                    for run in bundle.runs[:: bundle.drawn_every]
                    if run.family == family and (run.score >= bundle.cut) == strong
                ]
                if drawn:
                    traces.append(_lines(bundle, drawn, settings, panel, score, strong=strong))
        traces.append(_ends(bundle, settings, panel, score))
        axes[axis("x", panel)] = {
            "tickvals": list(range(len(names))),
            "ticktext": [name.replace(" ", "<br>") for name in names],
            "range": [-0.32, len(names) - 0.68],
            "showgrid": False,
            "ticks": "",
            "tickangle": 0,
            "tickfont": {"color": theme.INK, "size": 11},
        }
        axes[axis("y", panel)] = {"visible": False, "range": [-0.16, 1.16]}
    grid = Grid(
        columns=3, narrow_columns=1, row=210, narrow_row=190, left=14, narrow_left=8, gap=96, x_gap=0.05,
        y_labels="all", at_least=2, bottom=56,
    )  # fmt: skip
    return lay_out(traces, [theme.wrapped(bundle.cell, 34) for bundle in bundles], grid, axes, shapes=shapes)


def heights(run: Run, bundle: Bundle, settings: Sequence[Setting]) -> list[float]:
    """Return where a run crosses the upright axes, as shares of their height."""
    value = (max(run.score, bundle.floor) - bundle.floor) / max(bundle.best - bundle.floor, 1e-9)
    return [*(setting.scale.share(setting.read(run)) for setting in settings), run.start, value]


def _lines(
    bundle: Bundle, runs: list[Run], settings: Sequence[Setting], panel: int, score: Score, *, strong: bool
) -> Trace:
    style, count = theme.style_of(last_of(runs[0].family)), len(settings) + 2
    silent = [""] * (count - 1)  # the words stand at the score alone: at every axis they would be most of the chart
    return scatter(
        x=[x for _ in runs for x in (*range(count), None)],
        y=[y for run in runs for y in (*theme.rounded(heights(run, bundle, settings)), None)],
        mode="lines+markers",
        line={"color": theme.faded(style.color, 0.85 if strong else 0.16), "width": 1.8 if strong else 1},
        marker={
            "symbol": style.symbol,
            "size": 5 if strong else 3,
            "color": theme.faded(style.color, 0.9 if strong else 0.2),
        },
        hoverinfo="text",
        hovertext=[text for run in runs for text in (*silent, _hover(run, score), "")],
        **anchors(panel),
    )


def _ends(bundle: Bundle, settings: Sequence[Setting], panel: int, score: Score) -> Trace:
    """Write what the lower and the upper end of every axis stand for."""
    texts = [
        *(setting.ends for setting in settings),
        ("0\u202f%", "last"),
        (score.text(bundle.floor, 1), score.text(bundle.best, 1)),
    ]
    return scatter(
        x=[x for x in range(len(texts)) for _ in (0, 1)],
        y=[-0.02, 1.02] * len(texts),
        mode="text",
        text=[text for pair in texts for text in pair],
        textposition=["bottom center", "top center"] * len(texts),
        textfont={"color": theme.MUTED, "size": 10},
        cliponaxis=False,
        hoverinfo="skip",
        **anchors(panel),
    )


def _hover(run: Run, score: Score) -> str:
    rho = f", rho {theme.number(run.rho)}" if FAMILIES[run.family].rule else ""
    weights = "last weights" if run.start == LAST else f"averaged from {start_words(run.start)}"
    return (
        f"<b>{theme.plot_text(last_of(run.family))}</b>, trial {run.trial}<br>learning rate "
        f"{theme.number(run.learning_rate)}{rho}<br>{weights}: validation {score.text(run.score)}"
    )


def table_of(bundles: tuple[Bundle, ...], score: Score) -> Table:
    """Return one row a run."""
    return Table(
        "parallel",
        "The tune runs at equal epochs: settings, the weights that validation prefers and their validation score.",
        (
            Column("Problem", "problem"),
            Column("Trajectory", "family"),
            numeric("Trial", "trial"),
            numeric("Learning rate", "learning_rate"),
            numeric("rho", "rho"),
            numeric("Weight decay", "weight_decay"),
            numeric("Averaged from", "average_start"),
            numeric(score.head("Validation"), "val_score"),
            Column("Best quarter", "best_quarter"),
        ),
        tuple(
            (
                Entry(bundle.cell),
                Entry(last_of(run.family), run.family),
                Entry(str(run.trial), run.trial),
                Entry(theme.number(run.learning_rate), run.learning_rate),
                Entry(theme.number(run.rho), run.rho),
                Entry(theme.number(run.weight_decay), run.weight_decay if theme.known(run.weight_decay) else None),
                Entry(start_words(run.start), run.start),
                Entry(score.text(run.score), run.score),
                Entry("yes" if run.score >= bundle.cut else "no"),
            )
            for bundle, run in islice(((bundle, run) for bundle in bundles for run in bundle.runs), MOST_MADE)
        ),
        total=sum(len(bundle.runs) for bundle in bundles),
    )
