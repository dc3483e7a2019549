"""The verdict, seen three times: the overview of methods × cells, every comparison in full, every baseline of each."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.comparisons import Distinct, distinct
from dashboards.contenders import (
    budget_name,
    delta_of,
    excludes_zero,
    families_of,
    method_of,
    short_budgets,
    unit_words,
)
from dashboards.score import score_of
from dashboards.tables.table import Column, Entry, Span, Table, numeric
from study.findings import Findings
from study.stats import Effect

MOST_ROWS = 1600  # of comparisons in full; the overview holds them all, at the primary budget


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps gains to positions in the small drawings of a table; one scale a unit, so that rows compare.

    ``delta`` is the largest of the table's.
    """

    low: float
    high: float
    delta: float

    def span(self, mean: float, ci: tuple[float, float], method: str, delta: float | None = None) -> Span | None:
        """Return the drawing of one interval, with the zone of its own δ; None without a mean."""
        if not theme.known(mean):
            return None
        low, high = ci if theme.known(ci[0]) and theme.known(ci[1]) else (mean, mean)
        own = self.delta if delta is None else delta
        band = (self._at(-own), self._at(own))
        return Span(self._at(low), self._at(mean), self._at(high), self._at(0.0), band, method)

    def _at(self, gain: float) -> float:
        return round(min(1.0, max(0.0, (gain - self.low) / (self.high - self.low))), 4)


def scale_of(gains: Iterable[tuple[float, tuple[float, float]]], delta: float) -> Scale:
    """Return a scale that holds every mean, every interval and ±δ."""
    values = [v for mean, ci in gains for v in (mean, *ci) if theme.known(v)]
    low, high = min([*values, -delta]), max([*values, delta])
    margin = 0.05 * (high - low)
    return Scale(low - margin, high + margin, delta)


def most_delta(findings: Findings) -> float:
    """Return the largest δ of a study."""
    return max(findings.deltas.values(), default=findings.delta)


def scale_of_effects(effects: Iterable[Effect], delta: float) -> Scale:
    """Return a scale for effects; an interval with a diverged run is cut where the others end, or at its mean."""
    nothing = (math.nan, math.nan)
    return scale_of(((e.mean, nothing if e.diverged_method + e.diverged_baseline else e.ci95) for e in effects), delta)


def scales_of(findings: Findings, effects: Iterable[Effect]) -> dict[str, Scale]:
    """Return the scale of every task: those whose scores are counted in one unit share one."""
    effects = list(effects)
    measures = {task: score.measure for task, score in findings.scores.items()}
    by_measure: dict[str, list[Effect]] = {}
    for effect in effects:
        by_measure.setdefault(measures.get(effect.task, ""), []).append(effect)
    scales = {
        measure: scale_of_effects(some, max(delta_of(findings, effect.task) for effect in some))
        for measure, some in by_measure.items()
    }
    return {effect.task: scales[measures.get(effect.task, "")] for effect in effects}


def verdict_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return one row a cell, method and budget, the primary budget first; budgets that coincide share a row."""
    scales, wording = scales_of(findings, findings.effects), wording_of(findings)
    merged = _in_order(findings, cells)
    return Table(
        "verdicts",
        f"Gain over the strongest baseline in {score_of(findings).percentage_points}, by problem, method and budget.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Budget", "budget"),
            Column("Verdict", "verdict"),
            numeric("Gain [95 % CI]", "gain"),
            Column("Interval", ""),
            numeric("For new data", "ci95_new_data"),
            numeric("p (Holm)", "p_holm"),
            numeric("p (joint signs)", "p_max_t"),
            Column("Over the strongest", "baseline"),
            numeric("n", "n"),
            Column("Switched off", "off"),
            numeric("Chosen from", "candidates"),
            numeric("Better in [95 % CI]", "share_better"),
            numeric("sd", "sd"),
            numeric("of tuning", "sd_tuning"),
            numeric("of seeds", "sd_seed"),
            numeric("Detectable", "minimum_detectable"),
            numeric("Cost", "cost_ratio"),
        ),
        tuple(_verdict_row(findings, found, cells[found.effect.cell].label, scales, wording) for found in merged),
        _groups(merged),
    )


def _in_order(findings: Findings, cells: Mapping[str, Cell]) -> list[Distinct]:
    """Return the distinct comparisons by problem and method, the primary budget first."""
    order, methods = list(cells), list(findings.methods)
    known = [one for one in distinct(findings.effects, findings.primary_budget) if one.effect.cell in cells]
    return sorted(known, key=lambda one: (order.index(one.effect.cell), methods.index(one.effect.method)))


def _groups(found: Sequence[Distinct]) -> tuple[int, ...]:
    return tuple(i for i, one in enumerate(found) if i == 0 or found[i - 1].effect.cell != one.effect.cell)


def _verdict_row(
    findings: Findings, found: Distinct, label: str, scales: Mapping[str, Scale], wording: "Wording"
) -> tuple[Entry, ...]:
    effect = found.effect
    ends = (math.nan, math.nan) if effect.always_off else effect.ci95  # a spread of nothing is no interval
    low, high = effect.share_better_ci95
    within = f" [{100 * low:.0f}, {100 * high:.0f}]" if theme.known(low) else ""
    return (
        Entry(label),
        Entry(effect.method, method=effect.method),
        Entry(short_budgets(findings, found.budgets), "+".join(found.budgets)),
        Entry(wording.verdict(effect, found.budgets), effect.verdict, icon=theme.VERDICT_ICONS[effect.verdict]),
        Entry(theme.gain_within(effect.mean, ends), effect.mean),
        Entry("", span=scales[effect.task].span(effect.mean, ends, effect.method, delta_of(findings, effect.task))),
        Entry(theme.interval(effect.ci95_new_data), _both(effect.ci95_new_data)),
        Entry(theme.p_value(effect.p_holm), effect.p_holm),
        Entry(theme.p_value(effect.p_max_t), effect.p_max_t),
        Entry(effect.baseline),
        Entry(str(effect.n) if effect.n >= effect.planned else f"{effect.n} of {effect.planned}", effect.n),
        Entry(off_words(effect), effect.off),
        Entry(str(effect.candidates) if effect.candidates else "–", effect.candidates),
        Entry(f"{theme.percent(effect.share_better, 0)}{within}", effect.share_better),
        *(
            Entry(theme.points(value), value if theme.known(value) else None)
            for value in (effect.sd, effect.sd_tuning, effect.sd_seed, effect.minimum_detectable)
        ),
        Entry(theme.ratio(effect.cost_ratio), effect.cost_ratio if theme.known(effect.cost_ratio) else None),
    )


def _both(ends: tuple[float, float]) -> str | None:
    """Write an interval for the CSV; None where there is none."""
    return f"{ends[0]:.10g} to {ends[1]:.10g}" if theme.known(ends[0]) else None


def off_words(effect: Effect) -> str:
    """Say how often the method was switched off: "off in 5 of 10"; a dash where it never was."""
    return f"off in {effect.off} of {effect.n}" if effect.off else "–"


@dataclass(frozen=True, slots=True)
class Wording:
    """How the verdicts of a study are said: ``families`` are the sizes of its Holm families, by method and budget."""

    alpha: float
    families: Mapping[tuple[str, str], int]

    def verdict(self, effect: Effect, budgets: Sequence[str]) -> str:
        """Return the verdict with what belongs to it: its budgets, whether its size is sure, why it is not reached."""
        if effect.verdict in ("helps", "hurts"):
            size = "clear" if effect.clear else "size uncertain"
            return f"{effect.verdict} at {' and '.join(budgets)}, {size}"
        if effect.verdict == "no material effect" and effect.always_off:
            return "no material effect (always off)"
        if effect.verdict == "inconclusive" and excludes_zero(effect):
            return f"inconclusive{self._unproven(effect)}"
        return effect.verdict

    def _unproven(self, effect: Effect) -> str:
        """Say what stands between an interval that excludes zero and a verdict; "" if that is δ alone."""
        if effect.p_holm is None or effect.p_holm < self.alpha:
            return ""
        if effect.p < self.alpha:
            return f" after correction for {self.families.get((effect.method, effect.budget), 1)} cells"
        if effect.mean > 0:
            return ", not every baseline is beaten"
        return f" after correction for {len(effect.against)} baselines"


def wording_of(findings: Findings) -> Wording:
    """Return how the verdicts of a study are said."""
    return Wording(findings.alpha, families_of(findings))


def baseline_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return one row a comparison and baseline: what the method gains over it, tuned on its own."""
    merged = [one for one in _in_order(findings, cells) if one.effect.n]
    score = score_of(findings)
    rows = []
    for found in merged:
        effect = found.effect
        for each in effect.against:
            rows.append(
                (
                    Entry(cells[effect.cell].label),
                    Entry(effect.method, method=effect.method),
                    Entry(short_budgets(findings, found.budgets), "+".join(found.budgets)),
                    Entry(each.baseline, method=method_of(each.baseline.partition(",")[0])),
                    Entry(score.text(each.baseline_mean), each.baseline_mean),
                    Entry(theme.gain_within(each.mean, each.ci95), each.mean),
                    Entry(theme.p_value(each.p), each.p if theme.known(each.p) else None),
                    Entry("strongest" if each.baseline == effect.baseline else "–"),
                )
            )
    return Table(
        "baselines",
        f"Gain over every baseline in {score.percentage_points}; means over {unit_words(findings)}.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Budget", "budget"),
            Column("Baseline", "baseline"),
            numeric(f"Its test {score.full}", "baseline_score"),
            numeric("Gain [95 % CI]", "gain"),
            numeric("p", "p"),
            Column("Strongest", "strongest"),
        ),
        tuple(rows),
        tuple(i for i, row in enumerate(rows) if i == 0 or rows[i - 1][0].text != row[0].text),
    )


def baseline_heading(findings: Findings) -> str:
    """State which baselines are the strongest, and how often, under the primary budget."""
    primary = [e for e in findings.effects if e.budget == findings.primary_budget and e.n]
    counted = Counter(effect.baseline for effect in primary)
    told = [f"{name} in {number}" for name, number in counted.most_common()]
    if not told:
        return "No baseline has been measured yet"
    at = budget_name(findings, findings.primary_budget)
    return f"The strongest baseline at {at} is {prose.listed(told)} of {prose.things(len(primary), 'comparison')}"


def direct_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return methods against each other under the primary budget: one row a pair and problem."""
    known = [effect for effect in findings.direct if effect.n and effect.cell in cells]
    scales = scales_of(findings, known)
    return Table(
        "direct",
        f"Methods held against each other at {budget_name(findings, findings.primary_budget)}, in "
        f"{score_of(findings).percentage_points}.",
        (
            Column("Pair", "pair"),
            Column("Problem", "problem"),
            numeric("Gain [95 % CI]", "gain"),
            Column("Interval", ""),
            numeric("p (Holm)", "p_holm"),
            numeric("n", "n"),
        ),
        tuple(
            (
                Entry(f"{effect.method} − {effect.baseline}"),
                Entry(cells[effect.cell].label),
                Entry(theme.gain_within(effect.mean, effect.ci95), effect.mean),
                Entry(
                    "",
                    span=scales[effect.task].span(
                        effect.mean, effect.ci95, effect.method, delta_of(findings, effect.task)
                    ),
                ),
                Entry(theme.p_value(effect.p_holm), effect.p_holm),
                Entry(str(effect.n), effect.n),
            )
            for effect in known
        ),
        tuple(
            i
            for i, effect in enumerate(known)
            if i == 0 or (known[i - 1].method, known[i - 1].baseline) != (effect.method, effect.baseline)
        ),
    )  # fmt: skip


def direct_heading(findings: Findings) -> str:
    """State, pair by pair, the range of the mean gains over problems."""
    means: dict[str, list[float]] = {}
    for effect in findings.direct:
        if effect.n:
            means.setdefault(f"{effect.method} − {effect.baseline}", []).append(effect.mean)
    told = [f"{pair} {prose.span(values, theme.gain)}" for pair, values in means.items()]
    return f"Methods against each other, mean gains in {theme.unit()}: {prose.listed(told)}"


@dataclass(frozen=True, slots=True)
class MatrixEntry:
    """One cell × method under the primary budget, as drawn in the overview.

    ``baseline``: the strongest, that the gain is over; ``fine``: Holm's p, n, and how often the method was switched
    off, in words; ``elsewhere``: what the verdict is under another budget, where it differs.
    """

    method: str
    verdict: str
    words: str
    gain: str
    interval: str
    span: Span | None
    baseline: str
    fine: str
    elsewhere: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """The overview: methods across, cells down."""

    methods: tuple[str, ...]
    rows: tuple[tuple[str, tuple[MatrixEntry, ...]], ...]


def matrix_of(findings: Findings, cells: Mapping[str, Cell]) -> Matrix:
    """Return the overview under the primary budget."""
    primary = {(e.cell, e.method): e for e in findings.effects if e.budget == findings.primary_budget}
    effects = {(e.cell, e.method): e for e in findings.effects} | primary  # measured under one only: shown under that
    others: dict[tuple[str, str], list[Effect]] = {}
    for effect in findings.effects:
        others.setdefault((effect.cell, effect.method), []).append(effect)
    methods = tuple(m for m in findings.methods if any(key[1] == m for key in effects))
    scales, wording = scales_of(findings, effects.values()), wording_of(findings)
    names = [name for name in cells if any((name, method) in effects for method in methods)]

    def entry(name: str, method: str) -> MatrixEntry:
        effect = effects.get((name, method))
        if effect is None:
            return MatrixEntry(method, "insufficient data", "not measured", "–", "–", None, "", "", "")
        return _matrix_entry(findings, effect, others[name, method], scales[effect.task], wording)

    return Matrix(
        methods, tuple((cells[name].label, tuple(entry(name, method) for method in methods)) for name in names)
    )


def _matrix_entry(
    findings: Findings, effect: Effect, alike: Iterable[Effect], scale: Scale, wording: Wording
) -> MatrixEntry:
    elsewhere = [
        f"{other.verdict} at {budget_name(findings, other.budget)}"
        for other in alike
        if other.verdict != effect.verdict
    ]
    ends = (math.nan, math.nan) if effect.always_off else effect.ci95
    fine = [
        *([f"p {theme.p_value(effect.p_holm)}"] if effect.p_holm is not None else []),
        f"n = {effect.n}",
        *([off_words(effect)] if effect.off else []),
    ]
    return MatrixEntry(
        method=effect.method,
        verdict=effect.verdict,
        words=wording.verdict(effect, (effect.budget,)),
        gain=theme.gain(effect.mean),
        interval=theme.interval(ends),
        span=scale.span(effect.mean, ends, effect.method, delta_of(findings, effect.task)),
        baseline=effect.baseline if effect.n else "",
        fine=", ".join(fine),
        elsewhere="; ".join(elsewhere),
    )
