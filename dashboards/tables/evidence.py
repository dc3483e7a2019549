"""The tables beside the verdict: other δ, whether gains add up, and the selected settings."""

from collections.abc import Mapping, Sequence

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.contenders import label_of, short_budgets, unit_of
from dashboards.score import Score
from dashboards.tables.table import Column, Entry, Table, hidden, number_entry, numeric
from study.findings import DeltaStrip, Findings
from study.plan.selection import Selection

MOST_SELECTIONS = 200  # one a replicate and contender of every problem


def delta_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return the verdicts at other δ, of the effects whose verdict changes along the strip."""
    methods, order = list(findings.methods), list(cells)
    strips = sorted(_changing(findings), key=lambda item: (order.index(item[0].cell), methods.index(item[0].method)))
    return Table(
        "deltas",
        f"Verdicts at other regions of practical equivalence; the study's is {prose.deltas(findings)}.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Budget", "budget"),
            *(Column(*heads) for heads in _delta_heads(findings, [strip for strip, _ in strips])),
        ),
        tuple(
            (
                Entry(cells[strip.cell].label),
                Entry(strip.method, method=strip.method),
                Entry(short_budgets(findings, budgets), "+".join(budgets)),
                *(Entry(verdict, icon=theme.VERDICT_ICONS[verdict]) for _, verdict in strip.verdicts),
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
        f"δ = {theme.threshold(highest)} {theme.unit()}"
    )


def _changing(findings: Findings) -> list[tuple[DeltaStrip, list[str]]]:
    """Return the strips along which the verdict changes, each with the budgets that share it, primary first."""
    found: dict[tuple[object, ...], tuple[DeltaStrip, list[str]]] = {}
    for strip in sorted(findings.delta_strips, key=lambda strip: strip.budget != findings.primary_budget):
        if len({verdict for _, verdict in strip.verdicts}) > 1:
            found.setdefault((strip.cell, strip.method, strip.verdicts), (strip, []))[1].append(strip.budget)
    return list(found.values())


def _delta_heads(findings: Findings, strips: Sequence[DeltaStrip]) -> list[tuple[str, str]]:
    """Return the heads of the columns: δ itself, or its multiples where the strips are about several."""
    tried = {tuple(delta for delta, _ in strip.verdicts) for strip in strips}
    if len(tried) > 1:
        middle = next(iter(tried))
        own = middle[len(middle) // 2]
        return [(f"{delta / own:g} × δ", f"delta_times_{delta / own:g}") for delta in middle]
    own = next(iter(findings.deltas.values()), findings.delta)
    if len(set(findings.deltas.values())) > 1:  # one of several problems' alone
        own = next((t[len(t) // 2] for t in tried), own)
    return [
        (f"δ = {theme.threshold(delta)}" + (" (the study's)" if delta == own else ""), f"delta_{delta:g}")
        for delta in next(iter(tried), ())
    ]


def interaction_table(findings: Findings, cells: Mapping[str, Cell], score: Score) -> Table:
    """Return (WASAM − SAM) − (SWA − SGD) by cell, at equal epochs, with the four means that it is made of."""
    known = [i for i in findings.interactions if i.n]
    methods = list(dict.fromkeys(name for i in known for name, _ in i.means))
    return Table(
        "interactions",
        f"Mean test {score.name} of the four methods, and what is left of both gains when they are combined.",
        (
            Column("Problem", "problem"),
            *(numeric(score.head(name), f"test_score_{name}") for name in methods),
            numeric("Interaction [95 % CI]", "interaction"),
            *hidden("ci95_low", "ci95_high"),
            numeric("p", "p"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(cells[i.cell].label if i.cell in cells else i.cell),
                *(Entry(score.text(dict(i.means).get(name)), dict(i.means).get(name)) for name in methods),
                Entry(theme.gain_within(i.mean, i.ci95), i.mean),
                *map(number_entry, i.ci95),
                Entry(theme.p_value(i.p), i.p),
                Entry(str(i.n), i.n),
            )
            for i in known
        ),
    )


def interaction_reading(findings: Findings) -> str:
    """Say how the table of interactions is read."""
    one = "seed" if unit_of(findings) == "seed" else "replicate"
    return (
        f"(WASAM − SAM) − (SWA − SGD) in {theme.unit()}, per {one}, at equal epochs, each method with the weights that "
        "validation prefers in every run: below zero the two gains overlap, above zero they strengthen each other. 95 "
        "% Student-t interval, unadjusted."
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
    """Return the frozen configurations of every replicate, with a flag on every value at the edge of its range."""
    order = list(cells)
    selections = sorted(
        selections, key=lambda s: (order.index(s.cell) if s.cell in cells else len(order), label_of(s), s.replicate)
    )
    more = any(s.options or s.weight_decay is not None for s in selections)
    return Table(
        "selections",
        "Configurations that validation picked in each replicate and the confirm stage re-trained.",
        (
            Column("Problem", "problem"),
            Column("Contender", "contender"),
            numeric("Replicate", "replicate"),
            numeric("Epochs", "epochs_factor"),
            numeric("Learning rate", "learning_rate"),
            numeric("rho", "rho"),
            *([Column("Other hyper-parameters", "others")] if more else []),
            Column("Weights when tuned", "weights"),
            numeric("Chosen from", "candidates"),
            numeric(score.head("Validation"), "val_score"),
            numeric("Trials", "trials"),
            Column("At an edge", "at_edge"),
        ),
        tuple(
            (
                Entry(cells[s.cell].label if s.cell in cells else s.cell),
                Entry(label_of(s), method=s.method),
                Entry(str(s.replicate), s.replicate),
                Entry(f"{s.epochs_factor:g}×", s.epochs_factor),
                Entry(theme.number(s.learning_rate), s.learning_rate),
                Entry(theme.number(s.rho), s.rho),
                *([Entry(_others(s) or "none")] if more else []),
                Entry(weights_in_words(s.weights, s.weights_epoch), s.weights),
                Entry(str(s.candidates), s.candidates),
                Entry(score.text(s.val_score), s.val_score),
                Entry(str(s.trials), s.trials),
                Entry(", ".join(s.at_edge).replace("_", " ") or "no", icon=theme.EDGE_ICON if s.at_edge else ""),
            )
            for s in selections
        ),
        tuple(i for i, s in enumerate(selections) if i == 0 or selections[i - 1].cell != s.cell),
    )


def _others(chosen: Selection) -> str:
    """Name the hyper-parameters that few searches have: weight decay, and arguments of an optimizer."""
    decay = () if chosen.weight_decay is None else (("weight_decay", chosen.weight_decay),)
    return ", ".join(f"{name} = {theme.number(value)}" for name, value in (*decay, *chosen.options))


def selections_heading(flagged: int, total: int) -> str:
    """State how many selected configurations lie at an edge of the searched space."""
    if not flagged:
        return f"None of the {total} selected configurations lies at the edge of the searched space"
    return f"{flagged} of {total} selected configurations lie at the edge of the searched space"


def selection_reading(score: Score) -> str:
    """Say how the table of selections is read."""
    return (
        "A value in the outer 5 % of its range suggests that the best setting may lie outside it. Validation "
        f"{score.name} is the best of all trials, so it flatters every method alike. What is carried over is the "
        "configuration and its length; the weights are chosen anew in every confirm run."
    )


def weights_in_words(weights: str, epoch: int | None = None) -> str:
    """Say a set of weights: ``swa@0.75`` is "average from 75 %", ``best`` of epoch 12 is "best, epoch 12"."""
    kind, _, start = weights.partition("@")
    if kind == "best" and epoch is not None:
        return f"best, epoch {epoch}"
    if kind != "swa":
        return weights
    try:
        return f"average from {float(start):.0%}".replace("%", " %")
    except ValueError:
        return weights
