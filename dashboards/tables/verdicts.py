"""The verdict, seen three times: the matrix of methods × problems, every comparison in full, every baseline of each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import Cell
from dashboards.comparisons import Distinct, distinct
from dashboards.contenders import (
    budget_name,
    excludes_zero,
    families_of,
    in_epochs,
    method_of,
    short_budgets,
    unit_words,
)
from dashboards.score import score_in, score_of, split_of
from dashboards.tables.table import Column, Entry, Table, hidden, number_entry, numeric
from study.findings import Findings
from study.stats import Effect

MOST_ROWS = 1600  # of comparisons in full; the matrix holds them all


def verdict_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return one row a cell, method and budget, the primary budget first; budgets that coincide share a row."""
    wording = wording_of(findings)
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
            *hidden("ci95_low", "ci95_high", "unit"),
            numeric("For new data", "ci95_new_data"),
            numeric("p (Holm)", "p_holm"),
            numeric("p (joint signs)", "p_max_t"),
            Column("Over the strongest", "baseline"),
            numeric("n", "n"),
            Column("Switched off", "off"),
            numeric("Chosen from", "candidates"),
            *hidden("val_examples"),
            numeric("Better in [95 % CI]", "share_better"),
            numeric("sd", "sd"),
            numeric("of tuning", "sd_tuning"),
            numeric("of seeds", "sd_seed"),
            numeric("Detectable", "minimum_detectable"),
            numeric("Cost", "cost_ratio"),
        ),
        tuple(_verdict_row(findings, found, cells[found.effect.cell], wording) for found in merged),
        _groups(merged),
    )


# Columns that a study alone can fill: budgets, what tuning chose, and what its records tell of spread and splits.
OF_A_STUDY = ("budget", "ci95_new_data", "off", "candidates", "val_examples", "sd_tuning", "sd_seed")


def comparison_reading(findings: Findings) -> str:
    """Say how to read the comparisons in full."""
    units, given = unit_words(findings), findings.origin is not None
    budget, of_the_budget = ("method", "") if given else ("method and budget", " of the budget")
    tests = "Student's t where runs are paired, Welch's where they are not" if given else "Student's t"
    tuned = (
        " For new data: the interval for data of that kind that nobody has seen, where replicates split one small data "
        "set anew (Nadeau and Bengio 2003). Switched off: where tuning made the method its baseline. Chosen from: sets "
        "of weights that validation chose from, on how many examples; with noisy labels they are worth much fewer."
    )
    parts = ", and the parts of it that tuning (with the split) and confirm seeds explain"
    return (
        f"Gains in {theme.unit()} over the strongest baseline{of_the_budget}, with plain 95 % intervals over {units} "
        f"({tests}); p is the largest over all baselines (of a loss that against the strongest, Bonferroni-adjusted), "
        f"Holm-adjusted within the {budget}. Joint signs: the same by flipping the signs of all gains of the method "
        f"together, a check.{'' if given else tuned} Better in: share of {units} with a gain. sd: of the gains"
        f"{'' if given else parts}. Detectable: the smallest true gain that would be found in 80 % of repetitions. "
        f"Cost: {'what a run costs' if given else 'gradient evaluations'} over those of that baseline."
    )


def n_words(effect: Effect) -> str:
    """Say how many units there are: "10", "9 of 10", "10 and 8" of two sides that are not paired."""
    if effect.apart is not None:
        return f"{len(effect.method_values)} and {len(effect.baseline_values)}"
    return str(effect.n) if effect.n >= effect.planned else f"{effect.n} of {effect.planned}"


def _in_order(findings: Findings, cells: Mapping[str, Cell]) -> list[Distinct]:
    """Return the distinct comparisons by problem and method, the primary budget first."""
    order, methods = list(cells), list(findings.methods)
    known = [one for one in distinct(findings.effects, findings.primary_budget) if one.effect.cell in cells]
    return sorted(known, key=lambda one: (order.index(one.effect.cell), methods.index(one.effect.method)))


def _groups(found: Sequence[Distinct]) -> tuple[int, ...]:
    return tuple(i for i, one in enumerate(found) if i == 0 or found[i - 1].effect.cell != one.effect.cell)


def _verdict_row(findings: Findings, found: Distinct, cell: Cell, wording: "Wording") -> tuple[Entry, ...]:
    effect, score = found.effect, score_in(findings, found.effect.task)
    ends = (math.nan, math.nan) if effect.always_off else effect.ci95  # a spread of nothing is no interval
    low, high = effect.share_better_ci95
    seen = findings.val_examples.get(effect.cell, 0)
    within = f" [{100 * low:.0f}, {100 * high:.0f}]" if theme.known(low) else ""
    with score.written():
        return (
            Entry(cell.label),
            Entry(effect.method, method=effect.method),
            Entry(short_budgets(findings, found.budgets), "+".join(found.budgets)),
            Entry(wording.verdict(effect, found.budgets), effect.verdict, icon=theme.VERDICT_ICONS[effect.verdict]),
            Entry(theme.gain_within(effect.mean, ends), effect.mean),
            *map(number_entry, ends),
            Entry("", score.csv_unit),
            Entry(theme.interval(effect.ci95_new_data), _both(effect.ci95_new_data)),
            Entry(theme.p_value(effect.p_holm), effect.p_holm),
            Entry(theme.p_value(effect.p_max_t), effect.p_max_t),
            Entry(in_epochs(effect.baseline, cell.epochs), effect.baseline),
            Entry(n_words(effect), effect.n),
            Entry(off_words(effect), effect.off),
            Entry(_chosen(effect, seen) if effect.candidates else "–", effect.candidates),
            Entry("", seen or ""),
            Entry(f"{theme.percent(effect.share_better, 0)}{within}", effect.share_better),
            *(
                Entry(theme.points(value), value if theme.known(value) else None)
                for value in (effect.sd, effect.sd_tuning, effect.sd_seed, effect.minimum_detectable)
            ),
            Entry(theme.ratio(effect.cost_ratio), effect.cost_ratio if theme.known(effect.cost_ratio) else None),
        )


def _chosen(effect: Effect, seen: int) -> str:
    """Say from how many sets of weights validation chose, and on how many examples, where that is known: "6 on 400"."""
    return f"{effect.candidates} on {seen:,}" if seen else str(effect.candidates)


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
            at = f" at {' and '.join(budgets)}" if budgets else ""
            return f"{effect.verdict}{at}, {size}"
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
            return f" after correction for {self.families.get((effect.method, effect.budget), 1)} problems"
        if effect.mean > 0:
            return ", not every baseline is beaten"
        return f" after correction for {len(effect.against)} baselines"


def wording_of(findings: Findings) -> Wording:
    """Return how the verdicts of a study are said."""
    return Wording(findings.alpha, families_of(findings))


def baseline_table(findings: Findings, cells: Mapping[str, Cell]) -> Table:
    """Return one row a comparison and baseline: what the method gains over it, tuned on its own."""
    merged = [one for one in _in_order(findings, cells) if one.effect.n]
    rows = []
    for found in merged:
        effect, cell, score = found.effect, cells[found.effect.cell], score_in(findings, found.effect.task)
        with score.written():
            for each in effect.against:
                rows.append(
                    (
                        Entry(cell.label),
                        Entry(effect.method, method=effect.method),
                        Entry(short_budgets(findings, found.budgets), "+".join(found.budgets)),
                        Entry(
                            in_epochs(each.baseline, cell.epochs), each.baseline,
                            method=method_of(each.baseline.partition(",")[0]),
                        ),
                        Entry(score.text(each.baseline_mean), score.measured(each.baseline_mean)),
                        Entry(theme.gain_within(each.mean, each.ci95), each.mean),
                        *map(number_entry, each.ci95),
                        Entry("", score.csv_unit),
                        Entry(str(effect.n), effect.n),
                        Entry(theme.p_value(each.p), each.p if theme.known(each.p) else None),
                        Entry("strongest" if each.baseline == effect.baseline else "–"),
                    )
                )  # fmt: skip
    score = score_of(findings)
    return Table(
        "baselines",
        f"Gain over every baseline in {score.percentage_points}; means over {unit_words(findings)}.",
        (
            Column("Problem", "problem"),
            Column("Method", "method"),
            Column("Budget", "budget"),
            Column("Baseline", "baseline"),
            numeric(f"Its {split_of(findings)}{score.full}", "baseline_score"),
            numeric("Gain [95 % CI]", "gain"),
            *hidden("ci95_low", "ci95_high", "unit"),
            numeric("n", "n"),
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
    return Table(
        "direct",
        f"Methods held against each other at {budget_name(findings, findings.primary_budget)}, in "
        f"{score_of(findings).percentage_points}.",
        (
            Column("Pair", "pair"),
            Column("Problem", "problem"),
            numeric("Gain [95 % CI]", "gain"),
            *hidden("ci95_low", "ci95_high", "unit"),
            numeric("p (Holm)", "p_holm"),
            numeric("n", "n"),
        ),
        tuple(_direct_row(findings, effect, cells) for effect in known),
        tuple(
            i
            for i, effect in enumerate(known)
            if i == 0 or (known[i - 1].method, known[i - 1].baseline) != (effect.method, effect.baseline)
        ),
    )


def _direct_row(findings: Findings, effect: Effect, cells: Mapping[str, Cell]) -> tuple[Entry, ...]:
    score = score_in(findings, effect.task)
    with score.written():
        return (
            Entry(f"{effect.method} − {effect.baseline}"),
            Entry(cells[effect.cell].label),
            Entry(theme.gain_within(effect.mean, effect.ci95), effect.mean),
            *map(number_entry, effect.ci95),
            Entry("", score.csv_unit),
            Entry(theme.p_value(effect.p_holm), effect.p_holm),
            Entry(str(effect.n), effect.n),
        )


def direct_heading(findings: Findings) -> str:
    """State, pair by pair, in how many problems the 95 % interval lies above zero, and in how many below."""
    signs: dict[str, list[int]] = {}
    for effect in findings.direct:
        if effect.n:
            above, below = effect.ci95[0] > 0, effect.ci95[1] < 0
            signs.setdefault(f"{effect.method} − {effect.baseline}", []).append(above - below)
    told = [f"{pair} above zero in {s.count(1)} and below in {s.count(-1)} of {len(s)}" for pair, s in signs.items()]
    return f"Methods against each other, by the 95 % interval: {prose.listed(told)}"


@dataclass(frozen=True, slots=True)
class MatrixEntry:
    """One problem × method under one budget.

    Attributes:
        cell, method: Whose, by name; what the page's address holds.
        verdict: From the closed list, and ``words`` with what belongs to it.
        gain, interval: The mean and its plain 95 % interval, written; ``unit`` stands behind them.
        fine: Holm's p, n where it is not that of all, and how often the method was switched off, in words.
        baseline: The strongest, that the gain is over; "" where nothing was measured, and nothing opens.
    """

    cell: str
    method: str
    verdict: str
    words: str
    gain: str
    interval: str
    unit: str
    fine: str
    baseline: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A problem of the matrix; ``baseline`` is the strongest one where that is the same for all methods, else ""."""

    label: str
    entries: tuple[MatrixEntry, ...]

    @property
    def baseline(self) -> str:
        """The baseline that all gains of the row are over; "" where they differ."""
        over = {entry.baseline for entry in self.entries if entry.baseline}
        return over.pop() if len(over) == 1 else ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The verdicts under one budget: methods across, problems down."""

    budget: str
    name: str
    methods: tuple[str, ...]
    rows: tuple["MatrixRow", ...]


def matrices_of(
    findings: Findings, cells: Mapping[str, Cell], best_at: Mapping[tuple[str, str], float] | None = None
) -> tuple[Matrix, ...]:
    """Return the verdicts under every budget of the study, the primary one first.

    Args:
        findings: What the study found.
        cells: Its problems, under the names that the report gives them.
        best_at: By problem and baseline the epoch that validation prefers there, where that is known.
    """
    budgets = dict.fromkeys([findings.primary_budget, *(effect.budget for effect in findings.effects)])
    wording = wording_of(findings)
    return tuple(
        found
        for budget in budgets
        if (found := _matrix(findings, cells, budget, wording, best_at or {})).methods
    )  # fmt: skip


def _matrix(
    findings: Findings,
    cells: Mapping[str, Cell],
    budget: str,
    wording: "Wording",
    best_at: Mapping[tuple[str, str], float],
) -> Matrix:
    effects = {(e.cell, e.method): e for e in findings.effects if e.budget == budget and e.cell in cells}
    methods = tuple(m for m in findings.methods if any(key[1] == m for key in effects))
    usual = max((effect.n for effect in effects.values()), default=0)

    def entry(name: str, method: str) -> MatrixEntry:
        effect = effects.get((name, method))
        if effect is None or not effect.n:
            return MatrixEntry(name, method, "insufficient data", "not measured", "–", "", "", "", "")
        best = best_at.get((name, effect.baseline))
        return _matrix_entry(findings, effect, wording, usual, in_epochs(effect.baseline, cells[name].epochs, best))

    names = [name for name in cells if any((name, method) in effects for method in methods)]
    return Matrix(
        budget,
        budget_name(findings, budget),
        methods,
        tuple(MatrixRow(cells[name].label, tuple(entry(name, method) for method in methods)) for name in names),
    )


def _matrix_entry(findings: Findings, effect: Effect, wording: "Wording", usual: int, baseline: str) -> MatrixEntry:
    ends = (math.nan, math.nan) if effect.always_off else effect.ci95
    short = effect.n < max(usual, effect.planned)
    fine = [
        *([f"Holm p {theme.p_value(effect.p_holm)}"] if effect.p_holm is not None else []),
        *([f"n = {n_words(effect)}"] if short or effect.apart else []),
        *([off_words(effect)] if effect.off else []),
    ]
    score = score_in(findings, effect.task)
    with score.written():
        return MatrixEntry(
            cell=effect.cell,
            method=effect.method,
            verdict=effect.verdict,
            words=wording.verdict(effect, ()),
            gain=theme.gain(effect.mean),
            interval=theme.interval(ends) if theme.known(ends[0]) else "",
            unit=score.points,
            fine=", ".join(fine),
            baseline=baseline,
        )
