"""Does a rho carry over? The regret of tuning rho in one problem and using it in another.

Fields grow with the square of the problems: many of them would make a map that nobody reads, and most of the page.
"""

import heapq
import statistics
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.figures.kit import fields
from dashboards.figures.kit.chart import Chart, Key, Sources
from dashboards.figures.kit.panels import Arrangement
from dashboards.figures.kit.traces import Figure
from dashboards.score import Score
from dashboards.tables.table import MOST_ROWS, Column, Entry, Table, most, numeric
from study.findings import Findings

BLIND = "a blind quarter"
MOST_DRAWN = 24  # problems


@dataclass(frozen=True, slots=True)
class Transfer:
    """One method: regrets as fractions, row by row the source, column by column the target; ``chance`` a target."""

    method: str
    cells: tuple[str, ...]
    rho: tuple[float, ...]
    regret: tuple[tuple[float, ...], ...]
    chance: tuple[float, ...]

    @property
    def elsewhere(self) -> tuple[float, float]:
        """The mean regret over all pairs of different problems, and the mean one of a blind quarter."""
        pairs = [r for i, row in enumerate(self.regret) for j, r in enumerate(row) if i != j]
        return statistics.fmean(pairs), statistics.fmean(self.chance)


def transfers_of(findings: Findings, cells: Mapping[str, Cell]) -> tuple[Transfer, ...]:
    """Return the transfers between at least two problems, problems in the report's order and names."""
    found = []
    for t in findings.rho_transfers:
        order = sorted(
            (i for i, name in enumerate(t.cells) if name in cells), key=lambda i: list(cells).index(t.cells[i])
        )
        if len(order) > 1:
            found.append(
                Transfer(
                    method=t.method,
                    cells=tuple(cells[t.cells[i]].label for i in order),
                    rho=tuple(t.rho[i] for i in order),
                    regret=tuple(tuple(t.regret[i][j] for j in order) for i in order),
                    chance=tuple(t.chance[i] for i in order),
                )
            )
    return tuple(found)


def drawn_of(transfers: Sequence[Transfer], limit: int = MOST_DRAWN) -> tuple[Transfer, ...]:
    """Return the transfers between the ``limit`` problems in which a rho from elsewhere costs most, in their order.

    What it costs in a problem is the mean regret over all others and all methods, those that are left out as well.
    """
    lost: dict[str, list[float]] = {}
    for t in transfers:
        for j, target in enumerate(t.cells):
            lost.setdefault(target, []).extend(row[j] for i, row in enumerate(t.regret) if i != j)
    kept = set(heapq.nlargest(limit, lost, key=lambda name: statistics.fmean(lost[name])))
    return tuple(found for t in transfers if (found := _between(t, kept)).cells)


def _between(t: Transfer, kept: Set[str]) -> Transfer:
    at = [i for i, name in enumerate(t.cells) if name in kept]
    return Transfer(
        t.method,
        tuple(t.cells[i] for i in at),
        tuple(t.rho[i] for i in at),
        tuple(tuple(t.regret[i][j] for j in at) for i in at),
        tuple(t.chance[i] for i in at),
    )


def figure_of(transfers: Sequence[Transfer]) -> tuple[Figure, Arrangement]:
    """Draw one panel a method, problems numbered; the last row is what a blind quarter of the trials costs."""
    most = max(v for t in transfers for row in (*t.regret, t.chance) for v in row)
    names = list(dict.fromkeys(cell for t in transfers for cell in t.cells))
    rows = [f"{number}. {name}" for number, name in enumerate(names, 1)] + [BLIND]
    matrices = [
        fields.Matrix(
            theme.plot_text(t.method),
            tuple(
                fields.Field(
                    row=names.index(source) if source in names else len(names),
                    column=names.index(target),
                    color=theme.sequential(regret, most, theme.LOSS),
                    text=theme.points(regret),
                    hover=_hover(rho, target, regret),
                )
                for source, rho, row in zip((*t.cells, BLIND), (*t.rho, None), (*t.regret, t.chance), strict=True)
                for target, regret in zip(t.cells, row, strict=True)
            ),
        )
        for t in transfers
    ]
    columns = [str(number) for number in range(1, len(names) + 1)]
    return fields.figure_of(matrices, rows, columns, x_title="used in problem", row_height=38)


def _hover(rho: float | None, target: str, regret: float) -> str:
    given = BLIND if rho is None else f"rho {theme.number(rho)}"
    return f"{given} in {theme.plot_text(target)}: −{theme.points(regret)}"


def table_of(transfers: Sequence[Transfer], score: Score, limit: int) -> Table:
    """Return one row a pair of different problems, with the chance level of the target.

    Of more than ``limit`` pairs only those with the largest regret are made, the largest first.
    """
    pairs = [(t, i, j) for t in transfers for i in range(len(t.cells)) for j in range(len(t.cells)) if i != j]
    total = len(pairs)
    if total > limit:
        pairs = heapq.nlargest(limit, pairs, key=lambda pair: pair[0].regret[pair[1]][pair[2]])
    return Table(
        "rho-transfer",
        f"Validation {score.name} lost when rho is taken from another problem and the rest is tuned anew"
        f"{', the largest loss first' if total > limit else ''}.",
        (
            Column("Method", "method"),
            Column("rho from", "source"),
            numeric("rho", "rho"),
            Column("Used in", "target"),
            numeric(f"Regret, {theme.unit()}", "regret"),
            numeric(f"By chance, {theme.unit()}", "chance_regret"),
        ),
        tuple(
            (
                Entry(t.method),
                Entry(t.cells[i]),
                Entry(theme.number(t.rho[i]), t.rho[i]),
                Entry(t.cells[j]),
                Entry(theme.points(t.regret[i][j]), t.regret[i][j]),
                Entry(theme.points(t.chance[j]), t.chance[j]),
            )
            for t, i, j in pairs
        ),
        total=total,
    )


def chart_of(sources: Sources) -> Chart | None:
    """Return the chart, None without data."""
    findings, cells, score = sources.findings, sources.cells, sources.score
    data = transfers_of(findings, cells)
    if not data:
        return None
    drawn = drawn_of(data)
    figure, narrow = figure_of(drawn)
    problems, shown = (len({name for t in some for name in t.cells}) for some in (data, drawn))
    left_out = (
        f" Drawn are the {shown} of {problems} problems in which a rho from elsewhere costs most; all of them are in "
        "findings.json."
        if shown < problems
        else ""
    )
    clauses = [
        f"{theme.points(regret)} {theme.unit()} with {t.method} (a blind choice {theme.points(chance)})"
        for t, (regret, chance) in ((t, t.elsewhere) for t in data)
    ]
    trials = sorted({curve.trials[-1] for curve in findings.tuning_curves if curve.trials and curve.epochs_factor == 1})
    return Chart(
        id="rho-transfer",
        heading=f"A rho tuned in another problem costs, in the mean, {prose.listed(clauses)}",
        reading=(
            "Row: the problem that rho was tuned in; column: the problem, by its number, that it is used in with the "
            f"rest tuned anew. A field is the validation {score.name} lost, in {theme.unit()}; near the last row it "
            "knew nothing."
        ),
        caption=(
            f"{prose.numbers(trials)} trials a replicate of a problem, its regrets averaged over replicates; the "
            "quarter nearest in log rho stands for a rho, earlier trials win ties. The last row: a quarter that is "
            f"picked blindly. No interval: each field is one comparison on validation.{left_out}"
        ),
        keys=(Key("loss", "", "field", theme.sequential(1, 1, theme.LOSS)),),
        figure=figure,
        narrow=narrow,
        table=sources.fitted(table_of(data, score, most(MOST_ROWS, len(cells))), "findings.json"),
    )
