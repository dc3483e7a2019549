"""The verdict, seen twice: the overview of methods × cells, and every comparison in full with its small drawing."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dashboards import theme
from dashboards.cells import BUDGET_WORDS, Cell
from dashboards.comparisons import Distinct, distinct
from dashboards.score import score_of
from dashboards.tables.table import Column, Entry, Span, Table, numeric
from study.findings import Findings
from study.stats import Effect

MOST_ROWS = 1600  # of comparisons in full; the overview holds them all, at the primary budget


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
        f"Gain over tuned {findings.baseline} in {score_of(findings).percentage_points}, by problem, method and "
        "budget.",
        (
            Column("Problem", "problem"),
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
    """One cell × method under the primary budget, as drawn in the overview.

    ``elsewhere``: what the verdict is under another budget, in words, where it differs.
    """

    method: str
    verdict: str
    words: str
    gain: str
    interval: str
    span: Span | None
    elsewhere: str


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
            (
                cells[name].label,
                tuple(_matrix_entry(effects.get((name, m)), m, scale, findings.effects) for m in methods),
            )
            for name in names
        ),
    )


def _matrix_entry(effect: Effect | None, method: str, scale: Scale, effects: Iterable[Effect]) -> MatrixEntry:
    if effect is None:
        return MatrixEntry(method, "insufficient data", "not measured", "–", "–", None, "")
    elsewhere = [
        f"{other.verdict} at {BUDGET_WORDS.get(other.budget, other.budget)}"
        for other in effects
        if _is(other, effect.cell, method) and other.verdict != effect.verdict
    ]
    return MatrixEntry(
        method=method,
        verdict=effect.verdict,
        words=verdict_words(effect),
        gain=theme.gain(effect.mean),
        interval=theme.interval(effect.ci95),
        span=scale.span(effect.mean, effect.ci95, method),
        elsewhere="; ".join(elsewhere),
    )
