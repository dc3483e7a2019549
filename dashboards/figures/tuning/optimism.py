"""How much does a tuned score flatter? The winner's validation score minus that of the same settings on fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.contenders import keeps_last, longer, method_of
from dashboards.figures.kit import dots
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement
from dashboards.figures.kit.traces import Figure
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from study.findings import Findings

_PANEL = "tuned minus fresh"


@dataclass(frozen=True, slots=True)
class Flattery:
    """One method: the optimism of each problem that was confirmed, and its mean; fractions."""

    method: str
    epochs_factor: float
    trials: int
    by_cell: tuple[tuple[str, float], ...]
    mean: float
    ci95: tuple[float, float]

    @property
    def name(self) -> str:
        """Role, and how many times the epochs where that may be more than one."""
        if self.method in theme.methods() and self.epochs_factor != 1:
            return f"{self.method}, up to {self.epochs_factor:g}× epochs"
        return longer(self.method, self.epochs_factor)

    @property
    def filled(self) -> bool:
        """Whether its marker is filled; open are those of longer training and of a baseline's last weights."""
        return self.epochs_factor == 1 and not keeps_last(self.method)


def flattery_of(findings: Findings, cells: Mapping[str, Cell]) -> tuple[Flattery, ...]:
    """Return the optimism of every method that has a confirmed problem, in the study's order."""
    return tuple(
        Flattery(
            o.method,
            o.epochs_factor,
            o.trials,
            tuple((cells[name].label, value) for name, value in o.by_cell if name in cells and theme.known(value)),
            o.mean,
            o.ci95,
        )
        for o in sorted(
            findings.optimism, key=lambda o: (findings.methods.index(method_of(o.method)), o.epochs_factor, o.method)
        )
        if theme.known(o.mean)
    )


def figure_of(data: Sequence[Flattery], score: Score) -> tuple[Figure, Arrangement]:
    """Draw one row a method: the mean with its interval, every problem a small tick."""
    marks = [
        dots.Dot(
            panel=_PANEL,
            row=f.name,
            method=f.method,
            mean=theme.in_points(f.mean),
            ci95=(theme.in_points(f.ci95[0]), theme.in_points(f.ci95[1])),
            values=tuple(theme.in_points(value) for _, value in f.by_cell),
            hover=(
                f"<b>{theme.plot_text(f.name)}</b>, best of {f.trials} trials<br>{theme.gain(f.mean)} {theme.unit()}, "
                f"95 % CI {theme.interval(f.ci95)}, n = {len(f.by_cell)}"
            ),
            filled=f.filled,
        )
        for f in data
    ]
    return dots.figure_of(marks, {_PANEL: dots.Scale(f"validation {score.name}, {score.points}", holds=0.0)})


def table_of(data: Sequence[Flattery], score: Score) -> Table:
    """Return one row a method and problem."""
    return Table(
        "optimism",
        f"Validation {score.name} of the tuned winner minus that of the same settings on fresh seeds.",
        (
            Column("Method", "method"),
            Column("Problem", "problem"),
            numeric("Trials", "trials"),
            numeric(f"Optimism, {theme.unit()}", "optimism"),
            numeric("Mean over problems [95 % CI]", "mean"),
        ),
        tuple(
            (
                Entry(f.name, method=f.method),
                Entry(cell),
                Entry(str(f.trials), f.trials),
                Entry(theme.gain(value), value),
                Entry(theme.gain_within(f.mean, f.ci95), f.mean),
            )
            for f in data
            for cell, value in f.by_cell
        ),
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    data = flattery_of(sources.findings, sources.cells)
    if not data:
        return None
    figure, narrow = figure_of(data, sources.score)
    return Chart(
        id="optimism",
        heading=(
            f"The tuned validation {sources.score.name} exceeds that on fresh seeds by "
            f"{prose.span([f.mean for f in data], theme.gain)} {theme.unit()}, in the mean over problems"
        ),
        reading=(
            "Right of zero, picking the best trial has flattered: the same settings do worse on seeds that did not "
            "pick them. That is why no verdict rests on the tune stage."
        ),
        caption=(
            f"Mean over {prose.numbers(len(f.by_cell) for f in data)} problems, each the mean over its replicates and "
            "a small tick, with its 95 % Student-t interval; the winner of "
            f"{' or '.join(map(str, sorted({f.trials for f in data})))} trials."
        ),
        keys=(
            *(Key(f.name, f.method, "filled" if f.filled else "open") for f in data),
            Key("one problem", "", "tick"),
        ),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, sources.score), "findings.json"),
    )
