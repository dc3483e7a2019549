"""The verdict in tables: every comparison in full, every baseline of each, and methods against each other."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import prose, theme
from dashboards.cells import LabelledCell
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
from dashboards.tables import columns
from dashboards.tables.table import Table
from study.findings import Findings
from study.stats import Effect

MOST_ROWS = 1600  # of comparisons in full; the matrix holds them all
# Columns that a study alone can fill: budgets, what tuning chose, and what its records tell of spread and splits.
_OF_A_STUDY = ("budget", "off", "candidates", "val_examples", "sd_tuning", "sd_seed")


def verdict_table(findings: Findings, cells: Mapping[str, LabelledCell]) -> Table:
    """Return one row a cell, method and budget, the primary budget first; budgets that coincide share a row."""
    wording, rows = wording_of(findings), in_order(findings, cells, findings.effects)
    effects = [one.effect for one in rows]
    scores = [score_in(findings, e.task) for e in effects]
    gains, new = [(e.mean, interval_of(e)) for e in effects], [e.ci95_new_data for e in effects]
    seen = [findings.val_examples.get(e.cell, 0) for e in effects]
    chosen = [_chosen(e, examples) for e, examples in zip(effects, seen, strict=True)]
    for_new_data = columns.intervals(
        "For new data", "ci95_new_data", new, columns.in_units(scores, theme.interval, new)
    )

    def sizes(title: str, name: str) -> columns.Filled:
        found: list[float] = [getattr(e, name) for e in effects]
        return columns.numbers(title, name, found, texts=columns.in_units(scores, theme.points, found))

    return columns.table_of(
        "verdicts",
        f"Gain over the strongest baseline in {score_of(findings).percentage_points}, by problem, method and budget.",
        (
            *who(findings, cells, [(one.effect.cell, one.effect.method, one.budgets) for one in rows]),
            columns.marked(
                "Verdict",
                "verdict",
                [wording.verdict(one.effect, one.budgets) for one in rows],
                [theme.VERDICT_ICONS[e.verdict] for e in effects],
                [e.verdict for e in effects],
            ),
            *columns.estimates("Gain", "gain", gains, texts=columns.gains_in_units(scores, gains)),
            columns.units(scores),
            *(for_new_data if any(theme.known(low) for low, _ in new) else ()),
            columns.numbers("p (Holm)", "p_holm", [e.p_holm for e in effects], theme.p_value),
            columns.numbers("p (joint signs)", "p_max_t", [e.p_max_t for e in effects], theme.p_value),
            columns.words(
                "Over the strongest",
                "baseline",
                [in_epochs(e.baseline, cells[e.cell].epochs) for e in effects],
                [e.baseline for e in effects],
            ),
            columns.counts("n", "n", [e.n for e in effects], list(map(n_words, effects))),
            columns.counts("Switched off", "off", [e.off for e in effects], list(map(off_words, effects))),
            columns.counts("Chosen from", "candidates", [e.candidates for e in effects], chosen),
            columns.hidden("val_examples", [examples or None for examples in seen]),
            *columns.estimates(
                "Better in",
                "share_better",
                [(e.share_better, e.share_better_ci95) for e in effects],
                lambda share: theme.percent(share, 0),
                "share_better_ci95",
            ),
            sizes("sd", "sd"),
            sizes("of tuning", "sd_tuning"),
            sizes("of seeds", "sd_seed"),
            sizes("Detectable", "minimum_detectable"),
            columns.numbers("Cost", "cost_ratio", [e.cost_ratio for e in effects], theme.ratio),
        ),
        groups=[e.cell for e in effects],
        left_out=_OF_A_STUDY if findings.origin else (),
    )


def who(
    findings: Findings, cells: Mapping[str, LabelledCell], rows: Iterable[tuple[str, str, Sequence[str]]]
) -> tuple[columns.Filled, ...]:
    """Return the columns that say which comparison a row is about: of which cell, method and budgets."""
    names, methods, budgets = zip(*rows, strict=True) if (rows := list(rows)) else ((), (), ())
    return (
        columns.words("Problem", "problem", [cells[name].label for name in names]),
        columns.methods("Method", "method", methods),
        columns.words(
            "Budget", "budget", [short_budgets(findings, one) for one in budgets], list(map("+".join, budgets))
        ),
    )


def interval_of(effect: Effect) -> tuple[float, float]:
    """Return the interval of a gain; none where the method was always off, as a spread of nothing is no interval."""
    return (math.nan, math.nan) if effect.always_off else effect.ci95


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


def in_order(findings: Findings, cells: Mapping[str, LabelledCell], effects: Iterable[Effect]) -> list[Distinct]:
    """Return the distinct comparisons by problem and method, the primary budget first."""
    order, methods = list(cells), list(findings.methods)
    known = [one for one in distinct(effects, findings.primary_budget) if one.effect.cell in cells]
    return sorted(known, key=lambda one: (order.index(one.effect.cell), methods.index(one.effect.method)))


def _chosen(effect: Effect, seen: int) -> str:
    """Say from how many sets of weights validation chose, and on how many examples, where that is known: "6 on 400"."""
    if not effect.candidates:
        return "–"
    return f"{effect.candidates} on {seen:,}" if seen else str(effect.candidates)


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


def baseline_table(findings: Findings, cells: Mapping[str, LabelledCell]) -> Table:
    """Return one row a comparison and baseline: what the method gains over it, tuned on its own."""
    rows = [
        (one, each)
        for one in in_order(findings, cells, findings.effects)
        if one.effect.n
        for each in one.effect.against
    ]
    against = [each for _, each in rows]
    scores = [score_in(findings, one.effect.task) for one, _ in rows]
    gains = [(each.mean, each.ci95) for each in against]
    score = score_of(findings)
    return columns.table_of(
        "baselines",
        f"Gain over every baseline in {score.percentage_points}; means over {unit_words(findings)}.",
        (
            *who(findings, cells, [(one.effect.cell, one.effect.method, one.budgets) for one, _ in rows]),
            columns.methods(
                "Baseline",
                "baseline",
                [method_of(each.baseline.partition(",")[0]) for each in against],
                [in_epochs(each.baseline, cells[one.effect.cell].epochs) for one, each in rows],
                [each.baseline for each in against],
            ),
            columns.numbers(
                f"Its {split_of(findings)}{score.full}",
                "baseline_score",
                [own.measured(each.baseline_mean) for own, each in zip(scores, against, strict=True)],
                texts=[own.text(each.baseline_mean) for own, each in zip(scores, against, strict=True)],
            ),
            *columns.estimates("Gain", "gain", gains, texts=columns.gains_in_units(scores, gains)),
            columns.units(scores),
            columns.counts("n", "n", [one.effect.n for one, _ in rows]),
            columns.numbers("p", "p", [each.p for each in against], theme.p_value),
            columns.words(
                "Strongest",
                "strongest",
                ["strongest" if each.baseline == one.effect.baseline else "–" for one, each in rows],
            ),
        ),
        groups=[one.effect.cell for one, _ in rows],
        left_out=_OF_A_STUDY if findings.origin else (),
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


def direct_table(findings: Findings, cells: Mapping[str, LabelledCell]) -> Table:
    """Return methods against each other under the primary budget: one row a pair and problem."""
    known = [effect for effect in findings.direct if effect.n and effect.cell in cells]
    scores = [score_in(findings, effect.task) for effect in known]
    gains, pairs = [(effect.mean, effect.ci95) for effect in known], list(map(_pair, known))
    return columns.table_of(
        "direct",
        f"Methods held against each other at {budget_name(findings, findings.primary_budget)}, in "
        f"{score_of(findings).percentage_points}.",
        (
            columns.words("Pair", "pair", pairs),
            columns.words("Problem", "problem", [cells[effect.cell].label for effect in known]),
            *columns.estimates("Gain", "gain", gains, texts=columns.gains_in_units(scores, gains)),
            columns.units(scores),
            columns.numbers("p (Holm)", "p_holm", [effect.p_holm for effect in known], theme.p_value),
            columns.counts("n", "n", [effect.n for effect in known]),
        ),
        groups=pairs,
    )


def _pair(effect: Effect) -> str:
    return f"{effect.method} − {effect.baseline}"


def direct_heading(findings: Findings) -> str:
    """State, pair by pair, in how many problems the 95 % interval lies above zero, and in how many below."""
    signs: dict[str, list[int]] = {}
    for effect in findings.direct:
        if effect.n:
            above, below = effect.ci95[0] > 0, effect.ci95[1] < 0
            signs.setdefault(_pair(effect), []).append(above - below)
    told = [f"{pair} above zero in {s.count(1)} and below in {s.count(-1)} of {len(s)}" for pair, s in signs.items()]
    return f"Methods against each other, by the 95 % interval: {prose.listed(told)}"
