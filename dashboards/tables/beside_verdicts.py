"""The tables beside the verdict: other δ, whether gains add up, and the selected settings."""

from collections.abc import Mapping, Sequence

from dashboards import prose, theme
from dashboards.cells import LabelledCell
from dashboards.contenders import label_of, unit_of
from dashboards.score import Score, score_in, score_of
from dashboards.tables import columns
from dashboards.tables.table import Table
from dashboards.tables.verdicts import who
from study.findings import DeltaStrip, Findings
from study.plan.selection import Selection

MOST_SELECTIONS = 200  # one a replicate and contender of every problem


def delta_table(findings: Findings, cells: Mapping[str, LabelledCell]) -> Table:
    """Return the verdicts at other δ, of the effects whose verdict changes along the strip."""
    methods, order = list(findings.methods), list(cells)
    rows = sorted(_changing(findings), key=lambda item: (order.index(item[0].cell), methods.index(item[0].method)))
    strips = [strip for strip, _ in rows]
    tried = zip(_multiples(strips), zip(*(strip.verdicts for strip in strips), strict=True), strict=True)
    along = [(head, [verdict for _, verdict in verdicts]) for head, verdicts in tried]
    return columns.table_of(
        "deltas",
        f"Verdicts at other regions of practical equivalence; the study's is {prose.deltas(findings)}.",
        (
            *who(findings, cells, [(strip.cell, strip.method, budgets) for strip, budgets in rows]),
            *(columns.marked(*head, found, map(theme.VERDICT_ICONS.__getitem__, found)) for head, found in along),
        ),
        groups=[strip.cell for strip in strips],
    )


def deltas_heading(findings: Findings) -> str:
    """State how many verdicts change along the strips of δ."""
    changing, strips = len(_changing(findings)), findings.delta_strips
    total = len({(strip.cell, strip.method, strip.verdicts) for strip in strips})
    tried = [times for times, _ in _multiples(strips)]
    span = f"between {tried[0]} and {tried[-1]}" if tried else "with δ"
    return f"{changing} of {prose.things(total, 'verdict')} change somewhere {span}"


def _changing(findings: Findings) -> list[tuple[DeltaStrip, list[str]]]:
    """Return the strips along which the verdict changes, each with the budgets that share it, primary first."""
    found: dict[tuple[object, ...], tuple[DeltaStrip, list[str]]] = {}
    for strip in sorted(findings.delta_strips, key=lambda strip: strip.budget != findings.primary_budget):
        if len({verdict for _, verdict in strip.verdicts}) > 1:
            found.setdefault((strip.cell, strip.method, strip.verdicts), (strip, []))[1].append(strip.budget)
    return list(found.values())


def _multiples(strips: Sequence[DeltaStrip]) -> list[tuple[str, str]]:
    """Return the multiples of δ that were tried, the same in every strip, in words and as names of the download."""
    tried = [delta for delta, _ in strips[0].verdicts] if strips else []
    times = [delta / tried[len(tried) // 2] for delta in tried]
    return [(f"{one:g} × δ", f"delta_times_{one:g}") for one in times]


def interaction_table(findings: Findings, cells: Mapping[str, LabelledCell]) -> Table:
    """Return (WASAM − SAM) − (SWA − SGD) by cell, at equal epochs, with the four means that it is made of."""
    known = [i for i in findings.interactions if i.n and i.cell in cells]
    means = [dict(i.means) for i in known]
    score, own = score_of(findings), [score_in(findings, cells[i.cell].task) for i in known]
    gains = [(i.mean, i.ci95) for i in known]
    return columns.table_of(
        "interactions",
        f"Mean test {score.name} of the four methods, and what is left of both gains when they are "
        f"combined{score.direction}.",
        (
            columns.words("Problem", "problem", [cells[i.cell].label for i in known]),
            *(
                columns.scores(score, name, f"test_score_{name}", [of.get(name) for of in means], own)
                for name in dict.fromkeys(name for of in means for name in of)
            ),
            *columns.estimates("Interaction", "interaction", gains, texts=columns.gains_in_units(own, gains)),
            columns.numbers("p", "p", [i.p for i in known], theme.p_value),
            columns.counts("n", "n", [i.n for i in known]),
            columns.units(own),
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


def selection_table(findings: Findings, cells: Mapping[str, LabelledCell]) -> Table:
    """Return the frozen configurations of every replicate, with a flag on every value at the edge of its range."""
    order = list(cells)
    known = [chosen for chosen in findings.selections if chosen.cell in cells]
    rows = sorted(known, key=lambda s: (order.index(s.cell), label_of(s), s.replicate))
    score, own = score_of(findings), [score_in(findings, cells[s.cell].task) for s in rows]
    others = columns.words("Other hyper-parameters", "others", [_others(s) or "none" for s in rows])
    edges = [", ".join(s.at_edge).replace("_", " ") or "no" for s in rows]
    return columns.table_of(
        "selections",
        "Configurations that validation picked in each replicate and the confirm stage re-trained.",
        (
            columns.words("Problem", "problem", [cells[s.cell].label for s in rows]),
            columns.methods("Contender", "contender", [s.method for s in rows], list(map(label_of, rows))),
            columns.counts("Replicate", "replicate", [s.replicate for s in rows]),
            columns.numbers("Epochs", "epochs_factor", [s.epochs_factor for s in rows], "{:g}×".format),
            columns.numbers("Learning rate", "learning_rate", [s.learning_rate for s in rows]),
            columns.numbers("rho", "rho", [s.rho for s in rows]),
            *([others] if any(map(_others, rows)) else []),
            columns.words(
                "Weights when tuned",
                "weights",
                [weights_in_words(s.weights, s.weights_epoch) for s in rows],
                [s.weights for s in rows],
            ),
            columns.counts("Chosen from", "candidates", [s.candidates for s in rows]),
            columns.scores(score, "Validation", "val_score", [s.val_score for s in rows], own),
            columns.counts("Trials", "trials", [s.trials for s in rows]),
            columns.marked("At an edge", "at_edge", edges, [theme.EDGE_ICON if s.at_edge else "" for s in rows]),
            columns.units(own),
        ),
        groups=[s.cell for s in rows],
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
