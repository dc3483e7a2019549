"""The tables that carry the verdict: per method and cell, other δ, selected settings, whether gains add up."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import theme
from dashboards.cells import Cell, short_budget
from dashboards.effects import Distinct, distinct
from dashboards.tables import Column, Entry, Span, Table, numeric
from study.findings import DeltaStrip, Findings
from study.selection import Selection
from study.stats import Effect, Interaction


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps gains to positions in the small drawings of a table; one scale a table, so that rows compare."""

    low: float
    high: float
    delta: float

    def span(self, mean: float, ci: tuple[float, float], method: str) -> Span | None:
        """Return the drawing of one interval; None without a mean."""
        if not theme.known(mean):
            return None
        low, high = ci if theme.known(ci[0]) and theme.known(ci[1]) else (mean, mean)
        band = (self._at(-self.delta), self._at(self.delta))
        return Span(self._at(low), self._at(mean), self._at(high), self._at(0.0), band, method)

    def _at(self, gain: float) -> float:
        return round(min(1.0, max(0.0, (gain - self.low) / (self.high - self.low))), 4)


def scale_of(gains: Iterable[tuple[float, tuple[float, float]]], delta: float) -> Scale:
    """Return a scale that holds every mean, every interval and ±δ."""
    values = [v for mean, ci in gains for v in (mean, *ci) if theme.known(v)]
    low, high = min([*values, -delta]), max([*values, delta])
    margin = 0.05 * (high - low)
    return Scale(low - margin, high + margin, delta)


def scale_of_effects(effects: Iterable[Effect], delta: float) -> Scale:
    """Return a scale for effects; an interval with a diverged run is cut where the others end, or at its mean."""
    nothing = (math.nan, math.nan)
    return scale_of(((e.mean, nothing if e.diverged_method + e.diverged_baseline else e.ci95) for e in effects), delta)


def verdict_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return one row a cell, method and budget, the primary budget first; budgets that coincide share a row."""
    merged = distinct(findings.effects, findings.primary_budget)
    scale = scale_of_effects(findings.effects, findings.delta)
    rows: list[tuple[Entry, ...]] = []
    groups = []
    for name in cells:
        here = [found for method in findings.methods for found in merged if _is(found.effect, name, method)]
        if here:
            groups.append(len(rows))
        rows += [_verdict_row(found, cells[name].label, scale) for found in here]
    return Table(
        "verdicts",
        f"Gain over tuned {findings.baseline} in percentage points, by problem, method and budget.",
        (
            Column("Problem", "problem", wide=True),
            Column("Method", "method"),
            Column("At equal …", "budget"),
            Column("Verdict", "verdict"),
            numeric("Gain [95 % CI]", "gain"),
            Column("Interval", ""),
            numeric("p (Holm)", "p_holm"),
            numeric("n", "n"),
            numeric("Detectable", "minimum_detectable"),
            numeric("Cost", "cost_ratio"),
        ),
        tuple(rows),
        tuple(groups),
    )


def _is(effect: Effect, cell: str, method: str) -> bool:
    return (effect.cell, effect.method) == (cell, method)


def _verdict_row(found: Distinct, label: str, scale: Scale) -> tuple[Entry, ...]:
    effect = found.effect
    return (
        Entry(label),
        Entry(effect.method, method=effect.method),
        Entry("either" if len(found.budgets) > 1 else found.budget_words, "+".join(found.budgets)),
        Entry(verdict_words(effect), effect.verdict, icon=theme.VERDICT_ICONS[effect.verdict]),
        Entry(theme.gain_within(effect.mean, effect.ci95), effect.mean),
        Entry("", span=scale.span(effect.mean, effect.ci95, effect.method)),
        Entry(theme.p_value(effect.p_holm), effect.p_holm),
        Entry(str(effect.n) if effect.n >= effect.planned else f"{effect.n} of {effect.planned}", effect.n),
        Entry(theme.points(effect.minimum_detectable), effect.minimum_detectable),
        Entry(theme.ratio(effect.cost_ratio), effect.cost_ratio),
    )


def verdict_words(effect: Effect) -> str:
    """Return the verdict, with "clearly" where the whole interval lies beyond δ."""
    return f"clearly {effect.verdict}" if effect.clear else effect.verdict


@dataclass(frozen=True, slots=True)
class MatrixEntry:
    """One cell × method under the primary budget, as drawn in the overview."""

    method: str
    verdict: str
    words: str
    gain: str
    interval: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """The overview: methods across, cells down."""

    methods: tuple[str, ...]
    rows: tuple[tuple[str, tuple[MatrixEntry, ...]], ...]


def matrix_of(findings: Findings, cells: Mapping[str, Cell]) -> Matrix:
    """Return the overview under the primary budget."""
    primary = {(e.cell, e.method): e for e in findings.effects if e.budget == findings.primary_budget}
    others = {(e.cell, e.method): e for e in findings.effects}
    effects = others | primary  # a method measured under one budget only is shown under that one
    methods = tuple(m for m in findings.methods if any(key[1] == m for key in effects))
    scale = scale_of_effects(effects.values(), findings.delta)
    names = [name for name in cells if any(key[0] == name for key in effects)]
    return Matrix(
        methods,
        tuple(
            (cells[name].label, tuple(_matrix_entry(effects.get((name, m)), m, scale) for m in methods))
            for name in names
        ),
    )


def _matrix_entry(effect: Effect | None, method: str, scale: Scale) -> MatrixEntry:
    if effect is None:
        return MatrixEntry(method, "insufficient data", "not measured", "–", "–", None)
    span = scale.span(effect.mean, effect.ci95, method)
    words = verdict_words(effect)
    return MatrixEntry(method, effect.verdict, words, theme.gain(effect.mean), theme.interval(effect.ci95), span)


def delta_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return the verdicts at other δ, of the effects whose verdict changes along the strip."""
    methods, order = list(findings.methods), list(cells)
    strips = sorted(_changing(findings), key=lambda item: (order.index(item[0].cell), methods.index(item[0].method)))
    deltas = sorted({delta for strip, _ in strips for delta, _ in strip.verdicts})
    return Table(
        "deltas",
        f"Verdicts at other regions of practical equivalence; the study's is δ = {theme.threshold(findings.delta)}.",
        (
            Column("Problem", "problem", wide=True),
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


def interaction_table(interactions: Sequence[Interaction], delta: float, cells: Mapping[str, Cell]) -> Table:
    """Return (WASAM − SAM) − (SWA − SGD) by cell, with the four means that it is made of."""
    known = [i for i in interactions if i.n]
    methods = list(dict.fromkeys(name for i in known for name, _ in i.means))
    scale = scale_of(((i.mean, i.ci95) for i in known), delta)
    return Table(
        "interactions",
        "Mean test accuracy of the four methods, and what is left of both gains when they are combined.",
        (
            Column("Problem", "problem", wide=True),
            *(numeric(name, f"test_accuracy_{name}") for name in methods),
            numeric("Interaction [95 % CI]", "interaction"),
            Column("Interval", ""),
            numeric("p", "p"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(cells[i.cell].label if i.cell in cells else i.cell),
                *(Entry(theme.percent(dict(i.means).get(name)), dict(i.means).get(name)) for name in methods),
                Entry(theme.gain_within(i.mean, i.ci95), i.mean),
                Entry("", span=scale.span(i.mean, i.ci95, "")),
                Entry(theme.p_value(i.p), i.p),
                Entry(str(i.n), i.n),
            )
            for i in known
        ),
    )


def selection_table(selections: Sequence[Selection], cells: Mapping[str, Cell]) -> Table:
    """Return the frozen configurations, with a flag on every value at the edge of its range."""
    return Table(
        "selections",
        "Configurations that validation picked and the confirm stage re-trained.",
        (
            Column("Problem", "problem", wide=True),
            Column("Method", "method"),
            numeric("Epochs", "epochs_factor"),
            numeric("Learning rate", "learning_rate"),
            numeric("rho", "rho"),
            Column("Weights", "weights"),
            numeric("Validation", "val_accuracy"),
            numeric("Trials", "trials"),
            Column("At an edge", "at_edge"),
        ),
        tuple(
            (
                Entry(cells[s.cell].label if s.cell in cells else s.cell),
                Entry(s.method, method=s.method),
                Entry(f"{s.epochs_factor}×", s.epochs_factor),
                Entry(theme.number(s.learning_rate), s.learning_rate),
                Entry(theme.number(s.rho), s.rho),
                Entry(weights_in_words(s.weights), s.weights),
                Entry(theme.percent(s.val_accuracy), s.val_accuracy),
                Entry(str(s.trials), s.trials),
                Entry(", ".join(s.at_edge).replace("_", " ") or "no", icon=theme.EDGE_ICON if s.at_edge else ""),
            )
            for s in selections
        ),
        tuple(i for i, s in enumerate(selections) if i == 0 or selections[i - 1].cell != s.cell),
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
