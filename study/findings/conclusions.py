"""Conclusions: from the records of a study, finished or not, to its `Findings`."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from study.findings.across import moderators_of, rules_of, syntheses_of
from study.findings.caveats import caveats_of
from study.findings.content import FINDINGS_VERSION, DeltaStrip, Findings, MethodSummary, RunCounts
from study.findings.evidence import Evidence, gather, mean_known, planned_runs
from study.findings.outcomes import evaluate, literature_of
from study.findings.tuning import importances_of, rho_responses_of, tuning_curves_of
from study.garbage import without_collector
from study.plan.cells import Cell
from study.records import FactorValue, LineRecord, RunRecord
from study.specs.budgets import Budget
from study.specs.contenders import Contender, at_equal_epochs, baselines, contender, others_of
from study.specs.spec import StudySpec
from study.specs.tasks import TEST_PARTS, entry_of
from study.stats import RULES, Arm, Contrast, Effect, compare, judge
from study.stats.effects import verdict
from study.stats.estimates import combined
from study.stats.interactions import FactorInteraction, Interaction, interaction

PRIMARY_METRIC = "test_score"
CORNERS = ("SGD", "SWA", "SAM", "WASAM")  # of the 2×2 whose interaction is reported
DIRECT = (("SAM", "SWA"), ("WASAM", "SAM"), ("WASAM", "SWA"))  # methods that are held against each other
LOSS, CALIBRATION_ERROR = "test_loss", "test_calibration_error"
DELTA_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


@without_collector()
def find(
    spec: StudySpec,
    records: Iterable[RunRecord],
    planned: int | None = None,
    lines: Iterable[LineRecord] = (),
    *,
    extended_from: int = 0,
) -> Findings:
    """Return what a study found. Pure: equal records, in whatever order, give equal findings.

    Args:
        spec: The study.
        records: What is measured so far, all of this spec. Cells without a record do not appear.
        planned: Runs that the plan holds; None counts them.
        lines: Losses along lines between methods' weights, as far as measured.
        extended_from: Replicates that the study had before it was extended; 0 if it was not.

    Raises:
        FindingsError: records of a cell that the spec does not hold.
    """
    records, lines = list(records), tuple(lines)
    evidence = gather(spec, records)
    by_status = Counter[str](record.status for record in records)
    counts = RunCounts(planned_runs(evidence) if planned is None else planned, **by_status)
    effects = _all_tuned_effects(evidence)
    averaging = _averaging_effects(evidence)
    strips = tuple(strip_of(effect, spec.delta_of(effect.task), spec.alpha) for effect in effects)
    tasks = dict.fromkeys(cell.task for cell in evidence.cells)
    return Findings(
        version=FINDINGS_VERSION,
        study=spec.name,
        question=spec.question,
        spec=spec.model_dump(mode="json"),
        spec_hash=spec.hash,
        protocol=spec.protocol,
        verdict_rules={str(name): rule for name, rule in RULES.items()},
        scopes={task: TEST_PARTS[spec.test_part_of(task)] for task in tasks},
        delta=spec.delta,
        deltas={task: spec.delta_of(task) for task in tasks},
        alpha=spec.alpha,
        primary_budget=spec.primary_budget,
        metric=PRIMARY_METRIC,
        methods=spec.methods,
        baseline=next(filter(spec.table.is_baseline, spec.methods)),
        counts=counts,
        summaries=tuple(_summary(evidence, method, effects) for method in others_of(spec)),
        effects=effects,
        direct=_direct_effects(evidence),
        averaging=averaging,
        factor_interactions=_factor_interactions(evidence, effects),
        interactions=_interactions(evidence),
        rho_responses=rho_responses_of(evidence),
        selections=tuple(chosen for tried in evidence.tried.values() for chosen in tried.selections.values()),
        delta_strips=strips,
        caveats=tuple(caveats_of(evidence, counts, effects, strips, extended_from)),
        versions=_versions(records),
        devices=tuple(sorted({record.device for record in records} - {""})),
        descriptive=tuple(_descriptive_effects(evidence)),
        hypotheses=evaluate(evidence, effects, averaging, lines),
        syntheses=syntheses_of(evidence, effects),
        moderators=moderators_of(evidence, effects),
        rules=rules_of(evidence, effects),
        tuning_curves=tuning_curves_of(evidence),
        importances=importances_of(evidence),
        literature=literature_of(evidence, effects, averaging, lines) if counts.finished else (),
        score_names={task: score.name for task, score in evidence.scores.items()},
        scores=evidence.scores,
        pooled=tuple(dict.fromkeys(cell.task for cell in evidence.pooled)),
        val_examples=evidence.val_examples,
    )


def _versions(records: Iterable[RunRecord]) -> dict[str, str]:
    """Return the versions of all packages that measured; several of one package are listed."""
    seen = sorted({pair for record in records for pair in record.versions.items()})
    return {package: ", ".join(v for p, v in seen if p == package) for package, _ in seen}


def _all_tuned_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return the judged effects under every budget of the study, cell by cell within a budget.

    A comparison that is the same under two budgets is judged once, in the primary family, or the same numbers could
    have two verdicts.
    """
    spec = evidence.spec
    judged: dict[tuple[str, str, Budget], Effect] = {}
    for method, budget in itertools.product(others_of(spec), spec.budgets):
        family = [_tuned_effect(evidence, cell, method, budget, PRIMARY_METRIC) for cell in evidence.cells]
        for effect in judge(family, _deltas(evidence), spec.alpha):
            judged[effect.cell, method, budget] = effect
    found = []
    for budget, cell, method in itertools.product(spec.budgets, evidence.cells, others_of(spec)):
        alike = _sides(spec, method, budget) == _sides(spec, method, spec.primary_budget)
        effect = judged[cell.name, method, spec.primary_budget if alike else budget]
        found.append(replace(effect, budget=budget))
    return tuple(found)


def _sides(spec: StudySpec, method: str, budget: Budget) -> tuple[Contender, tuple[Contender, ...]]:
    return contender(spec, method, budget), baselines(spec, method, budget)


def _tuned_effect(evidence: Evidence, cell: Cell, method: str, budget: Budget, metric: str) -> Effect:
    ours, against = _sides(evidence.spec.as_of(cell.task), method, budget)
    tried, held_against = evidence.of(cell.name, ours), [evidence.of(cell.name, one) for one in against]
    families = evidence.spec.table.families
    trained = families[tried.contender.family]
    alike = [one for one in held_against if trained.trains_with(families[one.contender.family])]
    return compared(
        evidence,
        cell,
        ("tuned", method, budget, metric),
        tried.arm(metric),
        [one.arm(metric) for one in held_against],
        off=len(set[int]().union(*(tried.switched_off(one, metric) for one in alike))),
        candidates=max((chosen.candidates for chosen in tried.selections.values()), default=0),
        test_share=_test_share(evidence, cell),
    )


def compared(
    evidence: Evidence,
    cell: Cell,
    what: tuple[Literal["tuned", "direct", "within-run"], str, Budget, str],
    ours: Arm,
    theirs: Sequence[Arm],
    **known: Any,
) -> Effect:
    """Hold two sides of a study against each other, over its units and at its level.

    Args:
        evidence, cell: The study's evidence, and where.
        what: Kind, method, budget and metric, as of `study.stats.Contrast`.
        ours, theirs: The method, and its baselines.
        known: What else `study.stats.compare` is told.
    """
    return compare(
        Contrast(cell.name, cell.task, tuple(evidence.factors_of(cell).items()), *what),
        ours,
        theirs,
        planned=evidence.planned_units,
        confirms=evidence.seeds_a_unit,
        unit="seed" if evidence.spec.one_tuning else "replicate",
        alpha=evidence.spec.alpha,
        **known,
    )


def _test_share(evidence: Evidence, cell: Cell) -> float:
    """Return the test examples of a replicate in those that it trains on, where replicates split the same data."""
    entry = entry_of(cell.task)
    if entry.test != "split" or evidence.spec.protocol == 1:
        return 0.0
    return entry.test_size / int(cell.factors["train_size"])


def _descriptive_effects(evidence: Evidence) -> Iterable[Effect]:
    """Yield the twins of the tuned effects on the loss, and on the calibration error where it is measured at all."""
    spec, metrics = evidence.spec, (LOSS, CALIBRATION_ERROR)
    for metric, budget, cell, method in itertools.product(metrics, spec.budgets, evidence.cells, others_of(spec)):
        effect = _tuned_effect(evidence, cell, method, budget, metric)
        if effect.n or metric == LOSS:
            yield effect


def _direct_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return methods against each other under the primary budget, each pair a Holm family: a description."""
    spec = evidence.spec
    pairs = [pair for pair in DIRECT if {*pair} <= {*spec.methods}]
    families = [[_direct_effect(evidence, cell, *pair) for cell in evidence.cells] for pair in pairs]
    return tuple(effect for family in families for effect in judge(family, _deltas(evidence), spec.alpha))


def _direct_effect(evidence: Evidence, cell: Cell, method: str, other: str) -> Effect:
    spec = evidence.spec.as_of(cell.task)
    budget = spec.primary_budget
    ours, theirs = (
        evidence.of(cell.name, contender(spec, name, budget)).arm(PRIMARY_METRIC) for name in (method, other)
    )
    return compared(evidence, cell, ("direct", method, budget, PRIMARY_METRIC), ours, [theirs])


def _deltas(evidence: Evidence) -> dict[str, float]:
    """Return δ by task."""
    return {cell.task: evidence.spec.delta_of(cell.task) for cell in evidence.cells}


def _averaging_effects(evidence: Evidence) -> tuple[Effect, ...]:
    """Return averaged − last within the runs of each averaging method; their own Holm family.

    A run of a loop tests one set of weights, so there is nothing to compare within it.
    """
    spec = evidence.spec
    averaging = [name for name in spec.methods if spec.table[name].weights != "last"]
    within = [cell for cell in evidence.cells if cell.task not in spec.loops]
    family = [_averaging_effect(evidence, cell, method) for cell in within for method in averaging]
    return judge(family, _deltas(evidence), spec.alpha)


def _averaging_effect(evidence: Evidence, cell: Cell, method: str) -> Effect:
    one = contender(evidence.spec, method, "E")
    tried = evidence.of(cell.name, one)
    averaged, last = (
        Arm(name, tried.scores(PRIMARY_METRIC, kind), 0, tried.statuses()["diverged"], tried.gradient_evaluations())
        for name, kind in ((method, one.entry.weights), (evidence.spec.table.last_of(one.family), "last"))
    )
    return compared(evidence, cell, ("within-run", method, "E", PRIMARY_METRIC), averaged, [last])


def strip_of(effect: Effect, delta: float, alpha: float) -> DeltaStrip:
    """Return the verdict of an effect at multiples of its δ."""
    deltas = [multiple * delta for multiple in DELTA_MULTIPLES]
    verdicts = tuple((other, verdict(effect, other, alpha)) for other in deltas)
    return DeltaStrip(effect.cell, effect.method, effect.budget, verdicts)


def _summary(evidence: Evidence, method: str, effects: Sequence[Effect]) -> MethodSummary:
    """Sort the cells of one method, each into the first list that applies."""
    verdicts: dict[str, dict[str, str]] = {}
    for effect in effects:
        if effect.method == method:
            verdicts.setdefault(effect.cell, {})[effect.budget] = effect.verdict
    places = {cell: _place(evidence.spec, method, by_budget) for cell, by_budget in verdicts.items()}
    ratios = (_cost_ratio(evidence, cell, method) for cell in evidence.cells)
    return MethodSummary.of(method, places, mean_known(ratios))


def _cost_ratio(evidence: Evidence, cell: Cell, method: str) -> float:
    """Return the gradient evaluations of a run ÷ those of the baseline at the cell's epochs; NaN without runs."""
    spec = evidence.spec.as_of(cell.task)
    sides = contender(spec, method, spec.primary_budget), baselines(spec, method, "E")[0]
    ours, theirs = (evidence.of(cell.name, one).gradient_evaluations() for one in sides)
    return ours / theirs if theirs > 0 else math.nan


def _place(spec: StudySpec, method: str, verdicts: Mapping[str, str]) -> str:
    """Return the list that a cell belongs to, from its verdicts by budget."""
    primary = verdicts[spec.primary_budget]
    paid = spec.primary_budget != "E" or spec.table.relative_passes(method) == 1
    if primary == "helps" and paid:
        return "helps"
    if primary == "hurts":
        return "hurts"
    if verdicts.get("E") == "helps":
        return "helps_if_free"
    return "null" if primary == "no material effect" else "undecided"


def _interactions(evidence: Evidence) -> tuple[Interaction, ...]:
    """Return the interaction of mean scores at equal epochs, of the weights that validation preferred, cell by cell."""
    if not set(CORNERS) <= set(evidence.spec.methods):
        return ()
    found = []
    for cell in evidence.cells:
        corners = {method: at_equal_epochs(evidence.spec.as_of(cell.task), method) for method in CORNERS}
        scores = {method: evidence.of(cell.name, one).scores(PRIMARY_METRIC) for method, one in corners.items()}
        found.append(interaction(cell.name, {method: evidence.means(own) for method, own in scores.items()}))
    return tuple(found)


def _factor_interactions(evidence: Evidence, effects: Sequence[Effect]) -> tuple[FactorInteraction, ...]:
    """Return the interaction of the two factors of two levels each that a task's cells cross, method by method."""
    found = []
    primary = [effect for effect in effects if effect.budget == evidence.spec.primary_budget]
    for task, method in itertools.product(dict.fromkeys(e.task for e in primary), others_of(evidence.spec)):
        gains = {effect.factors: effect.gains for effect in primary if (effect.task, effect.method) == (task, method)}
        levels: dict[str, dict[FactorValue, None]] = {}
        for name, value in itertools.chain.from_iterable(gains):
            levels.setdefault(name, {})[value] = None
        if [len(values) for values in levels.values()] == [2, 2]:
            (first, ones), (second, others) = levels.items()
            corners = (((first, one), (second, other)) for one, other in itertools.product(ones, others))
            parts = [(sign, gains.get(corner, {})) for sign, corner in zip((1, -1, -1, 1), corners, strict=True)]
            found.append(
                FactorInteraction(
                    **vars(combined(parts)),
                    task=task,
                    method=method,
                    factors=(first, second),
                    levels=(tuple(ones), tuple(others)),
                )
            )
    return tuple(found)
