"""The tables beside the verdict: other δ, whether gains add up, and the selected settings."""

from collections.abc import Mapping, Sequence

from dashboards import prose, theme
from dashboards.cells import Cell, short_budget
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, numeric
from dashboards.tables.verdicts import scale_of
from study.findings import DeltaStrip, Findings
from study.plan.selection import Selection
from study.stats import Interaction


def delta_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return the verdicts at other δ, of the effects whose verdict changes along the strip."""
    methods, order = list(findings.methods), list(cells)
    strips = sorted(_changing(findings), key=lambda item: (order.index(item[0].cell), methods.index(item[0].method)))
    deltas = sorted({delta for strip, _ in strips for delta, _ in strip.verdicts})
    return Table(
        "deltas",
        f"Verdicts at other regions of practical equivalence; the study's is δ = {theme.threshold(findings.delta)}.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("At equal …", "budget"),
            *(Column(_delta_title(delta, findings.delta), f"delta_{delta:g}") for delta in deltas),
        ),
        tuple(
            (
                Entry(cells[strip.cell].label),
                Entry(strip.method, method=strip.method),
                Entry("either" if len(budgets) > 1 else short_budget(budgets[0]), "+".join(budgets)),
                *(_strip_entry(dict(strip.verdicts).get(delta)) for delta in deltas),
            )
            for strip, budgets in strips
        ),
        tuple(i for i, (strip, _) in enumerate(strips) if i == 0 or strips[i - 1][0].cell != strip.cell),
    )


def delta_counts(findings: Findings) -> tuple[int, int, float, float]:
    """Return how many distinct verdicts change along their strip, of how many, and the lowest and highest δ tried."""
    deltas = [delta for strip in findings.delta_strips for delta, _ in strip.verdicts] or [findings.delta]
    total = len({(strip.cell, strip.method, strip.verdicts) for strip in findings.delta_strips})
    return len(_changing(findings)), total, min(deltas), max(deltas)


def deltas_heading(changing: int, total: int, lowest: float, highest: float) -> str:
    """State how many verdicts change along the strips of δ."""
    return (
        f"{changing} of {prose.things(total, 'verdict')} change somewhere between δ = {theme.threshold(lowest)} and "
        f"δ = {theme.threshold(highest)} points"
    )


def _changing(findings: Findings) -> list[tuple[DeltaStrip, list[str]]]:
    """Return the strips along which the verdict changes, each with the budgets that share it, primary first."""
    found: dict[tuple[object, ...], tuple[DeltaStrip, list[str]]] = {}
    for strip in sorted(findings.delta_strips, key=lambda strip: strip.budget != findings.primary_budget):
        if len({verdict for _, verdict in strip.verdicts}) > 1:
            found.setdefault((strip.cell, strip.method, strip.verdicts), (strip, []))[1].append(strip.budget)
    return list(found.values())


def _delta_title(delta: float, own: float) -> str:
    return f"δ = {theme.threshold(delta)}" + (" (the study's)" if delta == own else "")


def _strip_entry(verdict: str | None) -> Entry:
    return Entry("–") if verdict is None else Entry(verdict, icon=theme.VERDICT_ICONS[verdict])


def interaction_table(
    interactions: Sequence[Interaction], delta: float, cells: Mapping[str, Cell], score: Score
) -> Table:
    """Return (WASAM − SAM) − (SWA − SGD) by cell, with the four means that it is made of."""
    known = [i for i in interactions if i.n]
    methods = list(dict.fromkeys(name for i in known for name, _ in i.means))
    scale = scale_of(((i.mean, i.ci95) for i in known), delta)
    return Table(
        "interactions",
        f"Mean test {score.name} of the four methods, and what is left of both gains when they are combined.",
        (
            Column("Problem", "problem"),
            *(numeric(score.head(name), f"test_score_{name}") for name in methods),
            numeric("Interaction [95 % CI]", "interaction"),
            Column("Interval", ""),
            numeric("p", "p"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(cells[i.cell].label if i.cell in cells else i.cell),
                *(Entry(score.text(dict(i.means).get(name)), dict(i.means).get(name)) for name in methods),
                Entry(theme.gain_within(i.mean, i.ci95), i.mean),
                Entry("", span=scale.span(i.mean, i.ci95, "")),
                Entry(theme.p_value(i.p), i.p),
                Entry(str(i.n), i.n),
            )
            for i in known
        ),
    )


def interaction_heading(means: Sequence[tuple[float, tuple[float, float]]]) -> str:
    """State in how many problems the two gains overlap, add more, or just add up, by the 95 % interval."""
    overlap = sum(ci[1] < 0 for _, ci in means)
    more = sum(ci[0] > 0 for _, ci in means)
    rest = len(means) - overlap - more
    return (
        f"Together, SAM and averaging give less than the sum of their gains in {overlap}, more in {more}, and no "
        f"difference from the sum is shown in {rest} of {prose.things(len(means), 'problem')}"
    )


def selection_table(selections: Sequence[Selection], cells: Mapping[str, Cell], score: Score) -> Table:
    """Return the frozen configurations, with a flag on every value at the edge of its range."""
    return Table(
        "selections",
        "Configurations that validation picked and the confirm stage re-trained.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            numeric("Epochs", "epochs_factor"),
            numeric("Learning rate", "learning_rate"),
            numeric("rho", "rho"),
            Column("Weights", "weights"),
            numeric(score.head("Validation"), "val_score"),
            numeric("Trials", "trials"),
            Column("At an edge", "at_edge"),
        ),
        tuple(
            (
                Entry(cells[s.cell].label if s.cell in cells else s.cell),
                Entry(s.method, method=s.method),
                Entry(f"{s.epochs_factor:g}×", s.epochs_factor),
                Entry(theme.number(s.learning_rate), s.learning_rate),
                Entry(theme.number(s.rho), s.rho),
                Entry(weights_in_words(s.weights), s.weights),
                Entry(score.text(s.val_score), s.val_score),
                Entry(str(s.trials), s.trials),
                Entry(", ".join(s.at_edge).replace("_", " ") or "no", icon=theme.EDGE_ICON if s.at_edge else ""),
            )
            for s in selections
        ),
        tuple(i for i, s in enumerate(selections) if i == 0 or selections[i - 1].cell != s.cell),
    )


def selections_heading(flagged: int, total: int) -> str:
    """State how many selected configurations lie at an edge of the searched space."""
    if not flagged:
        return f"None of the {total} selected configurations lies at the edge of the searched space"
    return f"{flagged} of {total} selected configurations lie at the edge of the searched space"


def selection_reading(score: Score) -> str:
    """Say how the table of selections is read."""
    return (
        "A value in the outer 5 % of its range suggests that the best setting may lie outside it. Validation "
        f"{score.name} is the best of all trials, so it flatters every method alike."
    )


def weights_in_words(weights: str) -> str:
    """Say a set of weights: ``swa@0.75`` is "average from 75 %"."""
    kind, _, start = weights.partition("@")
    if kind != "swa":
        return weights
    try:
        return f"average from {float(start):.0%}".replace("%", " %")
    except ValueError:
        return weights
